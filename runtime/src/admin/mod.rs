//! The admin endpoints: the only place that names axum. They read what others counted, and never touch a record.

use std::future::Future;
use std::net::SocketAddr;

use anyhow::{Context, Result};
use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use tokio::net::TcpListener;

use crate::metrics::Metrics;
use crate::status::Status;

/// What the endpoints read.
#[derive(Clone)]
pub struct Seen {
    /// The pipelines' state.
    pub status: Status,
    /// The metrics.
    pub metrics: Metrics,
}

/// The endpoints, bound to their address and not serving yet.
pub struct Admin {
    listener: TcpListener,
}

impl Admin {
    /// Takes the address; port 0 takes a free one.
    pub async fn bind(listen: SocketAddr) -> Result<Admin> {
        let listener = TcpListener::bind(listen).await.with_context(|| {
            format!("listening on {listen} for the admin endpoints; `--listen` or [admin] listen takes another address")
        })?;
        Ok(Admin { listener })
    }

    /// The address that it listens on.
    pub fn address(&self) -> Result<SocketAddr> {
        self.listener
            .local_addr()
            .context("reading the admin endpoints' address")
    }

    /// Serves until `stop` resolves.
    pub async fn serve(
        self,
        seen: Seen,
        stop: impl Future<Output = ()> + Send + 'static,
    ) -> Result<()> {
        let router = Router::new()
            .route("/healthz", get(healthz))
            .route("/readyz", get(readyz))
            .route("/metrics", get(metrics))
            .with_state(seen);
        axum::serve(self.listener, router)
            .with_graceful_shutdown(stop)
            .await
            .context("serving the admin endpoints")
    }
}

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
