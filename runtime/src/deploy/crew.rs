//! How a chain gets to the workers.

use std::sync::Arc;

use anyhow::Result;
use tokio::sync::oneshot;

use super::{Deployment, State};
use crate::chain::{Chain, Step, Version};
use crate::config;
use crate::guest::Guest;
use crate::metrics::Counters;
use crate::worker::{Control, Next, Rules, Taken};

/// What a worker starts with.
pub struct Enlisted {
    /// Its chain, with a guest for each version.
    pub chain: Chain,
    /// What becomes of records that a transform fails on.
    pub rules: Vec<Rules>,
    /// What it counts.
    pub counters: Counters,
}

/// Guests that were started for a change, by their version.
pub(super) type Guests = Vec<(Arc<Version>, Vec<Guest>)>;

/// Workers that have yet to take a chain up.
pub(super) type Waiting = Vec<(usize, oneshot::Receiver<Taken>)>;

impl Deployment {
    /// Takes a worker on: what it's to start with, and from now on what is published.
    pub fn enlist(&self, number: usize, control: &Arc<Control>) -> Result<Enlisted> {
        loop {
            let (before, mut chain) = {
                let state = self.state();
                (self.shared.next(), state.chain(&mut Vec::new()))
            };
            chain.start_guests(&mut |version, took| {
                self.metrics.guest_started(&self.pipeline, version, took);
            })?;
            let mut state = self.state();
            // Published meanwhile: what was started is of no use.
            if self.shared.next() != before {
                continue;
            }
            state.crew.retain(|(it, _)| *it != number);
            state.crew.push((number, control.clone()));
            control.set_chain_of(before - 1);
            return Ok(Enlisted {
                counters: self.metrics.counters(&self.pipeline, &chain),
                rules: state.rules(),
                chain,
            });
        }
    }

    /// A worker has ended.
    pub fn discharge(&self, number: usize) {
        self.state().crew.retain(|(it, _)| *it != number);
    }

    /// Has all workers take up what the state says. `guests` are those of versions that they don't run yet.
    pub(super) fn publish(&self, state: &State, mut guests: Guests) -> Waiting {
        let publication = self.shared.next();
        let mut waiting = Vec::new();
        for (number, control) in &state.crew {
            let (taken, told) = oneshot::channel();
            let chain = state.chain(&mut guests);
            control.set_next(Next {
                publication,
                counters: self.metrics.counters(&self.pipeline, &chain),
                rules: state.rules(),
                chain,
                taken: vec![taken],
            });
            waiting.push((*number, told));
        }
        self.shared.publish();
        state.crew.iter().for_each(|(_, control)| control.wake());
        waiting
    }
}

impl Deployment {
    /// Has the metrics show which versions run.
    pub(super) fn show_versions(&self) {
        let roles = self.state().roles();
        self.show(roles);
    }

    /// Has the metrics show that none runs any more.
    pub fn hide_versions(&self) {
        self.show(Vec::new());
    }

    fn show(&self, roles: Vec<(Arc<Version>, &'static str)>) {
        let mut state = self.state();
        let shown = std::mem::replace(&mut state.shown, roles.clone());
        drop(state);
        self.metrics.versions(&self.pipeline, &shown, false);
        self.metrics.versions(&self.pipeline, &roles, true);
    }
}

impl State {
    /// A worker's chain. Where `guests` has none of a version, the worker has one already.
    fn chain(&self, guests: &mut Guests) -> Chain {
        let mut guest = |version: &Arc<Version>| {
            let of = guests.iter_mut().find(|(it, _)| Arc::ptr_eq(it, version));
            of.and_then(|(_, guests)| guests.pop())
        };
        let steps = self.transforms.iter().map(|it| {
            let mut step = Step::new(it.active.clone(), guest(&it.active));
            if let Some((share, version)) = &it.canary {
                step = step.with_canary(*share, version.clone(), guest(version));
            }
            match &it.shadow {
                Some((_, shadow)) => step.with_tap(shadow.tap()),
                None => step,
            }
        });
        Chain::of(steps.collect())
    }

    fn rules(&self) -> Vec<Rules> {
        self.transforms.iter().map(|it| rules(&it.config)).collect()
    }
}

fn rules(transform: &config::Transform) -> Rules {
    Rules {
        on_refused: transform.on_refused,
        on_broken: transform.on_broken,
        retries: transform.retries,
        max_refused: transform.max_refused,
    }
}
