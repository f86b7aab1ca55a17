//! Modules, chains and records for the tests.

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use weir::chain::{Broken, Chain, Seen, Unprocessed, Version};
use weir::guest::{Compiler, Host, Limits, Module, Setup};
use weir::ids::Names;
use weir::record::Batch;

/// One sandbox for all tests, compiling in the child process that users' modules are compiled in.
pub fn host() -> &'static Host {
    static HOST: OnceLock<Host> = OnceLock::new();
    HOST.get_or_init(|| {
        let compiler = Compiler::Child(env!("CARGO_BIN_EXE_weir").into());
        let cache = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("compiled");
        Host::new(compiler, Some(cache)).unwrap()
    })
}

/// The bytes of one of our guests.
pub fn wasm(name: &str) -> Vec<u8> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("../target/guests")
        .join(format!("{name}.wasm"));
    std::fs::read(&path).unwrap_or_else(|error| {
        panic!(
            "{}: {error}: build the guests with `cargo xtask guests`",
            path.display()
        )
    })
}

/// One of our guests, loaded.
pub fn module(name: &str) -> Module {
    Module::load(host(), &wasm(name), &Limits::default()).unwrap()
}

pub fn setup(config: &str) -> Setup {
    Setup {
        config: config.into(),
        outputs: vec!["default".into()],
    }
}

/// The cluster of all tests without Kafka.
pub const CLUSTER: &str = "cluster";

/// A version of one of our guests, with the default limits and stable ids.
pub fn version(guest: &str, config: &str) -> Version {
    Version {
        transform: guest.into(),
        number: 1,
        module: module(guest),
        setup: setup(config),
        limits: Limits::default(),
        ids: Some(Names {
            pipeline: "pipeline".into(),
            transform: guest.into(),
            secret: None,
        }),
        seen: Seen::default(),
    }
}

pub fn chain(versions: impl IntoIterator<Item = Version>) -> Chain {
    let versions: Vec<Arc<Version>> = versions.into_iter().map(Arc::new).collect();
    Chain::new(&versions).unwrap()
}

/// The seed job's chain.
pub fn seed_chain() -> Chain {
    chain([
        version("add-uuid", r#"{"field":"id"}"#),
        version(
            "format-timestamp",
            r#"{"from":"timestamp","rename":"event_time","to":"iso_date"}"#,
        ),
        version("filter", r#"{"keep":"event_time % 2 == 0"}"#),
    ])
}

/// Records with these values at offsets 0, 1, 2, …
pub fn batch<'a>(values: impl IntoIterator<Item = &'a str>) -> Batch {
    let mut batch = Batch::new("in".into(), 0);
    for (offset, value) in values.into_iter().enumerate() {
        push(&mut batch, offset as u64, Some(value.as_bytes()));
    }
    batch
}

/// Appends a record without key and headers.
pub fn push(batch: &mut Batch, offset: u64, value: Option<&[u8]>) {
    let index = batch.len();
    batch.keys.push(None);
    batch.values.push(value);
    batch.headers.push_record(index, []);
    batch.timestamps.push(1_634_221_557_011 + offset as i64);
    batch.offsets.push(offset);
}

/// How a guest broke; a batch didn't go through for that.
pub fn broken(why: Unprocessed) -> Broken {
    match why {
        Unprocessed::Broken(broken) => broken,
        Unprocessed::Host(why) => panic!("the host failed: {why:#}"),
    }
}

/// A column's values as text.
pub fn texts(column: &weir::record::Column) -> Vec<String> {
    column
        .iter()
        .map(|value| match value {
            Some(bytes) => String::from_utf8_lossy(bytes).into_owned(),
            None => "null".into(),
        })
        .collect()
}
