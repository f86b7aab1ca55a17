//! A running guest: a store and an instance, kept across batches and thrown away after the first fault.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use anyhow::ensure;
use rustix::time::{ClockId, clock_gettime};
use wasmtime::{Store, UpdateDeadline, WasmCoreDump};

use super::bindings::{self, Transform, TransformPre};
use super::check::{Output, check};
use super::fault::Fault;
use super::host::Host;
use super::limits::{Exceeded, Limit, Limits, Watch};
use super::log::{Allowance, MAX_TEXT, one_line};
use super::module::{Description, Module};
use crate::record::{Batch, Column, TimestampType};

/// What a guest is set up with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setup {
    /// The transform's config, a JSON object as text.
    pub config: String,
    /// The names of the pipeline's outputs, the default first.
    pub outputs: Vec<String>,
}

/// The columns that a guest reads under its config.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Needs {
    /// The keys.
    pub keys: bool,
    /// The values.
    pub values: bool,
    /// The headers.
    pub headers: bool,
    /// The timestamps and their types.
    pub timestamps: bool,
    /// The offsets and ordinals.
    pub positions: bool,
}

/// What a guest's store holds.
pub(super) struct State {
    watch: Watch,
    limits: Limits,
    deadline: Deadline,
    /// The thread's CPU time when the running call was first looked at.
    started: Option<Duration>,
}

/// What the running call may use of the thread's CPU time, and by which limit.
#[derive(Clone, Copy)]
struct Deadline {
    allowed: Duration,
    limit: Limit,
}

/// A guest that took its config.
pub struct Guest {
    module: Module,
    /// Empty after a fault: what broke is never entered again.
    live: Option<Live>,
    needs: Needs,
    outputs: usize,
    limits: Limits,
}

struct Live {
    store: Store<State>,
    instance: Transform,
}

impl Guest {
    /// Instantiates a module and gives it its config. The error says why it was refused.
    pub fn new(module: &Module, setup: &Setup, limits: &Limits) -> Result<Guest, anyhow::Error> {
        ensure!(
            setup.config.len() <= limits.max_config_bytes,
            "its config has {} bytes as JSON, and `max_config_bytes` allows {}; raise it, or make the config smaller",
            setup.config.len(),
            limits.max_config_bytes
        );
        let (mut live, ()) = Live::start(
            module.host(),
            module.pre(),
            limits,
            module.memory().clone(),
            |_, _| Ok(()),
        )
        .map_err(|fault| anyhow::anyhow!("it doesn't start: {fault}"))?;
        let outputs: Vec<&str> = setup.outputs.iter().map(String::as_str).collect();
        let needs = live
            .call(Deadline::of(limits), |store, instance| {
                let setup = bindings::Setup {
                    config: &setup.config,
                    outputs: &outputs,
                };
                instance.weir_transform_guest().call_init(store, setup)
            })
            .map_err(|fault| anyhow::anyhow!("given its config, {fault}"))?
            .map_err(|why| anyhow::anyhow!("it refuses its config: {}", one_line(&why)))?;
        Ok(Guest {
            module: module.clone(),
            live: Some(live),
            needs: Needs {
                keys: needs.contains(bindings::Needs::KEYS),
                values: needs.contains(bindings::Needs::VALUES),
                headers: needs.contains(bindings::Needs::HEADERS),
                timestamps: needs.contains(bindings::Needs::TIMESTAMPS),
                positions: needs.contains(bindings::Needs::POSITIONS),
            },
            outputs: setup.outputs.len(),
            limits: *limits,
        })
    }

    /// The columns that the guest reads.
    pub fn needs(&self) -> Needs {
        self.needs
    }

    /// Whether the guest can be called; not any more after a fault.
    pub fn is_live(&self) -> bool {
        self.live.is_some()
    }

