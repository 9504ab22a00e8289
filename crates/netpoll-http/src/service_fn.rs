// SPDX-License-Identifier: MIT OR Apache-2.0
//! [`service_fn()`]: an async closure as a service.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use hyper::{Request, Response};
use tower_service::Service;

use crate::body::Body;

/// Makes a service of an async closure or function, whose futures need not be `Send`.
///
/// A call costs one allocation.
///
/// ```no_run
/// use http_body_util::Full;
/// use hyper::body::Bytes;
/// use hyper::{Request, Response};
/// use netpoll::{BoxError, Listener};
/// use netpoll_http::{Body, Server, service_fn};
///
/// fn main() -> std::io::Result<()> {
///     let hello = service_fn(async |request: Request<Body>| {
///         let text = format!("hello from {}\n", request.uri().path());
///         Ok::<_, BoxError>(Response::new(Full::new(Bytes::from(text))))
///     });
///     Server::builder()
///         .service(hello)
///         .listen(Listener::bind("127.0.0.1:8080")?)
///         .serve()
/// }
/// ```
pub fn service_fn<F, B, E>(handler: F) -> ServiceFn<F>
where
    F: AsyncFn(Request<Body>) -> Result<Response<B>, E> + 'static,
{
    ServiceFn(Arc::new(handler))
}

/// The service that [`service_fn()`] returns. A clone counts a reference.
pub struct ServiceFn<F>(Arc<F>);

impl<F> Clone for ServiceFn<F> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<F> fmt::Debug for ServiceFn<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ServiceFn")
            .field(&std::any::type_name::<F>())
            .finish()
    }
}

impl<F, B, E> Service<Request<Body>> for ServiceFn<F>
where
    F: AsyncFn(Request<Body>) -> Result<Response<B>, E> + 'static,
    B: 'static,
    E: 'static,
{
    type Response = Response<B>;
    type Error = E;
    type Future = Pin<Box<dyn Future<Output = Result<Response<B>, E>>>>;

    fn poll_ready(&mut self, _context: &mut Context<'_>) -> Poll<Result<(), E>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let handler = Arc::clone(&self.0);
        Box::pin(async move { (*handler)(request).await })
    }
}
