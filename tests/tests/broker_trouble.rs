//! Brokers in trouble: each trouble is told of once, and what waits goes out when it's over, without a restart.
//!
//! Most tests run a pipeline of each delivery in one process, from the same input. What comes out of the one with
//! transactions is held to the input record by record; of the other one nothing may be lost.

use std::time::Instant;

use weir_tests::{
    Consumed, Denial, MINUTE, Operation, Pipeline, Record, Resource, Scratch, Topic, Weir, broker,
    config, config_at, eventually, seed,
};
use xtask::broker::{Cluster, ClusterOptions};

/// The seed job in both deliveries, from one input.
struct Both {
    scratch: Scratch,
    input: Topic,
    exact: Topic,
    least: Topic,
    pipelines: [Pipeline; 2],
    bootstrap: String,
    produced: usize,
}

impl Both {
    /// On the tests' broker.
    fn new() -> Both {
        Both::between(
            broker().bootstrap(),
            Topic::create(2),
            Topic::create(2),
            Topic::create(2),
        )
    }

    /// On any cluster.
    fn between(bootstrap: &str, input: Topic, exact: Topic, least: Topic) -> Both {
        let pipeline = |name, output| {
            Pipeline::new(name, &input, output)
                .set("workers = 1\nbatch = { records = 50 }")
                .producer("\"linger.ms\" = 10")
                .seed("")
        };
        let pipelines = [
            pipeline("exact", &exact).set("delivery = \"exactly-once\""),
            pipeline("least", &least),
        ];
        Both {
            scratch: Scratch::new(),
            input,
            exact,
            least,
            pipelines,
            bootstrap: bootstrap.to_string(),
            produced: 0,
        }
    }

    fn outputs(&self) -> [&Topic; 2] {
        [&self.exact, &self.least]
    }

    fn start(&self) -> Weir {
        let [exact, least] = &self.pipelines;
        let mut weir = Weir::start(&self.scratch, &config_at(&self.bootstrap, &[exact, least]));
        weir.wait_ready();
        weir
    }

    /// So many more records.
    fn produce(&mut self, count: usize) {
        let numbers = self.produced..self.produced + count;
        self.produced = numbers.end;
        self.input.produce(seed::records(numbers));
    }

    #[track_caller]
    fn wait_done(&self, weir: &mut Weir) {
        for pipeline in &self.pipelines {
            weir.wait_done(&self.input, pipeline.group());
        }
    }

    /// The end of a test: all is done, the process ends well, and nothing is lost, nor twice where nothing may be.
    #[track_caller]
    fn judge(&self, mut weir: Weir) -> String {
        self.wait_done(&mut weir);
        weir.wait_ready();
        assert_eq!(weir.terminate(), Some(0));
        let input = self.input.consume();
        assert_eq!(input.len(), self.produced);
        seed::check(&input, &self.exact.consume());
        seed::replayed_ids(&input, &self.least.consume(), 20);
        weir.log()
    }
}

/// Lines of a log above `INFO`.
fn complaints(log: &str) -> Vec<&str> {
    let bad = |line: &&str| line.contains(" WARN ") || line.contains("ERROR ");
    log.lines().filter(bad).collect()
}

#[track_caller]
fn few_complaints(log: &str, most: usize) {
    let lines = complaints(log);
    assert!(
        lines.len() <= most,
        "{} lines instead of {most}:\n{}",
        lines.len(),
        lines.join("\n")
    );
}

/// Records flow, then something is wrong, which is told, then it isn't any more.
fn survives(
    both: &mut Both,
    denies: impl FnOnce(&Both) -> Vec<Denial>,
    words: &[&str],
    most: usize,
) {
    both.produce(300);
    let mut weir = both.start();
    both.wait_done(&mut weir);
    let denials = denies(both);
    both.produce(300);
    weir.wait_log(words);
    denials.into_iter().for_each(Denial::lift);
    both.produce(300);
    let log = both.judge(weir);
    few_complaints(&log, most);
}

#[test]
fn the_outputs_may_not_be_written() {
    let mut both = Both::new();
    survives(
        &mut both,
        |both| {
            let denial = |it: &Topic| Denial::new(Resource::Topic(it.name()), Operation::Write);
            both.outputs().map(denial).into()
        },
        &["TOPIC_AUTHORIZATION_FAILED", "allow Write"],
        12,
    );
}

