//! Errors as problem details (RFC 9457).

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::deploy::Refused;

/// What went wrong with a request, as RFC 9457 has it. The type is `about:blank`: the status says it all.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Problem {
    /// The status code.
    pub status: u16,
    /// What the status code is called.
    pub title: String,
    /// What is wrong and what to do.
    pub detail: String,
}

impl Problem {
    /// A problem of this status. The detail says what is wrong and what to do.
    pub fn new(status: StatusCode, detail: impl Into<String>) -> Problem {
        Problem {
            status: status.as_u16(),
            title: status.canonical_reason().unwrap_or("Error").to_string(),
            detail: detail.into(),
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status);
        let status = status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = (status, Json(self)).into_response();
        let media = HeaderValue::from_static("application/problem+json");
        response.headers_mut().insert(header::CONTENT_TYPE, media);
        response
    }
}

impl From<Refused> for Problem {
    fn from(refused: Refused) -> Problem {
        let status = match refused {
            Refused::Unknown(_) => StatusCode::NOT_FOUND,
            Refused::Busy(_) | Refused::Conflict(_) => StatusCode::CONFLICT,
            Refused::Unfit(_) => StatusCode::UNPROCESSABLE_ENTITY,
            Refused::Unkept(_) => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Problem::new(status, refused.to_string())
    }
}
