//! The rings held to a naive model, over any interleaving of what can happen.

use std::collections::BTreeSet;

use anyhow::anyhow;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;

use super::*;
use crate::chain::IdKeys;
use crate::io::ReadLimit;
use crate::record::Batch;

/// What happens.
#[derive(Clone, Debug)]
enum Act {
    /// Up to so many records are read; so many come out, so many are dead letters.
    Read {
        partition: usize,
        inputs: usize,
        outputs: usize,
        letters: usize,
    },
    /// One of the records on their way comes back.
    Settle(Index, Fate),
    Commit,
    Revoke(usize),
    Assign(usize),
    /// A transaction ends well.
    CommitTransaction,
    /// A transaction is aborted; all that's on its way comes back as failed, at once or late.
    Abort {
        late: bool,
    },
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Fate {
    Delivered,
    Failed,
    Refused,
}

/// A partition as one would write it down without thinking of speed.
struct Model {
    /// The assignment that it's in; deliveries of an earlier one count no more.
    generation: usize,
    assigned: bool,
    slot: u32,
    /// What's read next.
    next: u64,
    /// All below is settled, or was before the assignment.
    start: u64,
    batches: Vec<Sent>,
    committed: u64,
    failed: bool,
}

struct Sent {
    first: u64,
    next: u64,
    pending: usize,
    good: bool,
}

/// A record on its way.
struct OnItsWay {
    tag: u64,
    partition: usize,
    generation: usize,
    batch: usize,
}

struct World {
    partitions: Partitions,
    models: Vec<Model>,
    on_their_way: Vec<OnItsWay>,
    /// Partition and offset of each record of which all came out, in some pass.
    settled: BTreeSet<(usize, u64)>,
}

fn id(partition: usize) -> TopicPartition {
    TopicPartition {
        topic: "in".into(),
        partition: partition as i32,
    }
}

impl Model {
    fn watermark(&self) -> u64 {
        let settled = self.batches.iter();
        let settled = settled.take_while(|it| it.pending == 0 && it.good);
        settled.last().map_or(self.start, |it| it.next)
    }

    /// Starts anew where the group stands, or at another offset.
    fn restart(&mut self, at: u64) {
        self.generation += 1;
        self.batches.clear();
        self.start = at;
        self.next = at;
        self.failed = false;
    }

    fn in_flight(&self) -> bool {
        self.batches.iter().any(|it| it.pending > 0)
    }
}

impl World {
    fn new() -> World {
        let model = |slot| Model {
            generation: 0,
            assigned: false,
            slot,
            next: 0,
            start: 0,
            batches: Vec::new(),
            committed: 0,
            failed: false,
        };
        World {
            partitions: Partitions::default(),
            models: (0..2).map(model).collect(),
            on_their_way: Vec::new(),
            settled: BTreeSet::new(),
        }
    }

    fn act(&mut self, act: &Act) {
        match *act {
            Act::Assign(number) => self.assign(number),
            Act::Revoke(number) => {
                self.models[number].assigned = false;
                self.partitions.remove(&[id(number)]);
            }
            Act::Read {
                partition,
                inputs,
                outputs,
                letters,
            } => self.read(partition, inputs, outputs, letters),
            Act::Settle(at, fate) if !self.on_their_way.is_empty() => {
                let at = at.index(self.on_their_way.len());
                self.settle(at, fate);
            }
            Act::Settle(..) => {}
            Act::Commit => {
                let models = &self.models;
                let stands = |id: &TopicPartition| Some(models[id.partition as usize].next);
                let offsets = self.partitions.take_commits(stands);
                self.committed(&offsets);
            }
            Act::CommitTransaction => self.commit_transaction(),
            Act::Abort { late } => self.abort(late),
        }
    }

