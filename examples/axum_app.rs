// SPDX-License-Identifier: MIT OR Apache-2.0
//! An axum application on the pollers: routes, shared state and a limit of bodies.
//!
//! `cargo run --release -p netpoll-examples --example axum_app`, and in another terminal
//! `curl http://127.0.0.1:8089/count` and `curl -d text http://127.0.0.1:8089/echo`.
#![forbid(unsafe_code)]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::Router;
use axum::extract::{Path, State};
use axum::routing::{get, post};
use netpoll::Listener;
use netpoll_http::Server;

type Count = Arc<AtomicU64>;

async fn count(State(count): State<Count>) -> String {
    format!("{} requests\n", count.fetch_add(1, Ordering::Relaxed) + 1)
}

/// Waits with a timer of the poller, so that no tokio runtime is needed.
async fn wait(Path(millis): Path<u64>) -> &'static str {
    netpoll::time::sleep(Duration::from_millis(millis.min(10_000))).await;
    "done\n"
}

fn main() -> std::io::Result<()> {
    let app = Router::new()
        .route("/count", get(count))
        .route("/wait/{millis}", get(wait))
        .route("/echo", post(async |body: String| body))
        .with_state(Count::default());
    Server::builder()
        .service(app)
        .max_body(1 << 20)
        .event_loop(|event_loop| event_loop.shutdown_on_signals(Duration::from_secs(10)))
        .listen(Listener::bind("127.0.0.1:8089")?)
        .serve()
}
