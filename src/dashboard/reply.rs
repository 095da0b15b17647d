//! How a refusal looks on the wire: a status, and one sentence as JSON.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;

use super::house::Refused;
use super::session::Rejected;

/// An answer that is not what was asked for.
#[derive(Debug)]
pub struct Complaint {
    status: StatusCode,
    words: String,
    retry_s: Option<u64>,
}

impl Complaint {
    /// With a sentence for a person.
    pub fn new(status: StatusCode, words: impl Into<String>) -> Self {
        Self { status, words: words.into(), retry_s: None }
    }

    /// To be tried again after so many seconds.
    pub fn later(status: StatusCode, words: impl Into<String>, retry_s: u64) -> Self {
        Self { status, words: words.into(), retry_s: Some(retry_s) }
    }
}

impl From<Refused> for Complaint {
    fn from(refused: Refused) -> Self {
        let status = match refused {
            Refused::NotFound(_) => StatusCode::NOT_FOUND,
            Refused::Bad(_) => StatusCode::BAD_REQUEST,
            Refused::Unsupported(_) => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Refused::TooLarge(_) => StatusCode::PAYLOAD_TOO_LARGE,
            Refused::Unavailable(_) => StatusCode::SERVICE_UNAVAILABLE,
        };
        Self::new(status, refused.to_string())
    }
}

impl From<Rejected> for Complaint {
    fn from(rejected: Rejected) -> Self {
        match rejected {
            Rejected::Wrong => Self::new(StatusCode::UNAUTHORIZED, "this is not the password"),
            Rejected::TooOften { retry_s } => {
                let words = "too many passwords were tried; wait a little";
                Self::later(StatusCode::TOO_MANY_REQUESTS, words, retry_s)
            }
        }
    }
}

impl IntoResponse for Complaint {
    fn into_response(self) -> Response {
        let mut response = (self.status, Json(json!({ "error": self.words }))).into_response();
        if let Some(retry_s) = self.retry_s {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(retry_s));
        }
        if self.status == StatusCode::UNAUTHORIZED {
            let scheme = HeaderValue::from_static("Bearer");
            response.headers_mut().insert(header::WWW_AUTHENTICATE, scheme);
        }
        response
    }
}
