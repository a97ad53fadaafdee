//! The routes and their handlers.

use std::sync::Arc;

use axum::extract::{DefaultBodyLimit, Query, Request, State};
use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderValue, REFERRER_POLICY,
    X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get, post};
use axum::{Json, Router, middleware};
use metrics::{Verdict, is_same};
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::sync::Semaphore;

use crate::api_error::ApiError;
use crate::guard::guard;
use crate::judge::{Judge, JudgeError, Model, Seen};
use crate::limits::Limits;
use crate::page;
use crate::pipeline::{Pipeline, guarded};
use crate::upload::{ROOM_UNIT, Upload};

/// Neighbours that a search returns unless asked for another number, and the most it can be asked for.
const NEIGHBOURS: usize = 5;
const MOST_NEIGHBOURS: usize = 100;

/// Nothing from elsewhere, no frames, no forms; only pictures that the page has made or been given.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
     img-src 'self' blob: data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// What every handler needs.
pub struct Service<J: Judge> {
    pub judge: Arc<J>,
    pub limits: Arc<Limits>,
    /// For request bodies in memory, in units of [`ROOM_UNIT`] bytes.
    pub room: Arc<Semaphore>,
    pipeline: Pipeline<J>,
}

impl<J: Judge> Service<J> {
    pub fn new(judge: J, limits: Limits) -> std::io::Result<Self> {
        let judge = Arc::new(judge);
        let room = limits.held.max(limits.body).div_ceil(ROOM_UNIT);
        Ok(Self {
            pipeline: Pipeline::start(Arc::clone(&judge), &limits)?,
            judge,
            room: Arc::new(Semaphore::new(room)),
            limits: Arc::new(limits),
        })
    }
}

type Shared<J> = State<Arc<Service<J>>>;

