// SPDX-License-Identifier: MIT OR Apache-2.0
//! An HTTP server of one closure, for HTTP/1 and HTTP/2.
//!
//! `cargo run --release -p netpoll-examples --example http_hello`, and in another terminal `curl
//! http://127.0.0.1:8088/` or `curl --http2-prior-knowledge http://127.0.0.1:8088/`.
#![forbid(unsafe_code)]

use std::time::Duration;

use http_body_util::Full;
use hyper::body::Bytes;
use hyper::{Request, Response};
use netpoll::{BoxError, Listener};
use netpoll_http::{Body, ConnInfo, Server, service_fn};

async fn hello(request: Request<Body>) -> Result<Response<Full<Bytes>>, BoxError> {
    let info = request.extensions().get::<ConnInfo>();
    let peer = info.map_or_else(String::new, |info| info.peer_addr().to_string());
    let text = format!("hello {peer}, this is {}\n", request.uri().path());
    Ok(Response::new(Full::new(Bytes::from(text))))
}

fn main() -> std::io::Result<()> {
    Server::builder()
        .service(service_fn(hello))
        // The first SIGTERM or SIGINT answers the requests in flight, and ends the server.
        .event_loop(|event_loop| event_loop.shutdown_on_signals(Duration::from_secs(10)))
        .listen(Listener::bind("127.0.0.1:8088")?)
        .serve()
}
