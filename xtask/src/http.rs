//! As much HTTP as it takes to read a process's own endpoints.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Error};

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// The status code, 200 for example.
    pub status: u16,
    /// The body as text.
    pub body: String,
}

/// Sends `GET path` and reads the answer to the end of the connection.
pub fn get(address: SocketAddr, path: &str) -> Result<Response, Error> {
    request(address, "GET", path, &[], b"")
}

/// Sends any request, and reads the answer to the end of the connection. There's a `Host` unless the headers have one.
pub fn request(
    address: SocketAddr,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> Result<Response, Error> {
    let timeout = Duration::from_secs(60);
    let mut stream = TcpStream::connect_timeout(&address, timeout)
        .with_context(|| format!("can't connect to {address}"))?;
    stream.set_read_timeout(Some(timeout))?;
    stream.set_write_timeout(Some(timeout))?;
    // Version 1.0: the server closes the connection and sends no chunks.
    let mut head = format!(
        "{method} {path} HTTP/1.0\r\ncontent-length: {}\r\n",
        body.len()
    );
    if !headers
        .iter()
        .any(|(name, _)| name.eq_ignore_ascii_case("host"))
    {
        head += &format!("host: {address}\r\n");
    }
    for (name, value) in headers {
        head += &format!("{name}: {value}\r\n");
    }
    stream.write_all(head.as_bytes())?;
    stream.write_all(b"\r\n")?;
    // A server that refuses a body may close before it has read it all; its answer says why.
    let _ = stream.write_all(body);
    let mut bytes = Vec::new();
    let read = stream.read_to_end(&mut bytes);
    if bytes.is_empty() {
        read.with_context(|| format!("can't read the answer to {method} http://{address}{path}"))?;
    }
    parse(&String::from_utf8_lossy(&bytes))
        .with_context(|| format!("{method} http://{address}{path} gave no HTTP answer"))
}

fn parse(text: &str) -> Option<Response> {
    let (head, body) = text.split_once("\r\n\r\n")?;
    let status = head.strip_prefix("HTTP/1.")?.split(' ').nth(1)?;
    Some(Response {
        status: status.parse().ok()?,
        body: body.to_string(),
    })
}

/// The sum of a counter's samples in Prometheus text whose labels contain all of `labels`, each given as
/// `name="value"`; `None` if there's no such sample.
pub fn counter(metrics: &str, name: &str, labels: &[&str]) -> Option<f64> {
    let mut sum = None;
    for line in metrics.lines() {
        let Some((series, value)) = line.rsplit_once(' ') else {
            continue;
        };
        let (series_name, series_labels) = series.split_once('{').unwrap_or((series, ""));
        if series_name != name || !labels.iter().all(|label| series_labels.contains(label)) {
            continue;
        }
        if let Ok(value) = value.parse::<f64>() {
            sum = Some(sum.unwrap_or(0.0) + value);
        }
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_status_and_body() {
        let response = parse("HTTP/1.0 503 Service Unavailable\r\na: b\r\n\r\nno\n").unwrap();
        assert_eq!(response.status, 503);
        assert_eq!(response.body, "no\n");
        assert_eq!(parse("SSH-2.0"), None);
    }

    #[test]
    fn sums_a_counter_over_the_labels_that_were_not_named() {
        let metrics = "# TYPE a_total counter\n\
            a_total{pipeline=\"x\",transform=\"id\"} 2\n\
            a_total{pipeline=\"x\",transform=\"date\"} 3\n\
            a_total{pipeline=\"y\",transform=\"id\"} 10\n\
            a_total_more{pipeline=\"x\"} 100\n\
            plain 7\n";
        assert_eq!(counter(metrics, "a_total", &["pipeline=\"x\""]), Some(5.0));
        assert_eq!(counter(metrics, "plain", &[]), Some(7.0));
        assert_eq!(counter(metrics, "a_total", &["pipeline=\"z\""]), None);
    }
}
