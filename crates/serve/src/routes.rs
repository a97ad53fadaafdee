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
use tokio::time::timeout;

use crate::api_error::ApiError;
use crate::guard::guard;
use crate::judge::{Judge, JudgeError, Model, Seen};
use crate::limits::Limits;
use crate::page;
use crate::upload::{ROOM_UNIT, Upload};

/// Neighbours that a search returns unless asked for another number, and the most it can be asked for.
const NEIGHBOURS: usize = 5;
const MOST_NEIGHBOURS: usize = 100;

/// Nothing from elsewhere, no frames, no forms; only pictures that the page has made or been given.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
     img-src 'self' blob: data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// What every handler needs.
#[derive(Clone)]
pub struct Service {
    pub judge: Arc<dyn Judge>,
    pub limits: Arc<Limits>,
    /// For request bodies in memory, in units of [`ROOM_UNIT`] bytes.
    pub room: Arc<Semaphore>,
    computing: Arc<Semaphore>,
}

impl Service {
    pub fn new(judge: Arc<dyn Judge>, limits: Limits) -> Self {
        let room = limits.held.max(limits.body).div_ceil(ROOM_UNIT);
        Self {
            judge,
            room: Arc::new(Semaphore::new(room)),
            computing: Arc::new(Semaphore::new(limits.computing)),
            limits: Arc::new(limits),
        }
    }

    /// Asks the judge when it is this request's turn, on a thread that may block.
    async fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(&dyn Judge) -> Result<T, JudgeError> + Send + 'static,
    ) -> Result<T, ApiError> {
        let turn = timeout(self.limits.wait, self.computing.clone().acquire_owned());
        let turn = turn.await.map_err(|_| ApiError::busy())?;
        let turn = turn.map_err(|_| ApiError::busy())?;
        let judge = Arc::clone(&self.judge);
        let asked = tokio::task::spawn_blocking(move || {
            let answer = question(&*judge);
            // Not where the answer is awaited: the computation goes on after a client has left.
            drop(turn);
            answer
        });
        match asked.await {
            Ok(answer) => Ok(answer?),
            Err(_) => Err(ApiError::new(
                StatusCode::INTERNAL_SERVER_ERROR,
                "this request failed; the service's own output says why",
            )),
        }
    }
}

/// Every route, with its method.
fn routes() -> Vec<(Method, &'static str, MethodRouter<Service>)> {
    vec![
        (Method::GET, "/", get(page::html)),
        (Method::GET, "/page.css", get(page::css)),
        (Method::GET, "/page.js", get(page::script)),
        (Method::GET, "/health", get(health)),
        (Method::GET, "/map", get(map)),
        (Method::GET, "/openapi.json", get(openapi)),
        (Method::POST, "/verify", post(verify)),
        (Method::POST, "/embed", post(embed)),
        (Method::POST, "/search", post(search)),
    ]
}

pub fn router(service: Service, loopback: bool) -> Router {
    let mut router = Router::new();
    for (_, path, answer) in routes() {
        router = router.route(path, answer);
    }
    let body = service.limits.body;
    router
        .fallback(unknown)
        .method_not_allowed_fallback(wrong_method)
        .layer(DefaultBodyLimit::max(body))
        .layer(middleware::from_fn_with_state(loopback, guard))
        .layer(middleware::map_response(with_headers))
        .with_state(service)
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

async fn health(State(service): State<Service>) -> impl IntoResponse {
    Json(json!({ "status": "ok", "model": service.judge.model() }))
}

async fn map(State(service): State<Service>) -> Result<Response, ApiError> {
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

async fn verify(
    State(service): State<Service>,
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
    let verified = service.ask(move |judge| {
        let mut seen = judge.embed(&upload.pictures)?.into_iter();
        let (Some(a), Some(b)) = (seen.next(), seen.next()) else {
            return Err(JudgeError::Failed(
                "two pictures were not seen as two".into(),
            ));
        };
        let verdict = judge.verdict(&a.embedding, &b.embedding)?;
        Ok(Verified { verdict, a, b })
    });
    Ok(Json(verified.await?))
}

#[derive(Serialize)]
struct Embeddings {
    pictures: Vec<Seen>,
}

async fn embed(
    State(service): State<Service>,
    request: Request,
) -> Result<Json<Embeddings>, ApiError> {
    let upload = Upload::read(&service, request, service.limits.pictures).await?;
    if upload.pictures.is_empty() {
        let why = "send one picture or more, a field each";
        return Err(ApiError::new(StatusCode::BAD_REQUEST, why));
    }
    let pictures = service.ask(move |judge| judge.embed(&upload.pictures));
    Ok(Json(Embeddings {
        pictures: pictures.await?,
    }))
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

async fn search(
    State(service): State<Service>,
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
    let found = service.ask(move |judge| {
        let Some(query) = judge.embed(&upload.pictures)?.into_iter().next() else {
            return Ok(None);
        };
        let hit = |(name, distance)| Hit {
            same: is_same(distance, threshold),
            name,
            distance,
        };
        let nearest = judge.nearest(&query.embedding, count)?;
        let neighbours = nearest.into_iter().map(hit).collect();
        Ok(Some(Found { query, neighbours }))
    });
    let no_picture = || ApiError::new(StatusCode::BAD_REQUEST, "send a picture, as a field");
    Ok(Json(found.await?.ok_or_else(no_picture)?))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::Value;

    use super::routes;

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
        let served: BTreeSet<_> = routes()
            .iter()
            .map(|(method, path, _)| (method.to_string(), path.to_string()))
            // The page's own files.
            .filter(|(_, path)| path != "/" && !path.starts_with("/page."))
            .collect();
        assert_eq!(described, served);
    }
}
