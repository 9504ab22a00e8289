// SPDX-License-Identifier: MIT OR Apache-2.0
//! tower: a client as a tower service, for tower's timeouts, retries and load balancing.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tower_service::Service;

use crate::mux::{CallCodec, Client};

/// Ready when a further call may start, as limited by
/// [`ClientOptions::max_in_flight`](crate::mux::ClientOptions). The next call of this clone uses
/// the permit that `poll_ready` acquired; dropping the clone releases it. One allocation a call, in
/// addition to those of [`Client::call`].
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
