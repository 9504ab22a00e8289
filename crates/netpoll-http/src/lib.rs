// SPDX-License-Identifier: MIT OR Apache-2.0
//! HTTP servers on [`netpoll`]: [hyper](https://docs.rs/hyper) on the poller of each connection.
//!
//! ```no_run
//! use axum::{Router, routing::get};
//! use netpoll::Listener;
//! use netpoll_http::Server;
//!
//! fn main() -> std::io::Result<()> {
//!     let app = Router::new().route("/", get(async || "hello"));
//!     Server::builder()
//!         .service(app)
//!         .listen(Listener::bind("127.0.0.1:8080")?)
//!         .serve()
//! }
//! ```
//!
//! # Services
//!
//! A service is a [`tower_service::Service`] of `Request<`[`Body`]`>`, or an async closure in
//! [`service_fn()`]. It runs on the poller of its connection, and its futures need not be `Send`. A
//! service that blocks delays all connections of the poller.
//!
//! | method | services |
//! |---|---|
//! | [`Builder::service`] | one, cloned for each request |
//! | [`Builder::service_per_connection`] | one for each connection, which may depend on its peer |
//! | [`Builder::service_per_poller`] | one for each thread, with state that needs no lock |
//!
//! Each request has the [`ConnInfo`] of its connection in its extensions.
//!
//! Libraries that call `tokio::spawn` or tokio's timers need a tokio runtime on the thread: feature
//! `tokio` of netpoll, and `Builder::enter_tokio` in [`Builder::event_loop`].
//!
//! # Limits
//!
//! | what | default | exceeded |
//! |---|---|---|
//! | first byte of a connection | 10 s | closed |
//! | [head](Builder::head_timeout) of a request, from its first byte | 10 s | closed |
//! | size of a head: HTTP/1, HTTP/2 | 64 KiB, 16 KiB | 431 |
//! | [rate](Builder::min_body_rate) of a body that is awaited | 240 B/s over 30 s | 408 |
//! | [size](Builder::max_body) of a body | none | 413 |
//! | time [without a request](Builder::keep_alive) | 75 s | closed in order, GOAWAY |
//! | HTTP/2: streams at once | 128 | refused |
//! | HTTP/2: windows of a stream, of the connection | 64 KiB, 1 MiB | the peer waits |
//! | HTTP/2: streams that the peer resets before they are accepted | 20 | GOAWAY, closed |
//! | HTTP/2: answer to a ping, sent every 20 s | 10 s | closed |
//!
//! # Ends
//!
//! A [shutdown](netpoll::LoopHandle::shutdown) lets each connection answer what it has received: an
//! HTTP/1 answer then has `connection: close`, and an HTTP/2 peer gets GOAWAY. At the deadline the
//! rest is aborted. `max_age` of netpoll does the same for one connection.
//!
//! A panic in a service ends its connection (HTTP/1) or resets its stream (HTTP/2). The end of a
//! connection drops the futures of its requests.

#![forbid(unsafe_code)]

mod activity;
mod body;
mod body_rate;
mod conn_info;
mod connection;
mod io;
mod phase_clock;
mod protocol;
mod request_service;
mod response_body;
mod server;
mod service_fn;
mod settings;

/// Compiles the program of the README.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

/// The code of the guide compiles.
#[cfg(doctest)]
#[doc = include_str!("../docs/guide/http.md")]
struct Guide;

pub use body::{Body, BodyError};
pub use conn_info::ConnInfo;
pub use netpoll;
pub use server::{Builder, Server};
pub use service_fn::{ServiceFn, service_fn};
