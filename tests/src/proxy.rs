//! A door to the broker that a test opens when it likes.

use std::io;
use std::net::{Ipv4Addr, Shutdown, SocketAddr, SocketAddrV4, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::thread;

use rustix::net::{AddressFamily, SocketType, bind, getsockname, listen, socket};

use crate::must;

/// An address that nobody listens on, and later the broker does: it passes connections on. Clients learn the broker's own
/// address from it, and go there with the next ones.
#[derive(Debug)]
pub struct Proxy {
    /// Bound from the start, so that no other test's server gets the port meanwhile.
    socket: OwnedFd,
    address: SocketAddr,
}

impl Proxy {
    /// A free address. Connections there are refused.
    #[track_caller]
    pub fn closed() -> Proxy {
        let socket = must(socket(AddressFamily::INET, SocketType::STREAM, None));
        must(bind(&socket, &SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0)));
        let address = must(SocketAddr::try_from(must(getsockname(&socket))));
        Proxy { socket, address }
    }

    /// What clients put into `bootstrap.servers`.
    pub fn bootstrap(&self) -> String {
        self.address.to_string()
    }

    /// From now on, to the end of the tests, connections go to `target`.
    #[track_caller]
    pub fn open(&self, target: &str) {
        must(listen(&self.socket, 128));
        let listener = TcpListener::from(must(self.socket.try_clone()));
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
