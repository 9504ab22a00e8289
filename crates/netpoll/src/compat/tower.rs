// SPDX-License-Identifier: MIT OR Apache-2.0
//! A client as a service of tower's: what is made of such, timeouts, retries, the choice among several
//! servers, works on it.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tower_service::Service;

use crate::mux::{CallCodec, Client};

/// Ready when a call may be under way: [`ClientOptions::max_in_flight`](crate::mux::ClientOptions)
/// is felt there. A turn that was waited for is kept for the next call of this clone, or given back
/// with it. One allocation a call beside those of [`Client::call`].
impl<C: CallCodec> Service<C::Frame> for Client<C> {
    type Response = C::Frame;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<C::Frame>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_permit(context).map(Ok)
    }

    fn call(&mut self, request: C::Frame) -> Self::Future {
        Box::pin(self.call_with_permit(request))
    }
}
