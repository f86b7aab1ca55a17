//! The endpoints' connections, bounded in number and in time: a client that doesn't read, or opens ever more of them, costs
//! file descriptors, which the connections to Kafka need too.

use std::future::{Ready, ready};
use std::io::{self, ErrorKind};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use axum_server::accept::Accept;
use prometheus::IntCounter;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_io_timeout::TimeoutStream;
use tracing::warn;

use crate::fold::Fold;
use crate::metrics::Metrics;

/// Connections at a time: far fewer than the 1,024 file descriptors that a process usually may have.
pub(super) const MOST: usize = 256;

/// How long a client may read nothing of an answer.
const UNREAD: Duration = Duration::from_secs(10);

/// Lets connections in.
#[derive(Clone)]
pub(super) struct Acceptor {
    room: Arc<Semaphore>,
    dropped: Arc<Dropped>,
}

/// Counts and tells of connections that were dropped.
struct Dropped {
    surplus: IntCounter,
    unread: IntCounter,
    told: Mutex<Fold<&'static str>>,
}

impl Acceptor {
    pub(super) fn new(metrics: &Metrics) -> Acceptor {
        let (surplus, unread) = metrics.admin_connections_dropped();
        Acceptor {
            room: Arc::new(Semaphore::new(MOST)),
            dropped: Arc::new(Dropped {
                surplus,
                unread,
                told: Mutex::default(),
            }),
        }
    }
}

impl<S> Accept<TcpStream, S> for Acceptor {
    type Stream = Connection;
    type Service = S;
    type Future = Ready<io::Result<(Connection, S)>>;

    fn accept(&self, stream: TcpStream, service: S) -> Self::Future {
        let Ok(permit) = self.room.clone().try_acquire_owned() else {
            self.dropped.surplus.inc();
            self.dropped.tell(
                "all connections of the admin endpoints are taken, and more are closed at once",
            );
            return ready(Err(ErrorKind::QuotaExceeded.into()));
        };
        let mut stream = TimeoutStream::new(stream);
        stream.set_write_timeout(Some(UNREAD));
        let connection = Connection {
            stream: Box::pin(stream),
            dropped: self.dropped.clone(),
            _permit: permit,
        };
        ready(Ok((connection, service)))
    }
}

impl Dropped {
    fn tell(&self, what: &'static str) {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(more) = told.tells(what, Instant::now()) {
            warn!(more, most = MOST, "{what}");
        }
    }
}

/// A connection that was let in.
pub(super) struct Connection {
    stream: Pin<Box<TimeoutStream<TcpStream>>>,
    dropped: Arc<Dropped>,
    _permit: OwnedSemaphorePermit,
}

impl Connection {
    /// Notes it if a write ended since nobody reads.
    fn noted<T>(&self, result: io::Result<T>) -> Poll<io::Result<T>> {
        if result
            .as_ref()
            .is_err_and(|why| why.kind() == ErrorKind::TimedOut)
        {
            self.dropped.unread.inc();
            self.dropped.tell(
                "a client of the admin endpoints doesn't read its answer, and was hung up on",
            );
        }
        Poll::Ready(result)
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.stream.as_mut().poll_read(context, buffer)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let result = ready!(self.stream.as_mut().poll_write(context, bytes));
        self.noted(result)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let result = ready!(self.stream.as_mut().poll_write_vectored(context, parts));
        self.noted(result)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let result = ready!(self.stream.as_mut().poll_flush(context));
        self.noted(result)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let result = ready!(self.stream.as_mut().poll_shutdown(context));
        self.noted(result)
    }
}
