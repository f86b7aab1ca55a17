//! The endpoints' connections, bounded in number and in time: a client that doesn't read, or opens ever more of them, costs
//! file descriptors, which the connections to Kafka need too.

use std::future::{Future, Ready, ready};
use std::io::{self, ErrorKind};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use axum_server::accept::Accept;
use prometheus::IntCounter;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio_io_timeout::TimeoutStream;
use tracing::warn;

use crate::fold::Fold;
use crate::metrics::Metrics;

/// Connections at a time: far fewer than the 1,024 file descriptors that a process usually may have.
const MOST: usize = 256;

/// How long a client may read nothing of an answer.
const UNREAD: Duration = Duration::from_secs(10);

/// Lets connections in. Where there's no room the one goes that was silent for the longest time, so that whoever has
/// something to ask is heard, whatever the others do.
#[derive(Clone)]
pub(super) struct Acceptor(Arc<Shared>);

struct Shared {
    open: Mutex<Open>,
    surplus: IntCounter,
    unread: IntCounter,
    told: Mutex<Fold<&'static str>>,
}

/// The connections that are open.
#[derive(Default)]
struct Open {
    next: u64,
    list: Vec<Entry>,
}

struct Entry {
    number: u64,
    /// When something was last read or written.
    heard: Instant,
    /// Gone, it ends the connection.
    _end: oneshot::Sender<()>,
}

impl Acceptor {
    pub(super) fn new(metrics: &Metrics) -> Acceptor {
        let (surplus, unread) = metrics.admin_connections_dropped();
        Acceptor(Arc::new(Shared {
            open: Mutex::default(),
            surplus,
            unread,
            told: Mutex::default(),
        }))
    }
}

impl<S> Accept<TcpStream, S> for Acceptor {
    type Stream = Connection;
    type Service = S;
    type Future = Ready<io::Result<(Connection, S)>>;

    fn accept(&self, stream: TcpStream, service: S) -> Self::Future {
        let (number, end) = self.0.enter();
        let mut stream = TimeoutStream::new(stream);
        stream.set_write_timeout(Some(UNREAD));
        let connection = Connection {
            stream: Box::pin(stream),
            number,
            end,
            shared: self.0.clone(),
        };
        ready(Ok((connection, service)))
    }
}

impl Shared {
    fn open(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes room for one more: its number, and what ends with it.
    fn enter(&self) -> (u64, oneshot::Receiver<()>) {
        let (end, ended) = oneshot::channel();
        let mut open = self.open();
        let number = open.next;
        open.next += 1;
        let heard = Instant::now();
        let entry = Entry {
            number,
            heard,
            _end: end,
        };
        let is_full = open.list.len() >= MOST;
        let silent = open.list.iter().enumerate().min_by_key(|(_, it)| it.heard);
        if let Some((at, _)) = silent.filter(|_| is_full) {
            open.list.swap_remove(at);
        }
        open.list.push(entry);
        drop(open);
        if is_full {
            self.surplus.inc();
            self.tell(
                "all connections of the admin endpoints are taken: the one that was silent for the longest time gives way to another",
            );
        }
        (number, ended)
    }

    fn tell(&self, what: &'static str) {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(more) = told.tells(what, Instant::now()) {
            let more = (more > 0).then_some(more);
            warn!(more, "{what}");
        }
    }
}

/// A connection that was let in.
pub(super) struct Connection {
    stream: Pin<Box<TimeoutStream<TcpStream>>>,
    number: u64,
    /// Resolves when another one takes its place.
    end: oneshot::Receiver<()>,
    shared: Arc<Shared>,
}

impl Connection {
    /// Fails if it's over.
    fn check(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        match Pin::new(&mut self.end).poll(context) {
            Poll::Ready(_) => Err(ErrorKind::ConnectionAborted.into()),
            Poll::Pending => Ok(()),
        }
    }

    /// Notes that something was read or written, or that a write ended since nobody reads.
    fn noted<T>(&self, result: io::Result<T>) -> Poll<io::Result<T>> {
        match &result {
            Ok(_) => {
                let mut open = self.shared.open();
                let mut list = open.list.iter_mut();
                if let Some(entry) = list.find(|it| it.number == self.number) {
                    entry.heard = Instant::now();
                }
            }
            Err(why) if why.kind() == ErrorKind::TimedOut => {
                self.shared.unread.inc();
                self.shared.tell(
                    "a client of the admin endpoints doesn't read its answer, and was hung up on",
                );
            }
            Err(_) => {}
        }
        Poll::Ready(result)
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        let mut open = self.shared.open();
        open.list.retain(|it| it.number != self.number);
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.check(context)?;
        let result = ready!(self.stream.as_mut().poll_read(context, buffer));
        self.noted(result)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.check(context)?;
        let result = ready!(self.stream.as_mut().poll_write(context, bytes));
        self.noted(result)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.check(context)?;
        let result = ready!(self.stream.as_mut().poll_write_vectored(context, parts));
        self.noted(result)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream.as_mut().poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream.as_mut().poll_shutdown(context)
    }
}
