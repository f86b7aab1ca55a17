//! Free ports for brokers, and for what else is started again under the address that it had.

use std::net::TcpListener;
use std::ops::Range;
use std::sync::atomic::{AtomicU16, Ordering};

use anyhow::{Context, Error, ensure};

/// Below the ports that systems give to outgoing connections (from 32,768 on, on Linux): while a broker is down, no
/// client's connection may take its port, least of all one that tries to reach that very broker and meets itself.
const PORTS: Range<u16> = 20_000..32_000;

/// Free ports on 127.0.0.1, each another.
pub fn free(count: usize) -> Result<Vec<u16>, Error> {
    /// What the next search starts from, so that one process doesn't try the same ports again.
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let start = (std::process::id() * 61 % u32::from(PORTS.end - PORTS.start)) as u16;
    let mut held = Vec::new();
    for _ in PORTS {
        if held.len() == count {
            break;
        }
        let step = NEXT.fetch_add(1, Ordering::Relaxed);
        let at = (u32::from(start) + u32::from(step)) % u32::from(PORTS.end - PORTS.start);
        if let Ok(listener) = TcpListener::bind(("127.0.0.1", PORTS.start + at as u16)) {
            held.push(listener);
        }
    }
    ensure!(
        held.len() == count,
        "no free port on 127.0.0.1 from {} to {}",
        PORTS.start,
        PORTS.end
    );
    let ports = held.iter().map(|listener| listener.local_addr());
    Ok(ports
        .map(|address| address.map(|it| it.port()))
        .collect::<Result<_, _>>()?)
}

/// The port, if nobody has it.
pub(super) fn ensure_free(port: u16) -> Result<u16, Error> {
    TcpListener::bind(("127.0.0.1", port))
        .with_context(|| format!("port {port} is already in use"))?;
    Ok(port)
}

/// Tries again while what was started says that somebody took its port meanwhile.
pub(super) fn until_free<T>(
    tries: usize,
    mut start: impl FnMut() -> Result<T, Error>,
) -> Result<T, Error> {
    let mut attempt = 1;
    loop {
        match start() {
            Err(error) if attempt < tries && format!("{error:#}").contains("already in use") => {
                attempt += 1;
            }
            result => return result,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn free_ports_differ_and_can_be_had() {
        let ports = free(4).unwrap();
        let held: Vec<_> = ports
            .iter()
            .map(|&port| TcpListener::bind(("127.0.0.1", port)))
            .collect::<Result<_, _>>()
            .unwrap();
        assert_eq!(held.len(), 4);
        assert!(ports.iter().all(|port| PORTS.contains(port)));
        assert!(ensure_free(ports[0]).is_err());
    }

    #[test]
    fn only_a_taken_port_is_tried_again() {
        let tried = |error: &'static str| {
            let mut tries = 0;
            let result: Result<(), _> = until_free(3, || {
                tries += 1;
                Err(anyhow::anyhow!(error))
            });
            (tries, result.is_err())
        };
        assert_eq!(tried("port 1 is already in use"), (3, true));
        assert_eq!(tried("no Java"), (1, true));
    }
}