    /// Transforms a batch within `deadline` ([`Limits::deadline_for`]), or within `record_deadline` if one input record is
    /// all that's in it. After a fault the guest is dead, and a new one must be made.
    pub fn transform(
        &mut self,
        batch: &Batch,
        id_key: &[u8; 32],
        deadline: Duration,
    ) -> Result<Output, Fault> {
        let Some(mut live) = self.live.take() else {
            return Err(Fault::Error(
                "it broke before and can't be called again".into(),
            ));
        };
        let columns = Columns::of(batch, self.needs);
        let deadline = Deadline::for_batch(batch, deadline, &self.limits);
        let returned = live.call(deadline, |store, instance| {
            let batch = columns.lend(batch, id_key, self.needs);
            instance.weir_transform_guest().call_transform(store, batch)
        })?;
        let output = returned.map_err(|why| Fault::Error(one_line(&why)))?;
        let allowance = match output.logs.levels.len() {
            0 => Allowance::default(),
            lines => self.module.may_log(lines, self.limits.max_log_lines),
        };
        let output = check(output, batch, self.outputs, &self.limits, &allowance)?;
        self.live = Some(live);
        Ok(output)
    }
}

impl Deadline {
    /// That of a call without records.
    fn of(limits: &Limits) -> Deadline {
        Deadline {
            allowed: limits.deadline,
            limit: Limit::Deadline,
        }
    }

    fn for_batch(batch: &Batch, allowed: Duration, limits: &Limits) -> Deadline {
        // Offsets never decrease.
        let alone = batch.offsets.first() == batch.offsets.last();
        match alone || allowed == limits.record_deadline {
            true => Deadline {
                allowed: limits.record_deadline,
                limit: Limit::RecordDeadline,
            },
            false => Deadline {
                allowed,
                limit: Limit::Deadline,
            },
        }
    }
}

/// Asks a module what it is.
pub(super) fn describe(
    host: &Host,
    pre: &TransformPre<State>,
    limits: &Limits,
) -> Result<Description, Fault> {
    let (_, description) = Live::start(host, pre, limits, Arc::default(), |store, instance| {
        instance.weir_transform_guest().call_describe(store)
    })?;
    Ok(Description {
        name: one_line(&description.name),
        version: one_line(&description.version),
        summary: one_line(&description.summary),
        config_schema: description.config_schema,
    })
}

impl Live {
    /// Instantiates, and makes a first call under the same limits.
    fn start<R>(
        host: &Host,
        pre: &TransformPre<State>,
        limits: &Limits,
        memory: Arc<AtomicU64>,
        first: impl FnOnce(&mut Store<State>, &Transform) -> wasmtime::Result<R>,
    ) -> Result<(Live, R), Fault> {
        let state = State {
            watch: Watch::new(limits, memory),
            limits: *limits,
            deadline: Deadline::of(limits),
            started: None,
        };
        let mut store = Store::new(host.engine(), state);
        store.limiter(|state| &mut state.watch);
        // The slack is for the columns of numbers, of which a record has at most 16.
        store.set_hostcall_fuel(
            limits.max_output_bytes + limits.max_output_records * 64 + (1 << 20),
        );
        store.epoch_deadline_callback(|mut store| {
            let state = store.data_mut();
            let now = thread_cpu_time();
            let started = *state.started.get_or_insert(now);
            let Deadline { allowed, limit } = state.deadline;
            if now.saturating_sub(started) < allowed {
                return Ok(UpdateDeadline::Continue(1));
            }
            let whole = limit == Limit::RecordDeadline || allowed == state.limits.deadline;
            Err(wasmtime::Error::new(Exceeded::time(limit, allowed, whole)))
        });
        store.set_epoch_deadline(1);
        let instance = pre.instantiate(&mut store);
        let instance = instance.map_err(|error| match Live::fault(&mut store, &error) {
            // It has returned nothing yet: it's built in a way that no guest may be.
            Fault::Output(why) => Fault::Trap(why),
            fault => fault,
        })?;
        let mut live = Live { store, instance };
        let answer = live.call(Deadline::of(limits), first)?;
        Ok((live, answer))
    }

