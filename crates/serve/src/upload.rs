//! Reads the pictures of a request, within the limits.

use axum::RequestExt;
use axum::extract::Request;
use axum::extract::multipart::{Multipart, MultipartError, MultipartRejection};
use axum::http::StatusCode;
use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::timeout;

use crate::api_error::ApiError;
use crate::judge::Judge;
use crate::routes::Service;

/// Bytes for which one permit of [`Service::room`] stands: a semaphore only counts to 2^32.
pub const ROOM_UNIT: usize = 1024;

/// The pictures of a request, each with the name of its field.
pub struct Upload {
    pub pictures: Vec<(String, Vec<u8>)>,
    /// Permits for the memory they take, returned when they are dropped.
    _room: OwnedSemaphorePermit,
}

impl Upload {
    /// Reads `multipart/form-data` with at most `most` fields, each a picture.
    pub async fn read<J: Judge>(
        service: &Service<J>,
        request: Request,
        most: usize,
    ) -> Result<Self, ApiError> {
        let limits = &service.limits;
        let kind = request.headers().get(CONTENT_TYPE);
        let kind = kind.and_then(|kind| kind.to_str().ok()).unwrap_or_default();
        if !kind.to_ascii_lowercase().starts_with("multipart/form-data") {
            return Err(ApiError::new(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "send the pictures as multipart/form-data, as a form with files does",
            ));
        }
        let too_large = || {
            let why = format!("a request has at most {} bytes", limits.body);
            ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, why)
        };
        let length = request.headers().get(CONTENT_LENGTH);
        let length = length.and_then(|length| length.to_str().ok()?.parse::<usize>().ok());
        // A body in chunks does not say how long it will be.
        let length = length.unwrap_or(limits.body);
        if length > limits.body {
            return Err(too_large());
        }
        let units = length.div_ceil(ROOM_UNIT) as u32;
        let room = timeout(limits.wait, service.room.clone().acquire_many_owned(units));
        let room = room.await.map_err(|_| ApiError::busy())?;
        let room = room.map_err(|_| ApiError::busy())?;

        let read = async {
            let mut form: Multipart =
                request.extract().await.map_err(|e: MultipartRejection| {
                    ApiError::new(StatusCode::BAD_REQUEST, e.body_text())
                })?;
            let refused = |e: MultipartError| match e.status() {
                StatusCode::PAYLOAD_TOO_LARGE => too_large(),
                _ => ApiError::new(StatusCode::BAD_REQUEST, e.body_text()),
            };
            let mut pictures = Vec::new();
            while let Some(field) = form.next_field().await.map_err(refused)? {
                if pictures.len() == most {
                    let why = format!("send at most {most} pictures");
                    return Err(ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, why));
                }
                let name = field.name().unwrap_or_default().to_owned();
                pictures.push((name, field.bytes().await.map_err(refused)?.into()));
            }
            Ok(pictures)
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
