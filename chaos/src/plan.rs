//! Which faults happen, in which order: all of it follows from the seed.

use std::fmt;
use std::time::Duration;

use crate::dice::Dice;

/// One more process than these are in the group at times, and one less at others.
pub const PROCESSES: usize = 3;

/// What a process has until the group gives its partitions to others.
pub const SESSION_TIMEOUT: Duration = Duration::from_secs(6);

/// Something that goes wrong, or is done to the processes on purpose. Slots and brokers count from 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// A process is killed, and comes back.
    Kill {
        /// Which.
        slot: usize,
        /// How long it's away.
        down: Duration,
    },
    /// All processes are killed at once, and come back.
    KillAll {
        /// How long they're away.
        down: Duration,
    },
    /// A process is asked to end, and comes back.
    Terminate {
        /// Which.
        slot: usize,
        /// How long it's away.
        down: Duration,
    },
    /// A process stands still for a while that the group doesn't notice.
    Pause {
        /// Which.
        slot: usize,
        /// For how long.
        time: Duration,
    },
    /// A process stands still until the group has given it up, and goes on then.
    Freeze {
        /// Which.
        slot: usize,
        /// For how long.
        time: Duration,
    },
    /// One more process.
    Join {
        /// Which.
        slot: usize,
    },
    /// A process is asked to end, and stays away.
    Leave {
        /// Which.
        slot: usize,
    },
    /// A broker is killed, and comes back.
    KillBroker {
        /// Which.
        broker: usize,
        /// How long it's away, beside its start.
        down: Duration,
    },
    /// A broker is asked to end, and comes back.
    RestartBroker {
        /// Which.
        broker: usize,
    },
    /// A broker stands still several times, with as much time between.
    SlowBroker {
        /// Which.
        broker: usize,
        /// How often.
        times: u64,
        /// For how long.
        time: Duration,
    },
    /// All brokers are killed at once, and come back.
    Blackout {
        /// How long they're away, beside their start.
        down: Duration,
    },
    /// Partitions and coordinators move to other brokers.
    MoveLeaders,
}

impl Fault {
    /// What the table counts it as.
    pub fn kind(&self) -> &'static str {
        match self {
            Fault::Kill { .. } => "process: kill -9",
            Fault::KillAll { .. } => "all processes: kill -9",
            Fault::Terminate { .. } => "process: SIGTERM, start",
            Fault::Pause { .. } => "process: SIGSTOP, short",
            Fault::Freeze { .. } => "process: SIGSTOP, zombie",
            Fault::Join { .. } => "process joins",
            Fault::Leave { .. } => "process leaves",
            Fault::KillBroker { .. } => "broker: kill -9",
            Fault::RestartBroker { .. } => "broker: SIGTERM, start",
            Fault::SlowBroker { .. } => "broker: slow",
            Fault::Blackout { .. } => "all brokers: kill -9",
            Fault::MoveLeaders => "leaders move",
        }
    }

    /// The process that it's about, if it's one.
    fn slot(&self) -> Option<usize> {
        match *self {
            Fault::Kill { slot, .. }
            | Fault::Terminate { slot, .. }
            | Fault::Pause { slot, .. }
            | Fault::Freeze { slot, .. }
            | Fault::Join { slot }
            | Fault::Leave { slot } => Some(slot),
            _ => None,
        }
    }

    /// Whether it takes partitions from brokers.
    pub fn is_of_brokers(&self) -> bool {
        matches!(
            self,
            Fault::KillBroker { .. }
                | Fault::RestartBroker { .. }
                | Fault::Blackout { .. }
                | Fault::MoveLeaders
        )
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = self.kind();
        match self {
            Fault::Kill { slot, down } | Fault::Terminate { slot, down } => {
                write!(f, "{kind} ({slot}, {down:.1?})")
            }
            Fault::Pause { slot, time } | Fault::Freeze { slot, time } => {
                write!(f, "{kind} ({slot}, {time:.1?})")
            }
            Fault::Join { slot } | Fault::Leave { slot } => write!(f, "{kind} ({slot})"),
            Fault::KillBroker { broker, down } => write!(f, "{kind} ({broker}, {down:.1?})"),
            Fault::RestartBroker { broker } => write!(f, "{kind} ({broker})"),
            Fault::SlowBroker {
                broker,
                times,
                time,
            } => write!(f, "{kind} ({broker}, {times} x {time:.1?})"),
            Fault::KillAll { down } | Fault::Blackout { down } => write!(f, "{kind} ({down:.1?})"),
            Fault::MoveLeaders => f.write_str(kind),
        }
    }
}

/// A version of a transform that does what the one before it does comes to a process while a fault happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Swap {
    /// Which process.
    pub slot: usize,
    /// How long before the fault it's begun.
    pub lead: Duration,
    /// How it comes.
    pub way: Way,
}

/// How a version comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// At once.
    Active,
    /// For a half of the keys, and then for all.
    Canary,
    /// As a shadow first.
    Shadow,
}

impl fmt::Display for Swap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let way = match self.way {
            Way::Active => "swap",
            Way::Canary => "swap by canary",
            Way::Shadow => "swap by shadow",
        };
        write!(f, "{way} ({}, {:.0?} before)", self.slot, self.lead)
    }
}

/// A fault, and what comes between it and the next one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// What happens.
    pub fault: Fault,
    /// What is swapped meanwhile.
    pub swap: Option<Swap>,
    /// Whether the next one waits until all has recovered from this one.
    pub recovers: bool,
    /// How long it's quiet after that.
    pub quiet: Duration,
}

