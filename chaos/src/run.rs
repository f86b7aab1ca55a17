//! A run: faults one after another, and a judgement at the end.

use std::io::Write;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Error, anyhow};
use rustix::process::Signal;
use xtask::broker::{Cluster, ClusterOptions};

use crate::checker::{Checker, Findings, Seen};
use crate::config::{DEAD_LETTER, GROUP, INPUT, OUTPUT, PIPELINE};
use crate::fleet::Fleet;
use crate::kafka::{Group, Isolation};
use crate::ledger::{Ledger, PARTITIONS};
use crate::plan::{Fault, PROCESSES, Plan, Step};
use crate::report::{self, Recoveries};
use crate::swaps::{Counts, Swaps};
use crate::writer::Writer;
use crate::{Arguments, Delivery, config, kafka};

/// How long it may take until all moves on; what takes longer counts as stuck.
const STUCK: Duration = Duration::from_secs(120);

/// Between two looks at the group.
const PAUSE: Duration = Duration::from_millis(50);

/// The brokers' own topics, which move with the others: offsets and transactions, by the cluster's settings.
const INTERNAL: [(&str, usize); 2] = [("__consumer_offsets", 4), ("__transaction_state", 4)];

/// Everything that is at work.
struct Run {
    start: Instant,
    cluster: Cluster,
    fleet: Fleet,
    writer: Writer,
    group: Group,
    delivery: Delivery,
    swaps: Swaps,
    /// How often leaders have moved.
    moves: usize,
}

/// What is waited for after a fault: that the group passes a record of each partition that was written after it.
struct Recovery {
    since: Instant,
    marks: Vec<i64>,
    took: Option<Duration>,
}

/// Runs and judges; whether all is as promised.
pub fn run(arguments: &Arguments) -> Result<bool, Error> {
    if arguments.plan {
        let plan = Plan::new(arguments.seed, usize::from(arguments.brokers));
        for (number, step) in (1..).zip(plan.take(arguments.faults.min(20))) {
            let next = if step.recovers {
                ""
            } else {
                " the next one follows"
            };
            let swap = step.swap.map_or(String::new(), |it| format!(" {it}"));
            println!("{number:4}  {:50}{swap}{next}", step.fault.to_string());
        }
        return Ok(true);
    }
    let folder = tempfile::Builder::new().prefix("weir-chaos-").tempdir()?;
    let path = folder.path().to_path_buf();
    let result = run_in(arguments, &path);
    if arguments.keep || !matches!(result, Ok(true)) {
        println!("configs, logs and data: {}", folder.keep().display());
    }
    result
}

fn run_in(arguments: &Arguments, folder: &Path) -> Result<bool, Error> {
    println!(
        "seed {}: {:?}, {:?} groups, {} broker(s), {PROCESSES} processes, {} records/s in {PARTITIONS} partitions",
        arguments.seed, arguments.delivery, arguments.membership, arguments.brokers, arguments.rate
    );
    let ledger = Ledger {
        seed: arguments.seed,
        poison: true,
        start: chrono::Utc::now().timestamp_millis(),
        rate: arguments.rate,
    };
    let mut run = start(arguments, ledger, folder)?;
    let mut recoveries = Recoveries::default();
    let mut stuck = Vec::new();
    let time = Duration::from_secs_f64(arguments.minutes * 60.0);
    for step in Plan::new(arguments.seed, usize::from(arguments.brokers)).take(arguments.faults) {
        if run.start.elapsed() >= time {
            break;
        }
        if let Err(why) = run.step(&step, recoveries.count() + 1, &mut recoveries) {
            eprintln!("error: {why:#}");
            stuck.push(format!("{}: {why:#}", step.fault));
            break;
        }
    }
    let Outcome {
        findings,
        mut troubles,
        swaps,
        lost_markers,
    } = run.finish(ledger, &mut stuck)?;
    println!("\n{} faults", recoveries.count());
    print!("{}\n{}", recoveries.table(), report::findings(&findings));
    println!("\nswaps beside the faults: {}", report::swaps(swaps));
    if swaps.made == 0 && swaps.cut_off > 0 {
        troubles.push("no swap was made".to_string());
    }
    for trouble in stuck.iter().chain(&troubles) {
        println!("\n{trouble}");
    }
    if lost_markers > 0 {
        println!(
            "\nbrokers lost markers of transactions {lost_markers} times (KAFKA-20734): what is said of duplicates is said of them"
        );
    }
    let once = arguments.delivery == Delivery::ExactlyOnce;
    let violations = findings.violations(once);
    if violations > 0 {
        println!("\n{}", findings.examples.join("\n"));
    }
    let missing = match arguments.faults {
        usize::MAX => 0,
        faults => faults - recoveries.count(),
    };
    if missing > 0 && stuck.is_empty() {
        println!("\n{missing} faults are missing: there was no time for them, raise --minutes");
    }
    let good = violations == 0 && missing == 0 && stuck.is_empty() && troubles.is_empty();
    println!(
        "\n{}: {violations} violations, {} times stuck, {} troubles with processes",
        if good { "as promised" } else { "BROKEN" },
        stuck.len(),
        troubles.len()
    );
    Ok(good)
}

