// SPDX-License-Identifier: MIT OR Apache-2.0
//! Relays between its clients and another server. Both sides of a relay are driven by one poller,
//! and no byte is copied on the way: what was received from one side is sent to the other.
//!
//! `cargo run --release -p netpoll-examples --example tcp_proxy -- 127.0.0.1:8081`
#![forbid(unsafe_code)]

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::Poll;

use netpoll::{Addr, BoxError, Connection, Dialer, EventLoop, Reader, Writer};

fn main() -> Result<(), BoxError> {
    let upstream: Addr = std::env::args()
        .nth(1)
        .unwrap_or("127.0.0.1:8081".into())
        .parse()?;
    EventLoop::builder()
        .on_connection(async move |mut client: Connection| {
            let mut server = Dialer::new().dial(upstream).await?;
            let (from_client, to_client) = client.split();
            let (from_server, to_server) = server.split();
            let requests = relay(from_client, to_server);
            let answers = relay(from_server, to_client);
            first_of(requests, answers).await
        })
        .serve("127.0.0.1:8083")?;
    Ok(())
}

/// Moves what comes until there is no more, at the pace of whoever takes it.
async fn relay(mut from: Reader<'_>, mut to: Writer<'_>) -> Result<(), BoxError> {
    while let Some(bytes) = from.chunk().await? {
        to.append(bytes);
        to.flush().await?;
    }
    Ok(())
}

/// The result of whichever ends first; the other is dropped, which loses no byte of its input.
async fn first_of<T>(one: impl Future<Output = T>, other: impl Future<Output = T>) -> T {
    let (mut one, mut other) = (pin!(one), pin!(other));
    poll_fn(|context| match one.as_mut().poll(context) {
        Poll::Ready(result) => Poll::Ready(result),
        Poll::Pending => other.as_mut().poll(context),
    })
    .await
}
