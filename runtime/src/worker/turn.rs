//! The swap, on the worker's side: another chain, between two batches and between two transactions.

use std::time::Instant;

use tracing::debug;

use super::Worker;
use super::control::{Next, Taken};
use super::transaction::Transaction;
use crate::chain::Chain;
use crate::io::{Sink, Source};

impl<S: Source, K: Sink> Worker<S, K> {
    /// Takes a chain up that was published, unless a transaction is open: it's taken at its end.
    pub(super) fn take_up(&mut self) {
        let published = self.control.published();
        if published == self.published
            || self.transaction.as_ref().is_some_and(Transaction::is_begun)
        {
            return;
        }
        self.published = published;
        self.control.set_chain_of(published);
        // None for a worker that was started with the chain that was published.
        if let Some(next) = self.control.take_next(published) {
            self.turn_to(*next);
        }
    }

    fn turn_to(&mut self, next: Next) {
        let began = Instant::now();
        let Next {
            mut chain,
            rules,
            counters,
            taken,
            ..
        } = next;
        chain.inherit(&mut self.chain);
        let cluster = &self.settings.cluster;
        if !chain.has_ids_of(&self.chain) {
            self.partitions.each(|it| {
                let (topic, partition) = (&it.id.topic, it.id.partition);
                it.keys = chain.id_keys(cluster, &it.topic_id, topic, partition);
            });
        }
        self.failures.turn(&chain, &rules);
        self.settings.rules = rules;
        self.counters = counters;
        let mut before = std::mem::replace(&mut self.chain, chain);
        let pause = began.elapsed();
        let (pipeline, worker) = (&self.settings.pipeline, self.settings.worker);
        debug!(pipeline, worker, ?pause, "another chain");
        for taken in taken {
            let before = std::mem::replace(&mut before, Chain::of(Vec::new()));
            // Nobody waits any more if the process stops; the old guests are thrown away here then.
            let _ = taken.send(Taken { pause, before });
        }
    }
}