fn start(arguments: &Arguments, ledger: Ledger, folder: &Path) -> Result<Run, Error> {
    let cluster = Cluster::start(&ClusterOptions {
        folder: folder.join("kafka"),
        brokers: usize::from(arguments.brokers),
        remove_folder: false,
    })?;
    let bootstrap = cluster.bootstrap();
    let topics = [INPUT, OUTPUT, DEAD_LETTER];
    kafka::create_topics(&bootstrap, &topics, PARTITIONS, cluster.brokers())?;
    let program = match &arguments.program {
        Some(program) => program.clone(),
        None => std::env::current_exe()?.with_file_name("weir"),
    };
    let config = config::text(arguments, &bootstrap, &folder.join("data"));
    let mut fleet = Fleet::new(&program, folder, &config, PROCESSES + 1)?;
    for slot in 0..PROCESSES {
        fleet.start(slot)?;
    }
    let group = Group::new(&bootstrap, GROUP, INPUT, PARTITIONS)?;
    let writer = Writer::start(&bootstrap, folder, ledger, arguments.rate)?;
    let mut run = Run {
        start: Instant::now(),
        cluster,
        fleet,
        writer,
        group,
        delivery: arguments.delivery,
        swaps: Swaps::default(),
        moves: 0,
    };
    xtask::wait::eventually("records in every partition", STUCK, || {
        Ok(run.writer.ends().iter().all(|&end| end > 0).then_some(()))
    })?;
    run.recover(run.recovery())?;
    let took = run.start.elapsed().as_secs_f64();
    println!("all partitions move, {took:.1} s after the first start");
    run.start = Instant::now();
    Ok(run)
}

/// What a run comes to.
struct Outcome {
    findings: Findings,
    swaps: Counts,
    lost_markers: usize,
    troubles: Vec<String>,
}

impl Run {
    fn step(
        &mut self,
        step: &Step,
        number: usize,
        recoveries: &mut Recoveries,
    ) -> Result<(), Error> {
        let at = self.start.elapsed().as_secs_f64();
        print!("{number:4} {at:7.1} s  {:50}", step.fault.to_string());
        std::io::stdout().flush()?;
        if let Some(swap) = step.swap {
            self.swaps.begin(swap, &self.fleet);
            thread::sleep(swap.lead);
        }
        let recovery = self.apply(&step.fault)?;
        let took = match step.recovers {
            true => Some(self.recover(recovery)?),
            false => None,
        };
        self.swaps.collect(&self.fleet, step.recovers);
        match took {
            Some(took) => println!(" recovered in {:.1} s", took.as_secs_f64()),
            None => println!(" the next one follows"),
        }
        recoveries.add(step.fault.kind(), took);
        self.quiet(step.quiet, &mut None)
    }

