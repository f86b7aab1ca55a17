//! The admin endpoints: the only place that names axum. They read what others counted, change what runs, and never touch a
//! record.
//!
//! - `api`: what runs, and how that changes. `guard`: who may use it. `problem`: its errors.
//! - `connections`: their bounds.

mod api;
mod connections;
mod guard;
mod problem;

use std::future::Future;
use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Error, Result, bail};
use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use axum_server::tls_rustls::{RustlsAcceptor, RustlsConfig};
use axum_server::{Handle, Server};

use self::api::Subject;
use self::connections::Acceptor;
use self::guard::Guard;
pub use self::problem::Problem;
use crate::config::{self, Secret};
use crate::metrics::Metrics;
use crate::pipeline::Pipelines;
use crate::status::Status;

/// What the endpoints read.
#[derive(Clone)]
pub struct Seen {
    /// The pipelines.
    pub pipelines: Pipelines,
    /// Their state.
    pub status: Status,
    /// The metrics.
    pub metrics: Metrics,
}

/// The endpoints, bound to their address and not serving yet.
pub struct Admin {
    listener: TcpListener,
    token: Option<Secret>,
    tls: Option<RustlsConfig>,
}

impl Admin {
    /// Takes the address; port 0 takes a free one. Without an address it's the first of [`PORTS`] that's free on this
    /// machine, so that several processes get along. Reads certificate and key, if there are any.
    pub async fn bind(config: &config::Admin) -> Result<Admin> {
        let tls = match &config.tls {
            None => None,
            Some(config::Tls { cert, key }) => {
                let read = RustlsConfig::from_pem_file(cert, key).await;
                let read = read.with_context(|| {
                    format!(
                        "reading the certificate {} and the key {} of [admin.tls]",
                        cert.display(),
                        key.display()
                    )
                })?;
                // It would offer HTTP/2, too, which the server doesn't speak (see `bounded`).
                let mut offered = (*read.get_inner()).clone();
                offered.alpn_protocols = vec![b"http/1.1".to_vec()];
                Some(RustlsConfig::from_config(Arc::new(offered)))
            }
        };
        let listener = listener(config.listen)?;
        // As tokio has it.
        listener.set_nonblocking(true)?;
        Ok(Admin {
            listener,
            token: config.token.clone(),
            tls,
        })
    }

    /// Whether it speaks TLS.
    pub fn is_secure(&self) -> bool {
        self.tls.is_some()
    }

    /// The address that it listens on.
    pub fn address(&self) -> Result<SocketAddr> {
        self.listener
            .local_addr()
            .context("reading the admin endpoints' address")
    }

    /// Serves until `stop` resolves, and then for a second at most what clients have begun to ask.
    pub async fn serve(
        self,
        seen: Seen,
        stop: impl Future<Output = ()> + Send + 'static,
    ) -> Result<()> {
        let guard = Guard::new(self.token.clone(), self.address()?);
        let subject = Subject {
            pipelines: seen.pipelines.clone(),
            status: seen.status.clone(),
        };
        let acceptor = Acceptor::new(&seen.metrics);
        let router = Router::new()
            .route("/healthz", get(healthz))
            .route("/readyz", get(readyz))
            .route("/metrics", get(metrics))
            .with_state(seen)
            .merge(api::router(subject, guard))
            .fallback(api::not_found)
            .method_not_allowed_fallback(api::not_allowed)
            .into_make_service_with_connect_info::<SocketAddr>();
        let handle = Handle::new();
        let (serving, stopping) = (handle.clone(), async move {
            stop.await;
            // A client that never ends its request must not hold the process.
            handle.graceful_shutdown(Some(GRACE));
        });
        let stopping = tokio::spawn(stopping);
        let served = match self.tls {
            None => {
                let server = axum_server::from_tcp(self.listener)?.acceptor(acceptor);
                bounded(server).handle(serving).serve(router).await
            }
            Some(tls) => {
                let acceptor = RustlsAcceptor::new(tls).acceptor(acceptor);
                let server = axum_server::from_tcp(self.listener)?.acceptor(acceptor);
                bounded(server).handle(serving).serve(router).await
            }
        };
        stopping.abort();
        served.context("serving the admin endpoints")
    }
}

