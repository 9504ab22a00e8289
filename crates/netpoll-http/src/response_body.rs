// SPDX-License-Identifier: MIT OR Apache-2.0
//! The body of an answer. Its request is in flight as long as it lives.

use std::pin::Pin;
use std::task::{Context, Poll};

use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;

use crate::activity::RequestGuard;

pin_project! {
    /// The body of a service's answer, or of an answer of this crate, which is empty.
    pub(crate) struct ResponseBody<B> {
        #[pin]
        body: Option<B>,
        guard: RequestGuard,
    }
}

impl<B> ResponseBody<B> {
    pub(crate) fn new(body: Option<B>, guard: RequestGuard) -> Self {
        Self { body, guard }
    }
}

impl<B: Body> Body for ResponseBody<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        match self.project().body.as_pin_mut() {
            Some(body) => body.poll_frame(context),
            None => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        let body = self.body.as_ref();
        body.map_or_else(|| SizeHint::with_exact(0), Body::size_hint)
    }
}
