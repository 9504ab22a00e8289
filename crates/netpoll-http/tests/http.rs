// SPDX-License-Identifier: MIT OR Apache-2.0
//! HTTP over real sockets: hyper's own client, and raw sockets for peers that misbehave.

#[path = "http/client.rs"]
mod client;
#[path = "http/draining.rs"]
mod draining;
#[path = "http/limits.rs"]
mod limits;
#[path = "http/serving.rs"]
mod serving;
#[path = "http/storms.rs"]
mod storms;

use std::net::SocketAddr;
use std::time::Duration;

use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::{Request, Response};
use netpoll::{BoxError, Listener, LoopHandle};
use netpoll_http::{Body, Builder, Server, service_fn};

/// After this time a wait fails its test. No test passes because of it.
const LIMIT: Duration = Duration::from_secs(60);

/// A running server, which ends with the test.
struct Running {
    handle: LoopHandle,
    addr: SocketAddr,
}

impl Running {
    fn start(builder: Builder) -> Self {
        let listener = Listener::bind("127.0.0.1:0").expect("a free port");
        let handle = builder.listen(listener).spawn().expect("a server");
        let addr = handle.local_addrs()[0].as_tcp().expect("a TCP listener");
        Self { handle, addr }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.handle.shutdown(Duration::ZERO));
    }
}

/// Answers with the body of the request, or `hello` if that is empty.
async fn echo(request: Request<Body>) -> Result<Response<Full<Bytes>>, BoxError> {
    let body = request.into_body().collect().await?.to_bytes();
    let body = match body.is_empty() {
        true => Bytes::from_static(b"hello"),
        false => body,
    };
    Ok(Response::new(Full::new(body)))
}

fn echo_server() -> Builder {
    Server::builder().service(service_fn(echo))
}
