//! What is different in a record, in short texts of both sides.

use super::json::{self, Diff};
use super::report::{Differs, Kind};
use super::text::{around, bytes_from, cut, one_line};

/// A header's name and value.
pub(super) type Header<'a> = (&'a [u8], Option<&'a [u8]>);

/// What was put into words already.
pub(super) fn texts(kind: Kind, active: String, tried: String) -> Differs {
    Differs {
        kind,
        record: None,
        path: None,
        active: Some(cut(&active)),
        tried: Some(cut(&tried)),
        note: None,
    }
}

/// Values that are different: at most `room` fields if they're JSON, and how many more there are; otherwise the bytes.
pub(super) fn values(
    active: Option<&[u8]>,
    tried: Option<&[u8]>,
    room: usize,
) -> (Vec<Differs>, usize) {
    let diff = match (active, tried) {
        (Some(active), Some(tried)) => json::diff(active, tried, room),
        _ => None,
    };
    let Some(Diff { fields, more }) = diff else {
        return (vec![bytes(Kind::Value, active, tried)], 0);
    };
    if fields.is_empty() && more == 0 {
        let formatting = Differs {
            path: Some(String::new()),
            note: Some("only the formatting differs".into()),
            ..bytes(Kind::Value, active, tried)
        };
        return (vec![formatting], 0);
    }
    let field = |it: &json::Field<'_>| Differs {
        kind: Kind::Value,
        record: None,
        path: Some(cut(&it.path)),
        active: it.active.map(one_line),
        tried: it.tried.map(one_line),
        note: None,
    };
    (fields.iter().map(field).collect(), more)
}

/// Keys or values that are different, as they are around the first byte that is.
pub(super) fn bytes(kind: Kind, active: Option<&[u8]>, tried: Option<&[u8]>) -> Differs {
    let (active, tried, note) = match (active, tried) {
        (Some(active), Some(tried)) => {
            let (active, tried, at) = around(active, tried);
            let note = format!("different from byte {at} on");
            (Some(active), Some(tried), note)
        }
        (active, tried) => {
            let by = match active.is_none() {
                true => "active",
                false => "tried",
            };
            let text = |it: Option<&[u8]>| it.map(|it| bytes_from(it, 0));
            (
                text(active),
                text(tried),
                format!("null by the {by} version"),
            )
        }
    };
    Differs {
        kind,
        record: None,
        path: None,
        active,
        tried,
        note: Some(note),
    }
}

/// Headers that are different, as the first one that is.
pub(super) fn headers<'a>(
    active: impl Iterator<Item = Header<'a>>,
    tried: impl Iterator<Item = Header<'a>>,
) -> Differs {
    let (mut active, mut tried) = (active.fuse(), tried.fuse());
    let mut number = 1;
    let (one, other) = loop {
        let (one, other) = (active.next(), tried.next());
        if one != other || one.is_none() {
            break (one, other);
        }
        number += 1;
    };
    let (one, other) = (one.map(line), other.map(line));
    Differs {
        note: Some(format!("different from header {number} on")),
        ..bytes(Kind::Headers, one.as_deref(), other.as_deref())
    }
}

/// A header as it's shown: its name and its value.
fn line((name, value): Header<'_>) -> Vec<u8> {
    match value {
        Some(value) => [name, b": ", value].concat(),
        None => [name, b" is null"].concat(),
    }
}