    fn assign(&mut self, number: usize) {
        let model = &mut self.models[number];
        if model.assigned {
            return;
        }
        model.restart(model.committed);
        model.assigned = true;
        let partition = Partition::new(id(number), [0; 16], IdKeys::default(), model.committed);
        self.partitions.add(partition);
        let slot = (0..).find(|&slot| {
            let there = self.partitions.get(slot);
            there.is_some_and(|it| it.id == id(number))
        });
        self.models[number].slot = slot.unwrap();
    }

    fn read(&mut self, number: usize, inputs: usize, outputs: usize, letters: usize) {
        let model = &mut self.models[number];
        let partition = self.partitions.get_mut(model.slot);
        let Some(partition) = partition.filter(|_| model.assigned && !model.failed) else {
            return;
        };
        let limit = partition.limit(ReadLimit {
            records: inputs,
            bytes: usize::MAX,
        });
        let mut batch = Batch::new("in".into(), number as i32);
        batch.offsets = (model.next..).take(limit.records).collect();
        batch.timestamps = vec![0; batch.len()];
        batch.keys = batch.offsets.iter().map(|_| None).collect();
        batch.values = batch.keys.clone();
        model.next += batch.len() as u64;
        partition.take_in(batch);
        // Records that were refused alone come alone, and are dead letters.
        while let Some(held) = self
            .partitions
            .get_mut(model.slot)
            .and_then(Partition::take_held)
        {
            let (outputs, letters) = match held.condemned {
                Some(_) => (0, 1),
                None => (outputs, letters),
            };
            let sending = Sending {
                first: held.batch.offsets[0],
                next: held.batch.offsets[held.batch.len() - 1] + 1,
                inputs: held.batch.len(),
                outputs,
                letters,
                bytes: 10,
            };
            let tag = self.partitions.begin(model.slot, sending, Tally::default());
            let batch = model.batches.len();
            model.batches.push(Sent {
                first: sending.first,
                next: sending.next,
                pending: outputs + letters,
                good: true,
            });
            for _ in 0..outputs + letters {
                self.on_their_way.push(OnItsWay {
                    tag,
                    partition: number,
                    generation: model.generation,
                    batch,
                });
            }
            if outputs + letters == 0 {
                let settled = (sending.first..sending.next).map(|offset| (number, offset));
                self.settled.extend(settled);
            }
        }
    }

    fn settle(&mut self, at: usize, fate: Fate) {
        let record = self.on_their_way.swap_remove(at);
        let result = match fate {
            Fate::Delivered => Ok(()),
            Fate::Failed => Err(Undelivered::Failed(anyhow!("no"))),
            Fate::Refused => Err(Undelivered::Refused(anyhow!("never"))),
        };
        self.partitions.settle(record.tag, result);
        let model = &mut self.models[record.partition];
        if !model.assigned || model.generation != record.generation {
            return;
        }
        let batch = &mut model.batches[record.batch];
        batch.pending -= 1;
        if fate != Fate::Delivered {
            batch.good = false;
            model.failed = true;
        }
        let batch = &model.batches[record.batch];
        if batch.pending == 0 && batch.good {
            let settled = (batch.first..batch.next).map(|offset| (record.partition, offset));
            self.settled.extend(settled);
        }
    }

    /// Takes back what failed, as a worker does that delivers at least once.
    fn rewind(&mut self) {
        while let Some((id, offset, _)) = self.partitions.rewind() {
            let model = &mut self.models[id.partition as usize];
            assert!(model.failed && !model.in_flight(), "{id} may go back");
            assert_eq!(
                offset,
                model.watermark(),
                "{id} goes back to what isn't settled"
            );
            model.restart(offset);
        }
        for model in self.models.iter().filter(|it| it.assigned) {
            assert!(!model.failed || model.in_flight(), "a failed one goes back");
        }
    }

    fn committed(&mut self, offsets: &[(TopicPartition, u64)]) {
        for (id, offset) in offsets {
            let number = id.partition as usize;
            let model = &mut self.models[number];
            assert!(model.assigned, "{id} isn't ours");
            assert_eq!(*offset, model.watermark(), "{id}");
            for offset in model.committed..*offset {
                assert!(
                    self.settled.contains(&(number, offset)),
                    "{id}: {offset} is committed, and not settled"
                );
            }
            model.committed = *offset;
        }
        for model in self.models.iter().filter(|it| it.assigned) {
            assert_eq!(
                model.committed,
                model.watermark(),
                "what's settled is committed"
            );
        }
    }

