//! Which settings this librdkafka has, as it lists them itself.

use std::ffi::c_char;
use std::slice;
use std::sync::OnceLock;

use rdkafka_sys as sys;

/// A setting that librdkafka knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::kafka) struct Property {
    /// The key.
    pub(in crate::kafka) name: String,
    /// Whether a consumer makes use of it.
    pub(in crate::kafka) consumer: bool,
    /// Whether a producer makes use of it.
    pub(in crate::kafka) producer: bool,
    /// The key that this is another name of.
    pub(in crate::kafka) alias_of: Option<String>,
}

/// All settings, in librdkafka's order. Global and topic settings of the same name come twice.
pub(in crate::kafka) fn properties() -> &'static [Property] {
    static PROPERTIES: OnceLock<Vec<Property>> = OnceLock::new();
    PROPERTIES.get_or_init(|| table().lines().filter_map(parse).collect())
}

/// A line such as `acks | P | -1 .. 1000 | -1 | high | Alias for `request.required.acks`: ...`.
fn parse(line: &str) -> Option<Property> {
    let mut columns = line.split(" | ").map(str::trim);
    let name = columns.next()?;
    let (consumer, producer) = match columns.next()? {
        "*" => (true, true),
        "C" => (true, false),
        "P" => (false, true),
        _ => return None,
    };
    let alias_of = line
        .split_once("Alias for `")
        .and_then(|(_, rest)| rest.split_once('`'))
        .map(|(name, _)| name.to_string());
    Some(Property {
        name: name.to_string(),
        consumer,
        producer,
        alias_of,
    })
}

/// What librdkafka prints when asked for its settings; empty if there is no memory for it.
fn table() -> String {
    let mut data: *mut c_char = std::ptr::null_mut();
    let mut length = 0;
    // SAFETY: both outlive the stream, which is closed before they are read; the memory is ours to free then.
    unsafe {
        let stream = libc::open_memstream(&mut data, &mut length);
        if stream.is_null() {
            return String::new();
        }
        sys::rd_kafka_conf_properties_show(stream.cast());
        libc::fclose(stream);
        if data.is_null() {
            return String::new();
        }
        let text =
            String::from_utf8_lossy(slice::from_raw_parts(data.cast::<u8>(), length)).into_owned();
        libc::free(data.cast());
        text
    }
}