type Route<J> = (Method, &'static str, MethodRouter<Arc<Service<J>>>);

/// Every route, with its method.
fn routes<J: Judge>() -> Vec<Route<J>> {
    vec![
        (Method::GET, "/", get(page::html)),
        (Method::GET, "/page.css", get(page::css)),
        (Method::GET, "/page.js", get(page::script)),
        (Method::GET, "/health", get(health::<J>)),
        (Method::GET, "/map", get(map::<J>)),
        (Method::GET, "/openapi.json", get(openapi)),
        (Method::POST, "/verify", post(verify::<J>)),
        (Method::POST, "/embed", post(embed::<J>)),
        (Method::POST, "/search", post(search::<J>)),
    ]
}

pub fn router<J: Judge>(service: Service<J>, loopback: bool) -> Router {
    let mut router = Router::new();
    for (_, path, answer) in routes::<J>() {
        router = router.route(path, answer);
    }
    let body = service.limits.body;
    router
        .fallback(unknown)
        .method_not_allowed_fallback(wrong_method)
        .layer(DefaultBodyLimit::max(body))
        .layer(middleware::from_fn_with_state(loopback, guard))
        .layer(middleware::map_response(with_headers))
        .with_state(Arc::new(service))
}

async fn with_headers(mut response: Response) -> Response {
    for (name, value) in [
        (CONTENT_SECURITY_POLICY, POLICY),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (REFERRER_POLICY, "no-referrer"),
        (CACHE_CONTROL, "no-store"),
    ] {
        let headers = response.headers_mut();
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}

async fn unknown(uri: Uri) -> ApiError {
    let why = format!(
        "there is no {}; GET /openapi.json lists what there is",
        uri.path()
    );
    ApiError::new(StatusCode::NOT_FOUND, why)
}

async fn wrong_method(method: Method, uri: Uri) -> ApiError {
    let why = format!("{} does not take {method}", uri.path());
    ApiError::new(StatusCode::METHOD_NOT_ALLOWED, why)
}

async fn openapi() -> impl IntoResponse {
    let kind = [(CONTENT_TYPE, "application/json")];
    (kind, include_str!("openapi.json"))
}

async fn health<J: Judge>(State(service): Shared<J>) -> impl IntoResponse {
    Json(json!({ "status": "ok", "model": service.judge.model() }))
}

async fn map<J: Judge>(State(service): Shared<J>) -> Result<Response, ApiError> {
    let why = "there is no map: the run folder has no embeddings.tsv and metadata.tsv";
    let no_map = || ApiError::new(StatusCode::NOT_FOUND, why);
    Ok(Json(service.judge.map().ok_or_else(no_map)?).into_response())
}

#[derive(Serialize)]
struct Verified {
    #[serde(flatten)]
    verdict: Verdict,
    a: Seen,
    b: Seen,
}

async fn verify<J: Judge>(
    State(service): Shared<J>,
    request: Request,
) -> Result<Json<Verified>, ApiError> {
    let mut upload = Upload::read(&service, request, 2).await?;
    upload.pictures.sort();
    let names = upload.pictures.iter().map(|(name, _)| name.as_str());
    let names: Vec<&str> = names.collect();
    if names != ["a", "b"] {
        let why = format!("send two pictures, as the fields a and b; the request has {names:?}");
        return Err(ApiError::new(StatusCode::BAD_REQUEST, why));
    }
    let seen = service.pipeline.embed(upload).await?;
    let [a, b] = <[Seen; 2]>::try_from(seen)
        .map_err(|_| JudgeError::Failed("two pictures were not seen as two".into()))?;
    let verdict = guarded(|| service.judge.verdict(&a.embedding, &b.embedding))?;
    Ok(Json(Verified { verdict, a, b }))
}

#[derive(Serialize)]
struct Embeddings {
    pictures: Vec<Seen>,
}

async fn embed<J: Judge>(
    State(service): Shared<J>,
    request: Request,
) -> Result<Json<Embeddings>, ApiError> {
    let upload = Upload::read(&service, request, service.limits.pictures).await?;
    if upload.pictures.is_empty() {
        let why = "send one picture or more, a field each";
        return Err(ApiError::new(StatusCode::BAD_REQUEST, why));
    }
    let pictures = service.pipeline.embed(upload).await?;
    Ok(Json(Embeddings { pictures }))
}

#[derive(Deserialize)]
struct SearchQuery {
    count: Option<usize>,
}

#[derive(Serialize)]
struct Found {
    query: Seen,
    neighbours: Vec<Hit>,
}

/// A picture of the gallery near the query.
#[derive(Serialize)]
struct Hit {
    name: String,
    distance: f32,
    same: bool,
}

async fn search<J: Judge>(
    State(service): Shared<J>,
    query: Result<Query<SearchQuery>, axum::extract::rejection::QueryRejection>,
    request: Request,
) -> Result<Json<Found>, ApiError> {
    let count = query
        .ok()
        .map(|Query(query)| query.count.unwrap_or(NEIGHBOURS))
        .filter(|count| (1..=MOST_NEIGHBOURS).contains(count))
        .ok_or_else(|| {
            let why = format!("count is a whole number from 1 to {MOST_NEIGHBOURS}");
            ApiError::new(StatusCode::BAD_REQUEST, why)
        })?;
    let Model {
        gallery, threshold, ..
    } = service.judge.model();
    if gallery == 0 {
        let why = "there is no gallery to search; start the service with --gallery DIR";
        return Err(ApiError::new(StatusCode::NOT_FOUND, why));
    }
    let upload = Upload::read(&service, request, 1).await?;
    if upload.pictures.is_empty() {
        let why = "send a picture, as a field";
        return Err(ApiError::new(StatusCode::BAD_REQUEST, why));
    }
    let mut seen = service.pipeline.embed(upload).await?;
    let query = seen.remove(0);
    let found = service.pipeline.ask(move |judge| {
        let hit = |(name, distance)| Hit {
            same: is_same(distance, threshold),
            name,
            distance,
        };
        let nearest = judge.nearest(&query.embedding, count)?;
        let neighbours = nearest.into_iter().map(hit).collect();
        Ok(Found { query, neighbours })
    });
    Ok(Json(found.await?))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::Value;

    use super::routes;
    use crate::{Judge, JudgeError, Map, Model, Seen, Verdict};

    /// The routes' judge, whom nobody asks.
    struct Nobody;

    impl Judge for Nobody {
        type Prepared = ();

        fn model(&self) -> Model {
            unreachable!()
        }

        fn prepare(&self, _: &str, _: &[u8]) -> Result<(), JudgeError> {
            unreachable!()
        }

        fn embed(&self, _: &[&()]) -> Result<Vec<Seen>, JudgeError> {
            unreachable!()
        }

        fn verdict(&self, _: &[f32], _: &[f32]) -> Result<Verdict, JudgeError> {
            unreachable!()
        }

        fn nearest(&self, _: &[f32], _: usize) -> Result<Vec<(String, f32)>, JudgeError> {
            unreachable!()
        }

        fn map(&self) -> Option<&Map> {
            unreachable!()
        }
    }

    #[test]
    fn the_description_has_every_route_and_no_other() {
        let description: Value = serde_json::from_str(include_str!("openapi.json")).unwrap();
        let described: BTreeSet<(String, String)> = description["paths"]
            .as_object()
            .unwrap()
            .iter()
            .flat_map(|(path, methods)| {
                let methods = methods.as_object().unwrap().keys();
                methods.map(move |method| (method.to_uppercase(), path.clone()))
            })
            .collect();
        let served: BTreeSet<_> = routes::<Nobody>()
            .iter()
            .map(|(method, path, _)| (method.to_string(), path.to_string()))
            // The page's own files.
            .filter(|(_, path)| path != "/" && !path.starts_with("/page."))
            .collect();
        assert_eq!(described, served);
    }
}
