//! Questions to servers of others, as a web form asks them: no length of a query is too much then.

use std::fmt::Write;
use std::net::SocketAddr;

use xtask::http::{self, Response};

/// Sends the fields to `path`.
pub(crate) fn post(
    address: SocketAddr,
    path: &str,
    fields: &[(&str, &str)],
) -> Result<Response, anyhow::Error> {
    let kind = ("content-type", "application/x-www-form-urlencoded");
    http::request(address, "POST", path, &[kind], encode(fields).as_bytes())
}

/// `name=value&…`, for bodies and behind a `?`.
pub(crate) fn encode(fields: &[(&str, &str)]) -> String {
    let mut text = String::new();
    for (name, value) in fields {
        if !text.is_empty() {
            text.push('&');
        }
        percent(&mut text, name);
        text.push('=');
        percent(&mut text, value);
    }
    text
}

fn percent(text: &mut String, part: &str) {
    for byte in part.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                text.push(byte.into());
            }
            _ => {
                let _ = write!(text, "%{byte:02X}");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_means_something_in_a_form_is_escaped() {
        let fields = [("q", "a{b=\"c d\"} & é"), ("db", "weir")];
        assert_eq!(
            encode(&fields),
            "q=a%7Bb%3D%22c%20d%22%7D%20%26%20%C3%A9&db=weir"
        );
    }
}
