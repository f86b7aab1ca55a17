//! A door to the broker that a test opens when it likes.

use std::io;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::thread;

use crate::{must, weir::free_address};

/// An address that nobody listens on, and later the broker does: it passes connections on. Clients learn the broker's own
/// address from it, and go there with the next ones.
#[derive(Debug)]
pub struct Proxy(SocketAddr);

impl Proxy {
    /// A free address. Nobody listens there yet.
    pub fn closed() -> Proxy {
        Proxy(free_address())
    }

    /// What clients put into `bootstrap.servers`.
    pub fn bootstrap(&self) -> String {
        self.0.to_string()
    }

    /// From now on, to the end of the tests, connections go to `target`.
    #[track_caller]
    pub fn open(&self, target: &str) {
        let listener = must(TcpListener::bind(self.0));
        let target = target.to_string();
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                // A client whose connection fails tries again by itself.
                let _ = connect(client, &target);
            }
        });
    }
}

fn connect(client: TcpStream, target: &str) -> io::Result<()> {
    let broker = TcpStream::connect(target)?;
    for (mut from, mut to) in [(client.try_clone()?, broker.try_clone()?), (broker, client)] {
        thread::spawn(move || {
            // The end of one way is the end of the connection.
            let _ = io::copy(&mut from, &mut to);
            let _ = to.shutdown(Shutdown::Both);
        });
    }
    Ok(())
}