    fn call<R>(
        &mut self,
        deadline: Deadline,
        call: impl FnOnce(&mut Store<State>, &Transform) -> wasmtime::Result<R>,
    ) -> Result<R, Fault> {
        let state = self.store.data_mut();
        state.deadline = deadline;
        state.started = None;
        self.store.set_epoch_deadline(1);
        call(&mut self.store, &self.instance).map_err(|error| Live::fault(&mut self.store, &error))
    }

    fn fault(store: &mut Store<State>, error: &wasmtime::Error) -> Fault {
        let dump = error.downcast_ref::<WasmCoreDump>();
        let panic = dump
            .and_then(|dump| dump.memories().first())
            .and_then(|memory| panic_text(memory.data(&store)));
        Fault::of(error, panic, &store.data().limits)
    }
}

/// Columns in the shape of the contract where the host keeps another.
struct Columns {
    timestamp_types: Vec<bindings::TimestampType>,
}

impl Columns {
    fn of(batch: &Batch, needs: Needs) -> Columns {
        let types = match needs.timestamps {
            true => &batch.timestamp_types[..],
            false => &[],
        };
        Columns {
            timestamp_types: types.iter().map(|&it| it.into()).collect(),
        }
    }

    /// The batch as the guest gets it: what it didn't ask for stays here.
    fn lend<'a>(
        &'a self,
        batch: &'a Batch,
        id_key: &'a [u8; 32],
        needs: Needs,
    ) -> bindings::Batch<'a> {
        let when = |needed: bool, column: &'a Column| match needed {
            true => lend(column),
            false => EMPTY,
        };
        bindings::Batch {
            topic: &batch.topic,
            partition: batch.partition as u32,
            id_key,
            count: batch.len() as u32,
            keys: when(needs.keys, &batch.keys),
            values: when(needs.values, &batch.values),
            headers: bindings::HeadersParam {
                counts: if needs.headers {
                    &batch.headers.counts
                } else {
                    &[]
                },
                names: when(needs.headers, &batch.headers.names),
                values: when(needs.headers, &batch.headers.values),
            },
            timestamps: if needs.timestamps {
                &batch.timestamps
            } else {
                &[]
            },
            timestamp_types: &self.timestamp_types,
            offsets: if needs.positions { &batch.offsets } else { &[] },
            ordinals: if needs.positions {
                &batch.ordinals
            } else {
                &[]
            },
        }
    }
}

const EMPTY: bindings::ColumnParam<'static> = bindings::ColumnParam {
    data: &[],
    ends: &[],
    nulls: &[],
};

fn lend(column: &Column) -> bindings::ColumnParam<'_> {
    bindings::ColumnParam {
        data: &column.data,
        ends: &column.ends,
        nulls: &column.nulls,
    }
}

impl From<TimestampType> for bindings::TimestampType {
    fn from(it: TimestampType) -> bindings::TimestampType {
        match it {
            TimestampType::CreateTime => bindings::TimestampType::CreateTime,
            TimestampType::LogAppendTime => bindings::TimestampType::LogAppendTime,
            TimestampType::NotAvailable => bindings::TimestampType::NotAvailable,
        }
    }
}

/// The CPU time of this thread: what the deadline counts, since a wall clock would condemn healthy records on a busy
/// or stopped machine.
pub fn thread_cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// Where weir-guest leaves a panic's message: this mark, a length (u32, little endian), and so many bytes of UTF-8.
const PANIC_MARK: &[u8; 16] = b"WEIR-PANIC-TEXT\0";

fn panic_text(memory: &[u8]) -> Option<String> {
    memchr::memmem::find_iter(memory, PANIC_MARK).find_map(|at| {
        let rest = &memory[at + PANIC_MARK.len()..];
        let (length, rest) = rest.split_first_chunk::<4>()?;
        let text = rest.get(..u32::from_le_bytes(*length) as usize)?;
        // One more than is shown, so that it shows that there is more.
        let text = &text[..text.len().min(MAX_TEXT + 4)];
        (!text.is_empty()).then(|| String::from_utf8_lossy(text).into_owned())
    })
}