    fn commit_transaction(&mut self) {
        let models = &self.models;
        let stands = |id: &TopicPartition| Some(models[id.partition as usize].next);
        let offsets = self.partitions.ends(stands);
        // Kafka commits once all came back, and none failed.
        if self.partitions.has_failed() {
            return;
        }
        while let Some(at) = self.on_their_way.pop().map(|it| {
            self.on_their_way.push(it);
            self.on_their_way.len() - 1
        }) {
            self.settle(at, Fate::Delivered);
        }
        self.partitions.committed(&offsets);
        self.committed(&offsets);
    }

    fn abort(&mut self, late: bool) {
        if !late {
            while !self.on_their_way.is_empty() {
                self.settle(0, Fate::Failed);
            }
        }
        let again = self.partitions.roll_back(None);
        for (number, model) in self.models.iter_mut().enumerate() {
            if !model.assigned {
                continue;
            }
            let back = again.iter().find(|(it, _)| *it == id(number));
            match back {
                Some((_, offset)) => assert_eq!(*offset, model.committed),
                None => assert_eq!(model.next, model.committed, "nothing was read"),
            }
            model.restart(model.committed);
        }
        assert_eq!(self.partitions.bytes(), 0);
        assert!(!self.partitions.in_flight(None));
    }

    /// All comes back well: nothing may be left over.
    fn end(mut self) {
        while !self.on_their_way.is_empty() {
            self.settle(0, Fate::Delivered);
        }
        self.rewind();
        assert_eq!(self.partitions.bytes(), 0, "the window is empty");
        assert!(!self.partitions.in_flight(None));
        self.act(&Act::Commit);
    }
}

fn partition() -> impl Strategy<Value = usize> {
    0..2usize
}

fn read() -> impl Strategy<Value = Act> {
    (partition(), 1..5usize, 0..5usize, 0..3usize).prop_map(
        |(partition, inputs, outputs, letters)| Act::Read {
            partition,
            inputs,
            outputs,
            letters,
        },
    )
}

fn settle() -> impl Strategy<Value = Act> {
    let fate = prop_oneof![
        20 => Just(Fate::Delivered),
        1 => Just(Fate::Failed),
        1 => Just(Fate::Refused),
    ];
    (any::<Index>(), fate).prop_map(|(at, fate)| Act::Settle(at, fate))
}

fn rebalance() -> impl Strategy<Value = Act> {
    prop_oneof![
        partition().prop_map(Act::Revoke),
        partition().prop_map(Act::Assign)
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2048, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn nothing_unsettled_is_committed(acts in vec(prop_oneof![
        6 => read(),
        20 => settle(),
        3 => Just(Act::Commit),
        1 => rebalance(),
    ], 1..200)) {
        let mut world = World::new();
        world.act(&Act::Assign(0));
        world.act(&Act::Assign(1));
        for act in &acts {
            world.act(act);
            world.rewind();
        }
        world.end();
    }

    #[test]
    fn a_transaction_takes_all_that_was_sent_or_nothing(acts in vec(prop_oneof![
        6 => read(),
        12 => settle(),
        2 => Just(Act::CommitTransaction),
        1 => any::<bool>().prop_map(|late| Act::Abort { late }),
        1 => rebalance(),
    ], 1..200)) {
        let mut world = World::new();
        world.act(&Act::Assign(0));
        world.act(&Act::Assign(1));
        for act in &acts {
            world.act(act);
            // A failure ends the transaction, and so does a rebalance.
            if world.partitions.has_failed() {
                world.act(&Act::Abort { late: false });
            }
        }
        world.act(&Act::Abort { late: true });
    }
}
