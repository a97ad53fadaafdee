//! The routes and their handlers.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{DefaultBodyLimit, Query, Request, State};
use axum::http::header::{
    AUTHORIZATION, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderValue,
    REFERRER_POLICY, RETRY_AFTER, X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{Method, StatusCode, Uri};
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::{MethodRouter, get, post};
use axum::{Json, Router, middleware};
use metrics::{Verdict, is_same};
use serde::{Deserialize, Serialize};
use serde_json::json;
use tower_http::cors::{AllowOrigin, CorsLayer};

use crate::access::{Access, Origin};
use crate::api_error::ApiError;
use crate::guard::{Rules, ask_for_key, guard};
use crate::judge::{Judge, JudgeError, Model, Seen};
use crate::page;
use crate::pipeline::guarded;
use crate::service::{Service, Shared};
use crate::telemetry::observe;
use crate::upload::Upload;

/// Neighbours that a search returns unless asked for another number, and the most it can be asked for.
const NEIGHBOURS: usize = 5;
const MOST_NEIGHBOURS: usize = 100;

/// Nothing from elsewhere, no frames, no forms; only pictures that the page has made or been given.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
     img-src 'self' blob: data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// A path with its method, whether it takes no key to ask for it, and what answers.
type Route<J> = (Method, &'static str, bool, MethodRouter<Arc<Service<J>>>);

fn routes<J: Judge>() -> Vec<Route<J>> {
    vec![
        (Method::GET, "/", true, get(page::html)),
        (Method::GET, "/page.css", true, get(page::css)),
        (Method::GET, "/page.js", true, get(page::script)),
        (Method::GET, "/health", true, get(health::<J>)),
        (Method::GET, "/openapi.json", true, get(openapi)),
        (Method::GET, "/map", false, get(map::<J>)),
        (Method::GET, "/metrics", false, get(metrics::<J>)),
        (Method::POST, "/verify", false, post(verify::<J>)),
        (Method::POST, "/embed", false, post(embed::<J>)),
        (Method::POST, "/search", false, post(search::<J>)),
    ]
}

/// All of the service, on an address that is loopback or not.
pub fn router<J: Judge>(service: Service<J>, access: Access, loopback: bool) -> Router {
    let prefix: Arc<str> = access.prefix.as_str().into();
    let cors = (!access.origins.is_empty()).then(|| cors(&access));
    let rules = Arc::new(Rules { access, loopback });
    let mut router = Router::new();
    for (_, path, open, answer) in routes::<J>() {
        let answer = match open {
            true => answer,
            false => answer.layer(middleware::from_fn_with_state(rules.clone(), ask_for_key)),
        };
        router = router.route(&format!("{prefix}{path}"), answer);
    }
    if !prefix.is_empty() {
        // The page's paths are relative to its folder.
        let page = Redirect::permanent(&format!("{prefix}/"));
        router = router.route(&prefix, get(|| async { page }));
    }
    router = router
        .fallback(unknown)
        .method_not_allowed_fallback(wrong_method)
        .layer(DefaultBodyLimit::max(service.limits.body));
    if let Some(cors) = cors {
        router = router.layer(cors);
    }
    let telemetry = Arc::clone(&service.telemetry);
    router
        .layer(middleware::from_fn_with_state(rules, guard))
        .layer(middleware::from_fn_with_state((telemetry, prefix), observe))
        .layer(middleware::map_response(with_headers))
        .with_state(Arc::new(service))
}

/// Tells browsers that the pages of these sites may read the answers.
fn cors(access: &Access) -> CorsLayer {
    CorsLayer::new()
        .allow_origin(AllowOrigin::list(access.origins.iter().map(Origin::header)))
        .allow_methods([Method::GET, Method::POST])
        .allow_headers([AUTHORIZATION, CONTENT_TYPE])
        .expose_headers([RETRY_AFTER])
        .max_age(Duration::from_secs(3600))
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

async fn metrics<J: Judge>(State(service): Shared<J>) -> Result<Response, ApiError> {
    let failed = |e: std::fmt::Error| JudgeError::Failed(format!("the metrics: {e}"));
    Ok(service.telemetry.metrics().map_err(failed)?)
}

async fn health<J: Judge>(State(service): Shared<J>) -> impl IntoResponse {
    Json(json!({ "status": "ok", "model": service.judge.model() }))
}

async fn map<J: Judge>(State(service): Shared<J>) -> Result<Response, ApiError> {
    let why = "there is no map: the run has left no embeddings of test images";
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
            .map(|(method, path, ..)| (method.to_string(), path.to_string()))
            // The page's own files.
            .filter(|(_, path)| path != "/" && !path.starts_with("/page."))
            .collect();
        assert_eq!(described, served);
    }
}
