//! Error responses: a status and `{"error": …}`.

use axum::Json;
use axum::http::StatusCode;
use axum::http::header::RETRY_AFTER;
use axum::response::{IntoResponse, Response};
use serde_json::json;

use crate::judge::JudgeError;

#[derive(Debug)]
pub struct ApiError {
    status: StatusCode,
    why: String,
}

impl ApiError {
    pub fn new(status: StatusCode, why: impl Into<String>) -> Self {
        Self {
            status,
            why: why.into(),
        }
    }

    /// There is too much to do.
    pub fn busy() -> Self {
        Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "the service is busy; try again in a few seconds",
        )
    }
}

impl From<JudgeError> for ApiError {
    fn from(error: JudgeError) -> Self {
        let status = match &error {
            JudgeError::Picture(_) => StatusCode::UNPROCESSABLE_ENTITY,
            JudgeError::PictureTooLarge(_) => StatusCode::PAYLOAD_TOO_LARGE,
            JudgeError::Failed(why) => {
                // It may name files of this machine, which are no client's concern.
                tracing::error!(%why, "a request failed");
                let why = "this request failed; the service's own log says why";
                return Self::new(StatusCode::INTERNAL_SERVER_ERROR, why);
            }
        };
        Self::new(status, error.to_string())
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut response = (self.status, Json(json!({ "error": self.why }))).into_response();
        if self.status == StatusCode::SERVICE_UNAVAILABLE {
            response.headers_mut().insert(
                RETRY_AFTER,
                const { axum::http::HeaderValue::from_static("5") },
            );
        }
        response
    }
}
