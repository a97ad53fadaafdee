//! The page: three files inside the program, which load nothing from elsewhere.

use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;

pub async fn html() -> impl IntoResponse {
    let kind = [(CONTENT_TYPE, "text/html; charset=utf-8")];
    (kind, include_str!("page/page.html"))
}

pub async fn css() -> impl IntoResponse {
    let kind = [(CONTENT_TYPE, "text/css; charset=utf-8")];
    (kind, include_str!("page/page.css"))
}

pub async fn script() -> impl IntoResponse {
    let kind = [(CONTENT_TYPE, "text/javascript; charset=utf-8")];
    (kind, include_str!("page/page.js"))
}
