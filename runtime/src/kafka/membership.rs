//! How a consumer's membership is written down for a producer.
//!
//! librdkafka has a form of its own, which it reads back only from printable ASCII, and group names are any text.

use std::ffi::{CStr, CString};

use anyhow::{Context, Error};

use super::ffi::Member;
use crate::io::Membership;

/// Writes a membership down: the generation in 4 bytes, then the group, the member and, for a static one, the instance,
/// each with a NUL byte after it.
pub(super) fn write(member: &Member) -> Membership {
    let mut bytes = member.generation.to_le_bytes().to_vec();
    bytes.extend(member.group.as_bytes_with_nul());
    bytes.extend(member.id.as_bytes_with_nul());
    if let Some(instance) = &member.instance {
        bytes.extend(instance.as_bytes_with_nul());
    }
    Membership(bytes)
}

/// Reads what [`write`] wrote.
pub(super) fn read(membership: &Membership) -> Result<Member, Error> {
    parse(&membership.0)
        .context("not a membership as the source of the same client library writes it")
}

fn parse(bytes: &[u8]) -> Option<Member> {
    let (generation, mut rest) = bytes.split_first_chunk()?;
    let mut next = || -> Option<CString> {
        let text = CStr::from_bytes_until_nul(rest).ok()?;
        rest = &rest[text.count_bytes() + 1..];
        Some(text.to_owned())
    };
    let (group, id, instance) = (next()?, next()?, next());
    rest.is_empty().then_some(Member {
        group,
        generation: i32::from_le_bytes(*generation),
        id,
        instance,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        for instance in [None, Some(c"weir-b\u{f6}rse-0")] {
            let member = Member {
                group: c"b\u{f6}rse group".to_owned(),
                generation: 77,
                id: c"member-1".to_owned(),
                instance: instance.map(CStr::to_owned),
            };
            assert_eq!(read(&write(&member)).unwrap(), member);
        }
    }

    #[test]
    fn nonsense_is_an_error() {
        for bytes in [
            &b""[..],
            b"abc",
            b"1234group",
            b"1234group\0member",
            b"1234a\0b\0c\0d",
        ] {
            assert!(read(&Membership(bytes.to_vec())).is_err(), "{bytes:?}");
        }
    }
}
