//! A web service and a page about two pictures: do they show the same thing?
//!
//! A [`Judge`] knows the answers; a [`Server`] asks it over HTTP, within [`Limits`]. The routes are
//! described by `GET /openapi.json`.

mod guard;
mod judge;
mod limits;
mod page;
mod refusal;
mod routes;
mod server;
mod upload;

pub use judge::{Judge, JudgeError, Map, Model, Neighbour, Seen, Verdict};
pub use limits::Limits;
pub use server::{ServeError, Server};