#[test]
fn the_input_may_not_be_read() {
    let mut both = Both::new();
    survives(
        &mut both,
        |both| {
            vec![Denial::new(
                Resource::Topic(both.input.name()),
                Operation::Read,
            )]
        },
        &["TOPIC_AUTHORIZATION_FAILED", "Read"],
        12,
    );
}

#[test]
fn the_groups_may_not_be_joined() {
    let mut both = Both::new();
    survives(
        &mut both,
        |both| {
            let denial = |it: &Pipeline| Denial::new(Resource::Group(it.group()), Operation::Read);
            both.pipelines.iter().map(denial).collect()
        },
        &["GROUP_AUTHORIZATION_FAILED"],
        12,
    );
}

#[test]
fn the_transactional_id_may_not_be_used() {
    let mut both = Both::new();
    survives(
        &mut both,
        |both| {
            let ids = format!("weir-{}", both.pipelines[0].group());
            vec![Denial::new(
                Resource::TransactionalIds(&ids),
                Operation::Write,
            )]
        },
        &[
            "TRANSACTIONAL_ID_AUTHORIZATION_FAILED",
            "Write and Describe",
        ],
        12,
    );
}

#[test]
fn outputs_are_deleted_and_made_again() {
    let mut both = Both::new();
    both.produce(300);
    let mut weir = both.start();
    both.wait_done(&mut weir);
    both.outputs().into_iter().for_each(Topic::delete);
    let first = both.produced;
    both.produce(300);
    for output in both.outputs() {
        weir.wait_log(&[&format!("there is no topic \"{output}\"; create it")]);
    }
    weir.wait_not_ready(&["exact: ", "least: "]);
    both.outputs().into_iter().for_each(Topic::create_again);
    both.produce(300);
    both.wait_done(&mut weir);
    weir.wait_ready();
    assert_eq!(weir.terminate(), Some(0));
    let input: Vec<Consumed> = both.input.consume();
    let later: Vec<Consumed> = seed_from(&input, first);
    seed::check(&later, &both.exact.consume());
    seed::replayed_ids(&later, &both.least.consume(), 20);
    few_complaints(&weir.log(), 12);
}

/// Those of the seed's records that were made from `first` on.
fn seed_from(input: &[Consumed], first: usize) -> Vec<Consumed> {
    let start = 1_634_221_557_011 + first as i64;
    let new = |it: &&Consumed| it.timestamp.is_some_and(|time| time >= start);
    input.iter().filter(new).cloned().collect()
}

/// An input is deleted after so many records, which is told, and made again with more; the pipelines stop, and say why.
fn loses_its_input(records: usize, reason: &str) {
    let mut both = Both::new();
    both.produce(records);
    let mut weir = both.start();
    both.wait_done(&mut weir);
    both.input.delete();
    let gone = format!("there is no topic \"{}\"; create it", both.input);
    weir.wait_log(&[&gone]);
    weir.wait_not_ready(&["exact: ", "least: ", &gone]);
    both.input.create_again();
    both.produce(1_000);
    assert_eq!(weir.wait_exit(MINUTE), Some(1));
    let log = weir.log();
    for word in [reason, "weir offsets"] {
        assert!(log.contains(word), "no {word:?} in {log}");
    }
    few_complaints(&log, 8);
}

#[test]
fn an_input_whose_offsets_are_gone_stops_the_pipeline() {
    loses_its_input(300, "made a");
}

#[test]
fn an_input_made_again_stops_the_pipeline_though_its_offsets_are_there() {
    loses_its_input(0, "was deleted and made again");
}

/// A cluster of its own.
fn cluster(brokers: usize) -> (tempfile::TempDir, Cluster) {
    let folder = tempfile::Builder::new()
        .prefix("weir-cluster-")
        .tempdir()
        .unwrap();
    let cluster = Cluster::start(&ClusterOptions {
        folder: folder.path().to_path_buf(),
        brokers,
        remove_folder: true,
    });
    (folder, cluster.unwrap())
}

