//! A transform as an author writes it, on top of the SDK: each record goes to the output that its value names.

use std::cell::RefCell;

use weir_guest::bindings::{Batch, Needs, Output, Setup};
use weir_guest::export::Runner;
use weir_guest::{Record, Refusal, Transform, Verdict, refuse};

thread_local! {
    static RUNNER: RefCell<Option<Runner<ByName>>> = const { RefCell::new(None) };
}

struct ByName;

#[derive(serde::Deserialize)]
struct Config {}

impl Transform for ByName {
    type Config = Config;

    fn new(_: Config) -> Result<ByName, String> {
        Ok(ByName)
    }

    fn needs(&self) -> weir_guest::Needs {
        weir_guest::Needs::VALUES
    }

    fn apply(&mut self, record: &mut Record<'_>) -> Result<Verdict, Refusal> {
        let name = record.value().map(String::from_utf8_lossy);
        let name = name.ok_or_else(|| refuse("the value is null"))?;
        record.set_output(&name)?;
        Ok(Verdict::Keep)
    }
}

/// Sets the transform up.
pub fn init(outputs: Vec<String>) -> Result<Needs, String> {
    let config = "{}".to_owned();
    let runner = Runner::new(Setup { config, outputs })?;
    let needs = runner.needs().into();
    RUNNER.set(Some(runner));
    Ok(needs)
}

/// What becomes of a batch, if the transform has been set up.
pub fn transform(batch: &Batch) -> Option<Output> {
    RUNNER.with_borrow_mut(|runner| Some(runner.as_mut()?.run(batch)))
}
