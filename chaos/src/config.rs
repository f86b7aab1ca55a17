//! The config file of the processes under test.

use std::path::Path;

use crate::plan::SESSION_TIMEOUT;
use crate::{Arguments, Delivery, Membership};

/// The pipeline's name.
pub const PIPELINE: &str = "chaos";
/// Its group.
pub const GROUP: &str = "chaos";
/// Where the ledger goes in.
pub const INPUT: &str = "ledger";
/// Where it comes out.
pub const OUTPUT: &str = "chaos";
/// Where what can't be processed goes.
pub const DEAD_LETTER: &str = "chaos.dead";
/// The transform that is swapped.
pub const FILTER: &str = "even";

/// What the filter keeps: for each number another expression, that keeps the same.
pub fn keep(number: usize) -> String {
    format!("event_time % 2 == 0 && {number} >= 0")
}

/// How soon brokers give up on a transaction that nobody ends: above the session timeout, so that the next owner of a
/// killed worker's partitions waits for it too.
const TRANSACTION_TIMEOUT_MS: u32 = 10_000;

/// The file's text. Times are shorter than the defaults, so that a run has many faults; `data` is shared by all
/// processes, as on a host of somebody who starts several.
pub fn text(arguments: &Arguments, bootstrap: &str, data: &Path) -> String {
    let session = SESSION_TIMEOUT.as_millis();
    let (delivery, producer) = match arguments.delivery {
        Delivery::AtLeastOnce => ("at-least-once", String::new()),
        Delivery::ExactlyOnce => (
            "exactly-once",
            format!(
                "[pipelines.{PIPELINE}.producer]\n\"transaction.timeout.ms\" = {TRANSACTION_TIMEOUT_MS}\n"
            ),
        ),
    };
    let consumer = match arguments.membership {
        Membership::Classic => {
            format!("\"session.timeout.ms\" = {session}\n\"heartbeat.interval.ms\" = 1000")
        }
        Membership::Consumer => "\"group.protocol\" = \"consumer\"".to_string(),
    };
    let modules = xtask::root().join("target/guests");
    format!(
        "\
modules = {modules:?}
data = {data:?}

[kafka]
\"bootstrap.servers\" = {bootstrap:?}

[pipelines.{PIPELINE}]
group = {GROUP:?}
input = [{INPUT:?}]
output = {OUTPUT:?}
dead_letter = {DEAD_LETTER:?}
delivery = {delivery:?}
workers = 2
commit_interval = \"100ms\"
drain_timeout = \"10s\"

[pipelines.{PIPELINE}.consumer]
{consumer}

{producer}
[[pipelines.{PIPELINE}.transforms]]
name = \"id\"
module = \"add-uuid.wasm\"
config = {{ field = \"id\" }}

[[pipelines.{PIPELINE}.transforms]]
name = \"date\"
module = \"format-timestamp.wasm\"
config = {{ from = \"timestamp\", rename = \"event_time\", to = \"iso_date\" }}

[[pipelines.{PIPELINE}.transforms]]
name = \"act\"
module = \"faulty.wasm\"
config = {{ field = \"act\" }}
deadline = \"50ms\"
memory = \"8MiB\"

[[pipelines.{PIPELINE}.transforms]]
name = {FILTER:?}
module = \"filter.wasm\"
config = {{ keep = {keep:?} }}
",
        keep = keep(0)
    )
}