#[test]
fn brokers_go_and_come_back() {
    let (_folder, mut cluster) = cluster(3);
    let bootstrap = cluster.bootstrap();
    let topic = || Topic::create_at(&bootstrap, 2, &[]);
    let mut both = Both::between(&bootstrap, topic(), topic(), topic());
    both.produce(300);
    let mut weir = both.start();
    both.wait_done(&mut weir);

    // One of three: others lead, and two replicas are in sync where three are wanted.
    for output in both.outputs() {
        output.alter("min.insync.replicas", "3");
    }
    cluster.stop(0).unwrap();
    both.produce(300);
    weir.wait_log(&["nothing was delivered for"]);
    weir.wait_not_ready(&["exact: ", "least: nothing was delivered for"]);
    cluster.restart().unwrap();
    both.wait_done(&mut weir);
    weir.wait_ready();

    // All, for a minute.
    let minute = Instant::now() + MINUTE;
    both.produce(300);
    (0..3).for_each(|broker| cluster.kill(broker).unwrap());
    weir.wait_log(&["ALL_BROKERS_DOWN"]);
    eventually("the end of the minute", MINUTE * 2, || {
        (Instant::now() > minute).then_some(())
    });
    cluster.restart().unwrap();
    both.produce(300);
    let log = both.judge(weir);
    few_complaints(&log, 40);
}

/// Pipelines in both deliveries with dead letters, and what came out of each.
struct Sized {
    input: Topic,
    outputs: [Topic; 2],
    dead: [Topic; 2],
    pipelines: [Pipeline; 2],
}

impl Sized {
    fn new(output_bytes: Option<&str>) -> Sized {
        let input = Topic::create(1);
        let settings = output_bytes.map(|it| ("max.message.bytes", it));
        let outputs = [(); 2].map(|()| Topic::create_with(1, settings.as_slice()));
        let dead = [(); 2].map(|()| Topic::create_for_dead_letters(1));
        let deliveries = ["exactly-once", "at-least-once"];
        let pipelines = [0, 1].map(|it| {
            Pipeline::new(["exact", "least"][it], &input, &outputs[it])
                .set(&format!(
                    "dead_letter = \"{}\"\ndelivery = \"{}\"\nworkers = 1",
                    dead[it], deliveries[it]
                ))
                .transform("grows", "faulty", "")
        });
        Sized {
            input,
            outputs,
            dead,
            pipelines,
        }
    }

    fn start(&self, scratch: &Scratch) -> Weir {
        let [exact, least] = &self.pipelines;
        let mut weir = Weir::start(scratch, &config(&[exact, least]));
        weir.wait_ready();
        weir
    }

    /// Waits for the end, and holds both outputs to the values and the only dead letter.
    fn judge(&self, mut weir: Weir, values: &[String], letter: &str, reason: &[&str]) {
        for pipeline in &self.pipelines {
            weir.wait_done(&self.input, pipeline.group());
        }
        assert_eq!(weir.terminate(), Some(0));
        for (nth, output) in self.outputs.iter().enumerate() {
            let mut found = texts(&output.consume());
            let letters = self.dead[nth].consume();
            let mut dead = texts(&letters);
            if nth == 1 {
                // At least once each.
                let mut seen = std::collections::BTreeSet::new();
                found.retain(|it| seen.insert(it.clone()));
                dead.dedup();
            }
            assert_eq!(found, values);
            assert_eq!(dead, [letter]);
            let header = |name: &str| {
                let (_, value) = letters[0]
                    .headers
                    .iter()
                    .find(|it| it.0 == name.as_bytes())?;
                String::from_utf8(value.clone()?).ok()
            };
            assert_eq!(header("weir.class").as_deref(), Some("output"));
            let why = header("weir.reason").unwrap_or_default();
            for word in reason {
                assert!(why.contains(word), "no {word:?} in {why}");
            }
        }
    }
}

fn texts(records: &[Consumed]) -> Vec<String> {
    let text = |it: &Consumed| String::from_utf8_lossy(it.value.as_deref().unwrap()).into_owned();
    records.iter().map(text).collect()
}

