//! Asks a running Weir.

use std::time::Duration;

use anyhow::{Context, Error, Result, anyhow};
use serde::Serialize;
use serde::de::DeserializeOwned;
use ureq::http::{Response, StatusCode};
use ureq::tls::{PemItem, RootCerts, TlsConfig, parse_pem};
use ureq::{Agent, Body};

use super::args::Remote;
use crate::admin::Problem;
use crate::cli::UsageError;
use crate::config::Secret;

/// Longer than a module may take to compile.
const TIMEOUT: Duration = Duration::from_secs(200);

/// As long as most health checks wait.
const PROBE_TIMEOUT: Duration = Duration::from_secs(5);

/// The admin API of one process.
pub(super) struct Client {
    agent: Agent,
    url: String,
    token: Option<Secret>,
}

impl Client {
    pub(super) fn new(remote: &Remote) -> Result<Client> {
        let token = match &remote.token_file {
            Some(path) => {
                let text = std::fs::read_to_string(path);
                let text = text.with_context(|| format!("reading the token {}", path.display()))?;
                Some(text)
            }
            None => std::env::var("WEIR_ADMIN_TOKEN").ok(),
        };
        let url = remote.admin.trim_end_matches('/').to_string();
        if !url.starts_with("http://") && !url.starts_with("https://") {
            let what = format!("--admin {url:?} must start with http:// or https://");
            return Err(UsageError(what).into());
        }
        let mut tls = TlsConfig::builder();
        if let Some(path) = &remote.ca {
            let reading = || format!("reading the certificates {}", path.display());
            let pem = std::fs::read(path).with_context(reading)?;
            let certificates = parse_pem(&pem)
                .filter_map(|it| match it {
                    Ok(PemItem::Certificate(it)) => Some(Ok(it)),
                    Ok(_) => None,
                    Err(why) => Some(Err(why)),
                })
                .collect::<Result<Vec<_>, _>>()
                .with_context(reading)?;
            tls = tls.root_certs(RootCerts::from(certificates));
        }
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(TIMEOUT))
            .tls_config(tls.build())
            // It may have been told of a proxy for the world outside.
            .proxy(None)
            .build();
        Ok(Client {
            agent: config.into(),
            url,
            token: token.map(|it| Secret::new(it.trim().to_string())),
        })
    }

    pub(super) fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T> {
        let mut request = self.agent.get(format!("{}{path}", self.url));
        if let Some(bearer) = self.bearer() {
            request = request.header("authorization", bearer);
        }
        self.read(request.call())
    }

    pub(super) fn post<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> Result<T> {
        let mut request = self.agent.post(format!("{}{path}", self.url));
        if let Some(bearer) = self.bearer() {
            request = request.header("authorization", bearer);
        }
        self.read(request.send_json(body))
    }

    pub(super) fn delete<T: DeserializeOwned>(&self, path: &str) -> Result<T> {
        let mut request = self.agent.delete(format!("{}{path}", self.url));
        if let Some(bearer) = self.bearer() {
            request = request.header("authorization", bearer);
        }
        self.read(request.call())
    }

    /// Asks an endpoint that answers with text and isn't the API's: whether all is well, and what it says.
    pub(super) fn probe(&self, path: &str) -> Result<(bool, String)> {
        let request = self
            .agent
            .get(format!("{}{path}", self.url))
            .config()
            .timeout_global(Some(PROBE_TIMEOUT))
            .build();
        let (status, body) = self.receive(request.call())?;
        let text = String::from_utf8_lossy(&body).into_owned();
        match status {
            StatusCode::OK => Ok((true, text)),
            StatusCode::SERVICE_UNAVAILABLE => Ok((false, text)),
            _ => Err(self.no_weir(status)),
        }
    }

    fn bearer(&self) -> Option<String> {
        let token = self.token.as_ref()?;
        Some(format!("Bearer {}", token.reveal()))
    }

    fn read<T: DeserializeOwned>(&self, answer: Result<Response<Body>, ureq::Error>) -> Result<T> {
        let (status, body) = self.receive(answer)?;
        if status.is_success() {
            return serde_json::from_slice(&body).with_context(|| {
                format!(
                    "what answers at {} isn't a Weir, or one of another version",
                    self.url
                )
            });
        }
        match serde_json::from_slice::<Problem>(&body) {
            Ok(problem) => Err(anyhow!("{}", problem.detail)),
            Err(_) => Err(self.no_weir(status)),
        }
    }

    fn receive(
        &self,
        answer: Result<Response<Body>, ureq::Error>,
    ) -> Result<(StatusCode, Vec<u8>)> {
        let url = &self.url;
        let mut answer = answer.map_err(|why| {
            if why.to_string().contains("peer certificate") {
                let what = format!("the certificate of {url} isn't trusted; --ca names a file with those that are");
                return Error::new(why).context(what);
            }
            let what = format!(
                "no Weir answers at {url}; `weir run` logs its admin address, and --admin or WEIR_ADMIN takes it"
            );
            Error::new(why).context(what)
        })?;
        let status = answer.status();
        let body = answer
            .body_mut()
            .with_config()
            .limit(64 << 20)
            .read_to_vec();
        let body = body.with_context(|| format!("reading the answer of {url}"))?;
        Ok((status, body))
    }

    fn no_weir(&self, status: StatusCode) -> Error {
        anyhow!(
            "what answers at {} says {status}, and isn't a Weir",
            self.url
        )
    }
}