    /// Makes a fault happen, to its end; what has to recover from then on, or from the kill on.
    fn apply(&mut self, fault: &Fault) -> Result<Recovery, Error> {
        if fault.is_of_brokers() {
            kafka::wait_in_sync(&self.cluster.bootstrap())?;
        }
        let mut recovery = None;
        match *fault {
            Fault::Kill { slot, down } => {
                self.fleet.kill(slot)?;
                recovery = Some(self.recovery());
                self.quiet(down, &mut recovery)?;
                self.fleet.start(slot)?;
            }
            Fault::KillAll { down } => {
                let slots = self.fleet.running();
                for &slot in &slots {
                    self.fleet.kill(slot)?;
                }
                self.quiet(down, &mut None)?;
                for &slot in &slots {
                    self.fleet.start(slot)?;
                }
            }
            Fault::Terminate { slot, down } => {
                self.fleet.terminate(slot)?;
                recovery = Some(self.recovery());
                self.quiet(down, &mut recovery)?;
                self.fleet.start(slot)?;
            }
            Fault::Pause { slot, time } | Fault::Freeze { slot, time } => {
                self.fleet.signal(slot, Signal::STOP)?;
                self.quiet(time, &mut None)?;
                self.fleet.signal(slot, Signal::CONT)?;
            }
            Fault::Join { slot } => self.join(slot)?,
            Fault::Leave { slot } => self.fleet.terminate(slot)?,
            Fault::KillBroker { broker, down } => {
                self.cluster.kill(broker)?;
                // The others go on without it; where there's none, nobody can before it's back.
                if self.cluster.brokers() > 1 {
                    recovery = Some(self.recovery());
                }
                self.quiet(down, &mut recovery)?;
                self.restart(&mut recovery)?;
            }
            Fault::RestartBroker { broker } => {
                self.cluster.stop(broker)?;
                if self.cluster.brokers() > 1 {
                    recovery = Some(self.recovery());
                }
                self.restart(&mut recovery)?;
            }
            Fault::SlowBroker {
                broker,
                times,
                time,
            } => {
                for _ in 0..times {
                    self.cluster.pause(broker)?;
                    self.quiet(time, &mut None)?;
                    self.cluster.resume(broker)?;
                    self.quiet(time, &mut None)?;
                }
            }
            Fault::Blackout { down } => {
                for broker in 0..self.cluster.brokers() {
                    self.cluster.kill(broker)?;
                }
                self.quiet(down, &mut None)?;
                self.restart(&mut None)?;
            }
            Fault::MoveLeaders => self.move_leaders()?,
        }
        Ok(recovery.unwrap_or_else(|| self.recovery()))
    }

    fn join(&mut self, slot: usize) -> Result<(), Error> {
        self.fleet.start(slot)?;
        xtask::wait::eventually("/readyz of the process that joins", STUCK, || {
            self.check()?;
            Ok(self.fleet.is_ready(slot).then_some(()))
        })
    }

    fn restart(&mut self, recovery: &mut Option<Recovery>) -> Result<(), Error> {
        let (cluster, group) = (&mut self.cluster, &self.group);
        thread::scope(|scope| {
            let restart = scope.spawn(|| cluster.restart());
            while !restart.is_finished() {
                if let Some(recovery) = recovery {
                    recovery.look(group);
                }
                thread::sleep(PAUSE);
            }
            let restarted = restart.join();
            restarted.unwrap_or_else(|_| Err(anyhow!("the brokers' thread panicked")))
        })
    }

    fn move_leaders(&mut self) -> Result<(), Error> {
        self.moves += 1;
        let own = [INPUT, OUTPUT, DEAD_LETTER].map(|topic| (topic, PARTITIONS));
        let [offsets, transactions] = INTERNAL;
        let mut topics = own.to_vec();
        topics.push(offsets);
        if self.delivery == Delivery::ExactlyOnce {
            topics.push(transactions);
        }
        self.cluster.move_leaders(&topics, self.moves)
    }

