//! Reads the pictures of a request, within the limits.

use std::collections::BTreeMap;

use axum::RequestExt;
use axum::body::Bytes;
use axum::extract::Request;
use axum::extract::multipart::{Multipart, MultipartError, MultipartRejection};
use axum::extract::rejection::BytesRejection;
use axum::http::StatusCode;
use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use axum::response::IntoResponse;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde::Deserialize;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::timeout;

use crate::api_error::ApiError;
use crate::judge::Judge;
use crate::limits::Limits;
use crate::service::{ROOM_UNIT, Service};

/// Pictures, each with the name of its field.
type Pictures = Vec<(String, Vec<u8>)>;

/// The pictures of a request.
pub struct Upload {
    pub pictures: Pictures,
    /// Permits for the memory they take, returned when they are dropped.
    _room: OwnedSemaphorePermit,
}

impl Upload {
    /// Reads `multipart/form-data` with at most `most` fields, each a picture, or JSON with as many pictures
    /// in base64.
    pub async fn read<J: Judge>(
        service: &Service<J>,
        request: Request,
        most: usize,
    ) -> Result<Self, ApiError> {
        let limits = &service.limits;
        let kind = request.headers().get(CONTENT_TYPE);
        let kind = kind.and_then(|kind| kind.to_str().ok()).unwrap_or_default();
        let kind = kind.to_ascii_lowercase();
        let json = kind
            .split(';')
            .next()
            .is_some_and(|kind| kind.trim() == "application/json");
        if !json && !kind.starts_with("multipart/form-data") {
            return Err(ApiError::new(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "send the pictures as multipart/form-data, as a form with files does, or in base64 as \
                 application/json",
            ));
        }
        let length = request.headers().get(CONTENT_LENGTH);
        let length = length.and_then(|length| length.to_str().ok()?.parse::<usize>().ok());
        // A body in chunks does not say how long it will be.
        let length = length.unwrap_or(limits.body);
        if length > limits.body {
            return Err(too_large(limits));
        }
        // The text is there beside the pictures in it.
        let bytes = if json { 2 * length } else { length };
        let units = bytes.div_ceil(ROOM_UNIT) as u32;
        let room = timeout(limits.wait, service.room.clone().acquire_many_owned(units));
        let room = room.await.map_err(|_| ApiError::busy())?;
        let room = room.map_err(|_| ApiError::busy())?;

        let read = async {
            match json {
                true => read_json(request, limits, most).await,
                false => read_form(request, limits, most).await,
            }
        };
        let pictures = timeout(limits.upload, read).await.map_err(|_| {
            let why = format!(
                "the request took more than {} s to come",
                limits.upload.as_secs()
            );
            ApiError::new(StatusCode::REQUEST_TIMEOUT, why)
        })??;
        Ok(Self {
            pictures,
            _room: room,
        })
    }
}

async fn read_form(request: Request, limits: &Limits, most: usize) -> Result<Pictures, ApiError> {
    let mut form: Multipart = request
        .extract()
        .await
        .map_err(|e: MultipartRejection| ApiError::new(StatusCode::BAD_REQUEST, e.body_text()))?;
    let refused = |e: MultipartError| match e.status() {
        StatusCode::PAYLOAD_TOO_LARGE => too_large(limits),
        _ => ApiError::new(StatusCode::BAD_REQUEST, e.body_text()),
    };
    let mut pictures = Vec::new();
    while let Some(field) = form.next_field().await.map_err(refused)? {
        if pictures.len() == most {
            return Err(too_many(most));
        }
        let name = field.name().unwrap_or_default().to_owned();
        pictures.push((name, field.bytes().await.map_err(refused)?.into()));
    }
    Ok(pictures)
}

/// What a member of a JSON body has: a picture or more, in base64.
#[derive(Deserialize)]
#[serde(
    untagged,
    expecting = "expected a picture in base64, or an array of them"
)]
enum Member {
    One(String),
    Several(Vec<String>),
}

async fn read_json(request: Request, limits: &Limits, most: usize) -> Result<Pictures, ApiError> {
    let body = request.extract::<Bytes, _>().await;
    let body = body.map_err(|e: BytesRejection| match e.into_response().status() {
        StatusCode::PAYLOAD_TOO_LARGE => too_large(limits),
        status => ApiError::new(status, "the request's body could not be read"),
    })?;
    let members: BTreeMap<String, Member> = serde_json::from_slice(&body)
        .map_err(|e| ApiError::new(StatusCode::BAD_REQUEST, format!("the JSON: {e}")))?;
    let mut texts = Vec::new();
    for (name, member) in members {
        match member {
            Member::One(text) => texts.push((name, text)),
            Member::Several(each) => {
                let named = each.into_iter().enumerate();
                texts.extend(named.map(|(i, text)| (format!("{name}[{i}]"), text)));
            }
        }
    }
    if texts.len() > most {
        return Err(too_many(most));
    }
    texts.into_iter().map(decoded).collect()
}

/// The bytes of a picture in base64, which may be that of a `data:` URL.
fn decoded((name, text): (String, String)) -> Result<(String, Vec<u8>), ApiError> {
    let url = text.strip_prefix("data:");
    let text = url
        .and_then(|url| url.split_once(";base64,"))
        .map_or(&*text, |(_, text)| text);
    match BASE64_STANDARD.decode(text) {
        Ok(bytes) => Ok((name, bytes)),
        Err(error) => {
            let why = format!("{name} is not base64: {error}");
            Err(ApiError::new(StatusCode::BAD_REQUEST, why))
        }
    }
}

fn too_large(limits: &Limits) -> ApiError {
    let why = format!("a request has at most {} bytes", limits.body);
    ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, why)
}

fn too_many(most: usize) -> ApiError {
    let why = format!("send at most {most} pictures");
    ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, why)
}
