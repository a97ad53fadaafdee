//! What the service counts, for `GET /metrics`, and a line of log for each request.

use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use axum::extract::{MatchedPath, Request, State};
use axum::http::Method;
use axum::http::header::CONTENT_TYPE;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use prometheus_client::encoding::{EncodeLabelSet, prometheus_text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

use crate::judge::JudgeError;

/// Upper limits of the buckets of response times, in seconds.
const SECONDS: [f64; 14] = [
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0,
];

/// Stands for every path that is no route, so that clients can't make labels.
const NO_ROUTE: &str = "none";

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Answered {
    method: &'static str,
    route: String,
    status: u16,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Route {
    route: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Refused {
    reason: &'static str,
}

/// The service's counters.
pub struct Telemetry {
    registry: Registry,
    requests: Family<Answered, Counter>,
    seconds: Family<Route, Histogram, fn() -> Histogram>,
    batches: Histogram,
    refused: Family<Refused, Counter>,
}

impl Telemetry {
    pub fn new() -> Self {
        let mut registry = Registry::with_prefix("serve");
        let requests = Family::default();
        let help = "Requests answered, by method, route and status";
        registry.register("http_requests", help, requests.clone());
        let histogram: fn() -> Histogram = || Histogram::new(SECONDS);
        let seconds = Family::new_with_constructor(histogram);
        let help = "Seconds from a request's head to its answer, by route";
        registry.register("http_request_duration_seconds", help, seconds.clone());
        let batches = Histogram::new(exponential_buckets(1.0, 2.0, 11));
        let help = "Pictures in a batch that was embedded";
        registry.register("batch_pictures", help, batches.clone());
        let refused = Family::default();
        let help = "Pictures that could not be prepared, by reason";
        registry.register("pictures_refused", help, refused.clone());
        Self {
            registry,
            requests,
            seconds,
            batches,
            refused,
        }
    }

    /// Counts a batch of this many pictures.
    pub fn batch(&self, pictures: usize) {
        self.batches.observe(pictures as f64);
    }

    /// Counts a picture that could not be prepared.
    pub fn refusal(&self, error: &JudgeError) {
        let reason = match error {
            JudgeError::Picture(_) => "unreadable",
            JudgeError::PictureTooLarge(_) => "too_large",
            JudgeError::Failed(_) => "failed",
        };
        self.refused.get_or_create(&Refused { reason }).inc();
    }

    /// The answer to `GET /metrics`, in Prometheus's text format.
    pub fn metrics(&self) -> Result<Response, fmt::Error> {
        let mut text = String::new();
        prometheus_text::encode(&mut text, &self.registry)?;
        Ok(([(CONTENT_TYPE, prometheus_text::CONTENT_TYPE)], text).into_response())
    }
}

fn known(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::OPTIONS => "OPTIONS",
        Method::POST => "POST",
        _ => "other",
    }
}

/// Counts and logs a request, below the path prefix.
pub async fn observe(
    State((telemetry, prefix)): State<(Arc<Telemetry>, Arc<str>)>,
    request: Request,
    next: Next,
) -> Response {
    let start = Instant::now();
    let matched = request.extensions().get::<MatchedPath>();
    let route = matched.and_then(|path| path.as_str().strip_prefix(&*prefix));
    let route = route.unwrap_or(NO_ROUTE).to_owned();
    let method = known(request.method());
    let response = next.run(request).await;
    let (status, elapsed) = (response.status().as_u16(), start.elapsed().as_secs_f64());
    tracing::info!(
        method,
        route,
        status,
        milliseconds = elapsed * 1e3,
        "request"
    );
    telemetry
        .seconds
        .get_or_create(&Route {
            route: route.clone(),
        })
        .observe(elapsed);
    let answered = Answered {
        method,
        route,
        status,
    };
    telemetry.requests.get_or_create(&answered).inc();
    response
}
