//! A transform at work on a batch: what the export calls, and the tests too.

use crate::bindings::{Batch, Output, Setup};
use crate::record::{Out, Record};
use crate::{Needs, Outputs, Transform, Verdict};

/// A transform that has taken its config.
pub struct Runner<T> {
    transform: T,
    needs: Needs,
    outputs: Outputs,
}

impl<T: Transform> Runner<T> {
    /// Makes the transform from its config, a JSON text, and tells it the outputs.
    ///
    /// # Errors
    /// The config doesn't fit; the error names its field. Or the outputs don't.
    pub fn new(setup: Setup) -> Result<Runner<T>, String> {
        let outputs = Outputs::new(setup.outputs);
        let mut transform = T::new(config(&setup.config)?)?;
        transform.connect(&outputs)?;
        Ok(Runner {
            needs: transform.needs(),
            transform,
            outputs,
        })
    }

    /// The columns that the transform reads.
    pub fn needs(&self) -> Needs {
        self.needs
    }

    /// Gives the transform each record of a batch.
    pub fn run(&mut self, batch: &Batch) -> Output {
        let mut out = Out::new(batch, std::mem::take(&mut self.outputs));
        let mut record = Record {
            batch,
            needs: self.needs,
            out: &mut out,
            index: 0,
            headers: 0..0,
        };
        for index in 0..batch.count as usize {
            record.index = index;
            if let Some(&count) = batch.headers.counts.get(index) {
                record.headers = record.headers.end..record.headers.end + count as usize;
            }
            record.out.ids.begin();
            let before = record.out.take.len();
            match self.transform.apply(&mut record) {
                Ok(Verdict::Keep) => record.emit(),
                Ok(Verdict::Drop) => {
                    let sent = record.out.take.len();
                    record.out.truncate(sent);
                }
                Err(refusal) => {
                    record.out.truncate(before);
                    let refused = &mut record.out.refused;
                    refused.indexes.push(index as u32);
                    refused.reasons.push(Some(refusal.reason().as_bytes()));
                }
            }
        }
        self.outputs = out.output_names;
        Output {
            take: out.take,
            keys: out.keys.finish(),
            values: out.values.finish(),
            headers: out.headers.finish(),
            timestamps: out.timestamps,
            outputs: out.outputs,
            refused: out.refused,
            logs: out.logs,
        }
    }
}

/// Reads the config into its type.
fn config<C: serde::de::DeserializeOwned>(text: &str) -> Result<C, String> {
    let mut reader = serde_json::Deserializer::from_str(text);
    serde_path_to_error::deserialize(&mut reader).map_err(|error| {
        let path = error.path().to_string();
        let what = error.into_inner().to_string();
        // The text was made from the pipeline's TOML: its lines and columns say nothing to the reader.
        let what = match what.rfind(" at line ") {
            Some(at) => &what[..at],
            None => &what,
        };
        match path.as_str() {
            "." => format!("config: {what}"),
            path => format!("config field `{path}`: {what}"),
        }
    })
}