/// The faults of a seed, without end.
#[derive(Clone, Debug)]
pub struct Plan {
    dice: Dice,
    /// Of their own, so that a seed's faults are the same with swaps and without.
    swaps: Dice,
    brokers: usize,
    /// The slots whose processes run, between two faults.
    running: Vec<usize>,
}

impl Plan {
    /// The plan for so many brokers. It begins with the processes of the first [`PROCESSES`] slots, and uses one more
    /// slot.
    pub fn new(seed: u64, brokers: usize) -> Plan {
        Plan {
            dice: Dice::nth(seed, u64::MAX),
            swaps: Dice::nth(seed, u64::MAX - 1),
            brokers,
            running: (0..PROCESSES).collect(),
        }
    }

    fn fault(&mut self) -> Fault {
        loop {
            let dice = &mut self.dice;
            let nth = dice.below(self.running.len() as u64) as usize;
            let slot = self.running[nth];
            let broker = dice.below(self.brokers as u64) as usize;
            let mut milliseconds = |start, end| Duration::from_millis(dice.between(start, end));
            let short = milliseconds(100, 3_000);
            let long = milliseconds(1_000, 10_000);
            let zombie = SESSION_TIMEOUT + milliseconds(500, 6_000);
            return match dice.below(100) {
                0..20 => Fault::Kill { slot, down: short },
                20..25 => Fault::KillAll { down: short },
                25..37 => Fault::Terminate { slot, down: short },
                37..44 => Fault::Pause { slot, time: short },
                44..58 => Fault::Freeze { slot, time: zombie },
                58..72 => match self.running.len() {
                    len if len > PROCESSES => Fault::Leave { slot },
                    len if len < PROCESSES || slot.is_multiple_of(2) => Fault::Join {
                        slot: (0..)
                            .find(|it| !self.running.contains(it))
                            .unwrap_or_default(),
                    },
                    _ => Fault::Leave { slot },
                },
                72..80 => Fault::KillBroker { broker, down: long },
                // A broker that hands its partitions over to nobody goes on without them until it ends, and loses markers
                // of transactions then (KAFKA-20734).
                80..84 if self.brokers == 1 => continue,
                80..84 => Fault::RestartBroker { broker },
                84..90 => Fault::SlowBroker {
                    broker,
                    times: dice.between(1, 4),
                    time: short,
                },
                90..93 => Fault::Blackout { down: long },
                _ if self.brokers == 1 => continue,
                _ => Fault::MoveLeaders,
            };
        }
    }

    /// Two of three faults have one beside them, of a process that runs before the fault: half of the time of the one
    /// that the fault is about.
    fn swap(&mut self, fault: &Fault) -> Option<Swap> {
        let dice = &mut self.swaps;
        let nth = dice.below(self.running.len() as u64) as usize;
        let of_fault = fault.slot().filter(|it| self.running.contains(it));
        let same = dice.once_in(2);
        let swap = Swap {
            slot: of_fault.filter(|_| same).unwrap_or(self.running[nth]),
            // About as long as a swap takes: some are cut off half way through.
            lead: Duration::from_millis(dice.below(150)),
            way: match dice.below(4) {
                0 => Way::Canary,
                1 => Way::Shadow,
                _ => Way::Active,
            },
        };
        (!dice.once_in(3)).then_some(swap)
    }
}

impl Iterator for Plan {
    type Item = Step;

    fn next(&mut self) -> Option<Step> {
        let fault = self.fault();
        let swap = self.swap(&fault);
        match fault {
            Fault::Join { slot } => self.running.push(slot),
            Fault::Leave { slot } => self.running.retain(|&it| it != slot),
            _ => {}
        }
        Some(Step {
            fault,
            swap,
            // Now and then the next one comes into the middle.
            recovers: !self.dice.once_in(5),
            quiet: Duration::from_millis(self.dice.between(100, 2_000)),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn steps(seed: u64, brokers: usize) -> Vec<Step> {
        Plan::new(seed, brokers).take(500).collect()
    }

    #[test]
    fn a_seed_makes_the_same_faults() {
        assert_eq!(steps(1, 3), steps(1, 3));
        assert_ne!(steps(1, 3), steps(2, 3));
    }

    #[test]
    fn every_kind_comes_and_only_what_can_happen() {
        for (brokers, kinds) in [(1, 10), (3, 12)] {
            let mut running: BTreeSet<usize> = (0..PROCESSES).collect();
            let (mut seen, mut ways) = (BTreeSet::new(), BTreeSet::new());
            for step in steps(3, brokers) {
                seen.insert(step.fault.kind());
                if let Some(swap) = step.swap {
                    assert!(running.contains(&swap.slot));
                    ways.insert(format!("{:?}", swap.way));
                }
                match step.fault {
                    Fault::Join { slot } => assert!(running.insert(slot) && slot <= PROCESSES),
                    Fault::Leave { slot } => assert!(running.remove(&slot)),
                    Fault::Kill { slot, .. }
                    | Fault::Terminate { slot, .. }
                    | Fault::Pause { slot, .. }
                    | Fault::Freeze { slot, .. } => assert!(running.contains(&slot)),
                    Fault::KillBroker { broker, .. }
                    | Fault::RestartBroker { broker }
                    | Fault::SlowBroker { broker, .. } => assert!(broker < brokers),
                    _ => {}
                }
                assert!((PROCESSES - 1..=PROCESSES + 1).contains(&running.len()));
            }
            assert_eq!(seen.len(), kinds, "{seen:?}");
            assert_eq!(ways.len(), 3, "{ways:?}");
        }
    }
}
