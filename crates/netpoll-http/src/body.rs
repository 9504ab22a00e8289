// SPDX-License-Identifier: MIT OR Apache-2.0
//! [`Body`]: the body of a request, with its limits.

use std::error::Error;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use hyper::StatusCode;
use hyper::body::Incoming;

use crate::body_rate::BodyRate;
use crate::settings::Settings;

/// The body of a request: a [`http_body::Body`] that enforces the limits of the server.
///
/// It may be read on any thread. If it exceeds a limit, its next frame is an error, and the peer
/// gets 413 or 408 in place of the answer of the service, unless that answer has begun.
#[derive(Debug)]
pub struct Body {
    incoming: Incoming,
    /// `None` for an empty body.
    limits: Option<BodyLimits>,
}

#[derive(Debug)]
struct BodyLimits {
    max: Option<u64>,
    received: u64,
    rate: Option<BodyRate>,
    verdict: Arc<BodyVerdict>,
}

/// The limit that a body has exceeded, as its connection sees it.
#[derive(Debug, Default)]
pub(crate) struct BodyVerdict(AtomicU8);

const TOO_LARGE: u8 = 1;
const TOO_SLOW: u8 = 2;

impl BodyVerdict {
    /// Returns the status that replaces the answer of the service.
    pub(crate) fn status(&self) -> Option<StatusCode> {
        // Relaxed: one value, which stands for itself.
        match self.0.load(Ordering::Relaxed) {
            TOO_LARGE => Some(StatusCode::PAYLOAD_TOO_LARGE),
            TOO_SLOW => Some(StatusCode::REQUEST_TIMEOUT),
            _ => None,
        }
    }
}

impl Body {
    /// Returns the body, and where it reports an exceeded limit. One allocation for a body that is
    /// not empty.
    pub(crate) fn new(incoming: Incoming, settings: &Settings) -> (Self, Option<Arc<BodyVerdict>>) {
        if http_body::Body::is_end_stream(&incoming) {
            let limits = None;
            return (Self { incoming, limits }, None);
        }
        let verdict = Arc::<BodyVerdict>::default();
        let rate = settings.min_body_rate;
        let limits = BodyLimits {
            max: settings.max_body,
            received: 0,
            rate: rate.map(|(bytes, window)| BodyRate::new(bytes, window)),
            verdict: Arc::clone(&verdict),
        };
        let limits = Some(limits);
        (Self { incoming, limits }, Some(verdict))
    }
}

impl BodyLimits {
    fn exceeded(&self, verdict: u8, error: BodyErrorKind) -> BodyError {
        self.verdict.0.store(verdict, Ordering::Relaxed);
        BodyError(error)
    }

    fn on_frame(&mut self, frame: &Frame<Bytes>) -> Result<(), BodyError> {
        let count = frame.data_ref().map_or(0, Bytes::len);
        self.received = self.received.saturating_add(count as u64);
        if let Some(rate) = &mut self.rate {
            rate.received(count);
        }
        match self.max {
            Some(max) if self.received > max => {
                Err(self.exceeded(TOO_LARGE, BodyErrorKind::TooLarge { max }))
            }
            _ => Ok(()),
        }
    }

    fn on_wait(&mut self, context: &mut Context<'_>) -> Result<(), BodyError> {
        let rate = self.rate.as_mut();
        match rate.is_some_and(|rate| rate.is_too_slow(context)) {
            true => Err(self.exceeded(TOO_SLOW, BodyErrorKind::TooSlow)),
            false => Ok(()),
        }
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let Self { incoming, limits } = self.get_mut();
        let polled = Pin::new(incoming).poll_frame(context);
        let Some(limits) = limits else {
            return polled.map_err(|error| BodyError(BodyErrorKind::Connection(error)));
        };
        if limits.verdict.status().is_some() {
            return Poll::Ready(None);
        }
        match polled {
            Poll::Ready(Some(Ok(frame))) => {
                Poll::Ready(Some(limits.on_frame(&frame).map(|()| frame)))
            }
            Poll::Ready(Some(Err(error))) => {
                Poll::Ready(Some(Err(BodyError(BodyErrorKind::Connection(error)))))
            }
            Poll::Ready(None) => Poll::Ready(None),
            Poll::Pending => match limits.on_wait(context) {
                Ok(()) => Poll::Pending,
                Err(error) => Poll::Ready(Some(Err(error))),
            },
        }
    }

    fn is_end_stream(&self) -> bool {
        http_body::Body::is_end_stream(&self.incoming)
    }

    fn size_hint(&self) -> SizeHint {
        http_body::Body::size_hint(&self.incoming)
    }
}

/// A body that did not arrive in full.
#[derive(Debug)]
pub struct BodyError(BodyErrorKind);

#[derive(Debug)]
enum BodyErrorKind {
    TooLarge { max: u64 },
    TooSlow,
    Connection(hyper::Error),
}

impl BodyError {
    /// Returns whether the body exceeds [`max_body`](crate::Builder::max_body).
    #[must_use]
    pub fn is_too_large(&self) -> bool {
        matches!(self.0, BodyErrorKind::TooLarge { .. })
    }

    /// Returns whether the body arrived too slowly: see
    /// [`min_body_rate`](crate::Builder::min_body_rate).
    #[must_use]
    pub fn is_too_slow(&self) -> bool {
        matches!(self.0, BodyErrorKind::TooSlow)
    }
}

impl fmt::Display for BodyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            BodyErrorKind::TooLarge { max } => write!(f, "body exceeds max_body of {max} bytes"),
            BodyErrorKind::TooSlow => f.write_str("body arrives more slowly than min_body_rate"),
            BodyErrorKind::Connection(error) => error.fmt(f),
        }
    }
}

impl Error for BodyError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match &self.0 {
            BodyErrorKind::Connection(error) => Some(error),
            _ => None,
        }
    }
}