    /// An error if a process or the ledger's producer has ended by itself.
    fn check(&mut self) -> Result<(), Error> {
        self.writer.check()?;
        self.fleet.check()
    }

    /// Lets time go by, and looks at what recovers meanwhile.
    fn quiet(&mut self, time: Duration, recovery: &mut Option<Recovery>) -> Result<(), Error> {
        let end = Instant::now() + time;
        loop {
            if let Some(recovery) = recovery {
                recovery.look(&self.group);
            }
            self.check()?;
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(());
            }
            thread::sleep(left.min(PAUSE));
        }
    }

    /// What has to recover from now on.
    fn recovery(&self) -> Recovery {
        Recovery {
            since: Instant::now(),
            marks: self.writer.ends().iter().map(|end| end + 1).collect(),
            took: None,
        }
    }

    fn recover(&mut self, mut recovery: Recovery) -> Result<Duration, Error> {
        let what = "records that were written after the fault are processed in all partitions";
        xtask::wait::eventually(what, STUCK, || {
            self.check()?;
            recovery.look(&self.group);
            Ok(recovery.took)
        })
        .with_context(|| {
            format!(
                "stuck: the group is at {:?}, and {:?} was to be passed",
                self.group.committed(),
                recovery.marks
            )
        })
    }

    /// Lets all come out, ends the processes, and judges.
    fn finish(self, ledger: Ledger, stuck: &mut Vec<String>) -> Result<Outcome, Error> {
        let Run {
            cluster,
            mut fleet,
            writer,
            group,
            delivery,
            mut swaps,
            ..
        } = self;
        let bootstrap = cluster.bootstrap();
        let count = writer.finish()?;
        println!("{count} records are in; waiting until all are through");
        let ends = kafka::ends(&bootstrap, INPUT, PARTITIONS)?;
        let through = xtask::wait::eventually("all records are through", STUCK, || {
            fleet.check()?;
            Ok((group.committed().as_ref() == Some(&ends)).then_some(()))
        });
        if let Err(why) = through {
            stuck.push(format!(
                "{why:#}: the group is at {:?}, and the input's ends are {ends:?}",
                group.committed()
            ));
        }
        swaps.collect(&fleet, true);
        for slot in fleet.running() {
            fleet.terminate(slot)?;
        }
        let isolation = match delivery {
            Delivery::AtLeastOnce => Isolation::Uncommitted,
            Delivery::ExactlyOnce => Isolation::Committed,
        };
        if delivery == Delivery::ExactlyOnce {
            for topic in [OUTPUT, DEAD_LETTER] {
                kafka::wait_transactions_end(&bootstrap, topic, PARTITIONS)?;
            }
        }
        let mut checker = Checker::new(ledger, count, PIPELINE, INPUT);
        kafka::read(
            &bootstrap,
            INPUT,
            PARTITIONS,
            Isolation::Uncommitted,
            |it| checker.input(&Seen::new(it)),
        )?;
        kafka::read(&bootstrap, OUTPUT, PARTITIONS, isolation, |it| {
            checker.output(&Seen::new(it));
            Ok(())
        })?;
        kafka::read(&bootstrap, DEAD_LETTER, PARTITIONS, isolation, |it| {
            checker.dead(&Seen::new(it));
            Ok(())
        })?;
        Ok(Outcome {
            findings: checker.finish()?,
            lost_markers: cluster.lost_markers()?,
            troubles: [fleet.troubles(), &swaps.troubles].concat(),
            swaps: swaps.counts,
        })
    }
}

impl Recovery {
    fn look(&mut self, group: &Group) {
        if self.took.is_some() {
            return;
        }
        let Some(committed) = group.committed() else {
            return;
        };
        if committed
            .iter()
            .zip(&self.marks)
            .all(|(at, mark)| at >= mark)
        {
            self.took = Some(self.since.elapsed());
        }
    }
}