#[test]
fn records_too_large_for_the_output_become_dead_letters() {
    let scratch = Scratch::new();
    let sized = Sized::new(Some("2000"));
    let verbs = ["keep 1", "keep 2", "big:1", "keep 3"];
    let records = verbs.map(|verb| Record::new(None, Some(verb.as_bytes())));
    sized.input.produce(records);
    let weir = sized.start(&scratch);
    let values = ["keep 1", "keep 2", "keep 3"].map(String::from);
    let words = [
        "max.message.bytes",
        "takes 10486",
        "the topic takes 2000",
        "records-too-large-for-the-output",
    ];
    sized.judge(weir, &values, "big:1", &words);
}

#[test]
fn records_too_large_for_an_output_that_takes_less_by_now_become_dead_letters() {
    let scratch = Scratch::new();
    let sized = Sized::new(None);
    let weir = sized.start(&scratch);
    for output in &sized.outputs {
        output.alter("max.message.bytes", "2000");
    }
    // Neighbours are more than that together.
    let mut values: Vec<String> = (0..300).map(|n| format!("keep {n:0>50}")).collect();
    let long = values[150].clone();
    let large = format!("keep {:0>5000}", 150);
    values[150] = large.clone();
    let records: Vec<_> = values
        .iter()
        .map(|it| Record::new(None, Some(it.as_bytes())))
        .collect();
    sized.input.produce(records);
    values.retain(|it| *it != large && *it != long);
    sized.judge(
        weir,
        &values,
        &large,
        &["MSG_SIZE_TOO_LARGE", "max.message.bytes"],
    );
}

#[test]
fn the_dead_letter_topic_may_not_be_written() {
    let scratch = Scratch::new();
    let sized = Sized::new(None);
    let mut weir = sized.start(&scratch);
    let denial = |it: &Topic| Denial::new(Resource::Topic(it.name()), Operation::Write);
    let denials: Vec<Denial> = sized.dead.iter().map(denial).collect();
    let verbs = ["keep 1", "refuse:no", "keep 2"];
    let records = verbs.map(|verb| Record::new(None, Some(verb.as_bytes())));
    sized.input.produce(records);
    weir.wait_log(&["TOPIC_AUTHORIZATION_FAILED", "allow Write"]);
    weir.wait_not_ready(&["exact: ", "least: ", "TOPIC_AUTHORIZATION_FAILED"]);
    denials.into_iter().for_each(Denial::lift);
    for pipeline in &sized.pipelines {
        weir.wait_done(&sized.input, pipeline.group());
    }
    weir.wait_ready();
    assert_eq!(weir.terminate(), Some(0));
    let [exact, least] = sized.outputs.each_ref().map(|it| texts(&it.consume()));
    assert_eq!(exact, ["keep 1", "keep 2"]);
    assert_eq!(least.last().map(String::as_str), Some("keep 2"));
    assert_eq!(texts(&sized.dead[0].consume()), ["refuse:no"]);
    assert_eq!(texts(&sized.dead[1].consume())[0], "refuse:no");
    few_complaints(&weir.log(), 14);
}

#[test]
fn the_dead_letter_topic_is_deleted_and_made_again() {
    let scratch = Scratch::new();
    let sized = Sized::new(None);
    let mut weir = sized.start(&scratch);
    sized.dead.iter().for_each(Topic::delete);
    let verbs = ["keep 1", "refuse:no", "keep 2"];
    let records = verbs.map(|verb| Record::new(None, Some(verb.as_bytes())));
    sized.input.produce(records);
    for dead in &sized.dead {
        weir.wait_log(&[&format!("there is no topic \"{dead}\"; create it")]);
    }
    weir.wait_not_ready(&["exact: ", "least: "]);
    for dead in &sized.dead {
        dead.create_again();
        dead.alter("max.message.bytes", "2097152");
    }
    for pipeline in &sized.pipelines {
        weir.wait_done(&sized.input, pipeline.group());
    }
    weir.wait_ready();
    assert_eq!(weir.terminate(), Some(0));
    let [exact, least] = sized.outputs.each_ref().map(|it| texts(&it.consume()));
    assert_eq!(exact, ["keep 1", "keep 2"]);
    assert_eq!(least.last().map(String::as_str), Some("keep 2"));
    assert_eq!(texts(&sized.dead[0].consume()), ["refuse:no"]);
    assert_eq!(texts(&sized.dead[1].consume())[0], "refuse:no");
    few_complaints(&weir.log(), 14);
}
