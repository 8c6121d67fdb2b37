//! The bodies of answers: whole, or as they come, or broken off.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

use hyper::body::{Body, Bytes, Frame, SizeHint};
use hyper::header::{CONTENT_TYPE, RETRY_AFTER};
use hyper::{Response, StatusCode};
use serde_json::Value;
use tokio::sync::mpsc;

use super::status::Refusal;

/// A body.
#[derive(Debug)]
pub(super) enum Reply {
    Whole(Option<Bytes>),
    Stream(mpsc::Receiver<Result<Bytes, BrokenOff>>),
}

/// The end of a body before its end.
#[derive(Debug, Clone, Copy)]
pub(super) struct BrokenOff;

impl fmt::Display for BrokenOff {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("broken off, as it was asked to be")
    }
}

impl std::error::Error for BrokenOff {}

impl Body for Reply {
    type Data = Bytes;
    type Error = BrokenOff;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BrokenOff>>> {
        match self.get_mut() {
            Self::Whole(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Self::Stream(source) => {
                let next = source.poll_recv(context);
                next.map(|next| next.map(|bytes| bytes.map(Frame::data)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Self::Whole(None))
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, Bytes::len) as u64),
            Self::Stream(_) => SizeHint::default(),
        }
    }
}

/// Some text with a status.
pub(super) fn text(code: u16, kind: &str, text: impl Into<Bytes>) -> Response<Reply> {
    with(code, kind, Reply::Whole(Some(text.into())))
}

/// An object.
pub(super) fn object(code: u16, value: &Value) -> Response<Reply> {
    text(code, "application/json", value.to_string())
}

/// A refusal.
pub(super) fn refusal(refusal: &Refusal) -> Response<Reply> {
    object(refusal.code, &refusal.to_json())
}

/// A refusal for some seconds.
pub(super) fn later(seconds: u32) -> Response<Reply> {
    let message = "Too many requests, please try again later.";
    let mut refusal = Refusal::new(429, "TooManyRequests", message);
    refusal.details = serde_json::json!({ "retryAfterSeconds": seconds });
    let mut response = object(429, &refusal.to_json());
    response.headers_mut().insert(RETRY_AFTER, seconds.into());
    response
}

/// A body that comes bit by bit.
pub(super) fn stream(source: mpsc::Receiver<Result<Bytes, BrokenOff>>) -> Response<Reply> {
    with(200, "application/json", Reply::Stream(source))
}

fn with(code: u16, kind: &str, body: Reply) -> Response<Reply> {
    let mut response = Response::new(body);
    *response.status_mut() = StatusCode::from_u16(code).expect("a status");
    let kind = kind.parse().expect("a content type");
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}