/// Has clients that take their time for a request hung up on. In HTTP/1 alone, where a connection that idles is known.
fn bounded<A>(mut server: Server<SocketAddr, A>) -> Server<SocketAddr, A> {
    let mut http = server.http_builder().http1();
    http.header_read_timeout(IDLE);
    server.http1_only().first_request_timeout(FIRST_REQUEST)
}

fn listener(listen: Option<SocketAddr>) -> Result<TcpListener> {
    if let Some(listen) = listen {
        return TcpListener::bind(listen).with_context(|| {
            format!("listening on {listen} for the admin endpoints; `--listen` or [admin] listen takes another address")
        });
    }
    for port in PORTS {
        match TcpListener::bind((Ipv4Addr::LOCALHOST, port)) {
            Ok(listener) => return Ok(listener),
            Err(why) if why.kind() == ErrorKind::AddrInUse => {}
            Err(why) => {
                let context = format!("listening on port {port} for the admin endpoints");
                return Err(Error::new(why).context(context));
            }
        }
    }
    let (first, last) = (PORTS.start(), PORTS.end());
    bail!(
        "the ports {first} to {last} are all taken, and the admin endpoints need one; `--listen` or [admin] listen takes another address"
    )
}

/// Where the endpoints listen if nothing else is said.
pub const PORTS: RangeInclusive<u16> = 8080..=8089;

/// How long a new client may take for its first request.
const FIRST_REQUEST: Duration = Duration::from_secs(10);

/// How long a client may take for another request on the same connection: longer than between two scrapes.
const IDLE: Duration = Duration::from_secs(120);

/// How long a client may take to end what it has begun, once the process stops.
const GRACE: Duration = Duration::from_secs(1);

/// The process is alive.
async fn healthz() -> &'static str {
    "ok\n"
}

/// All pipelines run and all workers have joined their groups; otherwise 503 and a line for each reason.
async fn readyz(State(seen): State<Seen>) -> impl IntoResponse {
    match seen.status.not_ready() {
        reasons if reasons.is_empty() => (StatusCode::OK, "ok\n".to_string()),
        reasons => (StatusCode::SERVICE_UNAVAILABLE, reasons.join("\n") + "\n"),
    }
}

async fn metrics(State(seen): State<Seen>) -> impl IntoResponse {
    let content_type = "text/plain; version=0.0.4; charset=utf-8";
    (
        [(header::CONTENT_TYPE, content_type)],
        seen.metrics.render(),
    )
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpStream;

    use super::*;

    /// Serves, has `client` talk to the endpoints, then stops; returns once serving has ended.
    fn serve(status: Status, client: impl FnOnce(SocketAddr) + Send + 'static) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let config = config::Admin {
                listen: "127.0.0.1:0".parse().ok(),
                token: None,
                tls: None,
            };
            let admin = Admin::bind(&config).await.unwrap();
            let address = admin.address().unwrap();
            let client = tokio::task::spawn_blocking(move || client(address));
            let seen = Seen {
                pipelines: Pipelines::default(),
                status,
                metrics: Metrics::default(),
            };
            let stop = async { client.await.unwrap() };
            let served = tokio::time::timeout(Duration::from_secs(60), admin.serve(seen, stop));
            served
                .await
                .expect("it ends though a client is there")
                .unwrap();
        });
    }

    #[test]
    fn a_client_that_never_ends_its_request_does_not_hold_the_process() {
        let status = Status::default();
        serve(status, |address| {
            let mut stream = TcpStream::connect(address).unwrap();
            stream.write_all(b"GET /healthz HTTP/1.1\r\nho").unwrap();
            // Once another one has its answer, the first one's beginning has been read.
            let mut other = TcpStream::connect(address).unwrap();
            other
                .write_all(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n")
                .unwrap();
            let mut answer = [0; 12];
            other.read_exact(&mut answer).unwrap();
            assert_eq!(&answer, b"HTTP/1.1 200");
            // Open until the test's process ends.
            std::mem::forget(stream);
        });
    }
}
