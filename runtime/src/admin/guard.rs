//! Who may use the API.
//!
//! With a token: whoever has it. Without one: whoever reaches it on this machine, but for web pages. Any page that someone
//! has open can have the browser send requests to this machine, so those that say that they come from another site, or that
//! ask for another host by its name (which then leads here), are refused.

use std::net::{IpAddr, SocketAddr};

use axum::extract::{ConnectInfo, Request, State};
use axum::http::{HeaderMap, StatusCode, Uri, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use subtle::ConstantTimeEq;

use super::problem::Problem;
use crate::config::Secret;

/// What a request has to show.
#[derive(Clone)]
pub(super) struct Guard {
    token: Option<Secret>,
    /// Whether only this machine reaches the address that's listened on.
    local: bool,
}

impl Guard {
    pub(super) fn new(token: Option<Secret>, listens: SocketAddr) -> Guard {
        Guard {
            token,
            local: listens.ip().is_loopback(),
        }
    }

    fn check(&self, headers: &HeaderMap, uri: &Uri) -> Result<(), Problem> {
        match &self.token {
            Some(token) => match bearer(headers) {
                Some(given) if bool::from(given.as_bytes().ct_eq(token.reveal().as_bytes())) => {
                    Ok(())
                }
                Some(_) => Err(unauthorized("the token is wrong")),
                None => Err(unauthorized(
                    "this needs the token of [admin] as `authorization: Bearer TOKEN`",
                )),
            },
            None if !self.local => Err(forbidden(
                "the API is closed: without a `token` in [admin] it's open to this machine alone, and this process listens on an address that others reach",
            )),
            None => self.check_site(headers, uri),
        }
    }

    fn check_site(&self, headers: &HeaderMap, uri: &Uri) -> Result<(), Problem> {
        let host = match headers.get(header::HOST) {
            Some(host) => host.to_str().ok().map(str::to_string),
            None => uri.authority().map(ToString::to_string),
        };
        if !host.as_deref().is_some_and(is_loopback) {
            return Err(forbidden(
                "the request is for another host than this machine; ask 127.0.0.1 or localhost, or set a `token` in [admin]",
            ));
        }
        let foreign = |origin: &axum::http::HeaderValue| {
            let origin = origin.to_str().ok();
            let site = origin
                .and_then(|it| it.split_once("://"))
                .map(|(_, site)| site);
            !site.is_some_and(is_loopback)
        };
        match headers.get_all(header::ORIGIN).iter().any(foreign) {
            true => Err(forbidden(
                "the request comes from a web page of another site",
            )),
            false => Ok(()),
        }
    }
}

/// Lets a request through or says why not.
pub(super) async fn guard(State(guard): State<Guard>, request: Request, next: Next) -> Response {
    match guard.check(request.headers(), request.uri()) {
        Ok(()) => next.run(request).await,
        Err(problem) => {
            let mut response = problem.into_response();
            if response.status() == StatusCode::UNAUTHORIZED {
                let scheme = header::HeaderValue::from_static("Bearer");
                response
                    .headers_mut()
                    .insert(header::WWW_AUTHENTICATE, scheme);
            }
            response
        }
    }
}

/// Who asks, for the histories and the audit log.
pub(super) fn who(ConnectInfo(address): &ConnectInfo<SocketAddr>) -> String {
    address.ip().to_canonical().to_string()
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

/// Whether a host, perhaps with a port, is this machine by its own name for itself.
fn is_loopback(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(v6) => v6.split(']').next().unwrap_or_default(),
        None => host.split(':').next().unwrap_or_default(),
    };
    let is_address = name.parse().is_ok_and(|it: IpAddr| it.is_loopback());
    is_address || name.eq_ignore_ascii_case("localhost")
}

fn unauthorized(detail: &str) -> Problem {
    Problem::new(StatusCode::UNAUTHORIZED, detail)
}

fn forbidden(detail: &str) -> Problem {
    Problem::new(StatusCode::FORBIDDEN, detail)
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn status(guard: &Guard, headers: &[(&'static str, &'static str)]) -> u16 {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, HeaderValue::from_static(value));
        }
        let checked = guard.check(&map, &Uri::from_static("/v1/pipelines"));
        checked.map_or_else(|problem| problem.status, |()| 200)
    }

    fn on(address: &str, token: Option<&str>) -> Guard {
        let token = token.map(|it| Secret::new(it.into()));
        Guard::new(token, address.parse().unwrap())
    }

    #[test]
    fn without_a_token_this_machine_may_and_web_pages_may_not() {
        let guard = on("127.0.0.1:8080", None);
        for host in [
            "127.0.0.1:8080",
            "localhost",
            "LocalHost:1",
            "[::1]:8080",
            "127.1.2.3",
        ] {
            assert_eq!(status(&guard, &[("host", host)]), 200, "{host}");
        }
        for host in [
            "evil.example",
            "localhost.evil.example:8080",
            "10.0.0.1",
            "[fe80::1]",
            "",
        ] {
            assert_eq!(status(&guard, &[("host", host)]), 403, "{host}");
        }
        assert_eq!(status(&guard, &[]), 403);
        let from = |origin| status(&guard, &[("host", "localhost"), ("origin", origin)]);
        assert_eq!(from("http://localhost:3000"), 200);
        for origin in [
            "https://evil.example",
            "null",
            "http://127.0.0.1.evil.example",
            "x",
        ] {
            assert_eq!(from(origin), 403, "{origin}");
        }
        let two = [
            ("host", "localhost"),
            ("origin", "http://localhost"),
            ("origin", "http://evil.example"),
        ];
        assert_eq!(status(&guard, &two), 403);
    }

    #[test]
    fn elsewhere_it_takes_a_token() {
        assert_eq!(
            status(&on("0.0.0.0:8080", None), &[("host", "localhost")]),
            403
        );
        for address in ["0.0.0.0:8080", "127.0.0.1:8080"] {
            let guard = on(address, Some("0123456789abcdef"));
            let with = |value| {
                status(
                    &guard,
                    &[("host", "weir.example"), ("authorization", value)],
                )
            };
            assert_eq!(with("Bearer 0123456789abcdef"), 200);
            assert_eq!(with("bearer  0123456789abcdef"), 200);
            for wrong in [
                "Bearer 0123456789abcdeF",
                "Bearer",
                "Bearer ",
                "Basic 0123456789abcdef",
                "0123456789abcdef",
            ] {
                assert_eq!(with(wrong), 401, "{wrong}");
            }
            assert_eq!(status(&guard, &[("host", "localhost")]), 401);
        }
    }
}
