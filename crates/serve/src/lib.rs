//! A web service, with a page to try it on, that compares pictures: do two show the same thing?
//!
//! A [`Judge`] has the answers. A [`Server`] puts it on HTTP, within [`Limits`], for those who have
//! [`Access`], and has it embed the pictures of all the requests that wait in one batch. `GET /openapi.json`
//! describes the routes.

mod access;
mod api_error;
mod guard;
mod judge;
mod limits;
mod page;
mod pipeline;
mod routes;
mod server;
mod service;
mod telemetry;
mod upload;

pub use access::{Access, ApiKey, Host, Malformed, Origin, PathPrefix};
pub use judge::{Judge, JudgeError, Map, Model, Seen};
pub use limits::Limits;
pub use metrics::Verdict;
pub use server::{ServeError, Server};
