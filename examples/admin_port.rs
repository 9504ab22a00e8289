// SPDX-License-Identifier: MIT OR Apache-2.0
//! An echo service on one port and an admin protocol on another, served by one loop.
//!
//! The admin port is bound to a Unix socket, so that only processes of the same user reach it:
//!
//! ```text
//! cargo run --release -p netpoll-examples --example admin_port
//! echo stats | nc -NU /tmp/netpoll-admin.sock
//! echo drain | nc -NU /tmp/netpoll-admin.sock
//! ```
#![forbid(unsafe_code)]

use std::time::Duration;

use netpoll::{BoxError, Connection, EventLoop, Listener, LoopHandle};

async fn echo(conn: &mut Connection) -> Result<(), BoxError> {
    let (mut reader, mut writer) = conn.split();
    writer.put_slice(reader.until(b'\n', 4096).await?);
    Ok(())
}

async fn admin(conn: &mut Connection, handle: &LoopHandle) -> Result<(), BoxError> {
    let (mut reader, mut writer) = conn.split();
    match reader.until(b'\n', 64).await?.trim_ascii() {
        b"stats" => {
            let stats = handle.stats();
            let (open, requests) = (stats.connections, stats.total().requests);
            writer.put_str(&format!("{open} connections, {requests} requests\n"));
        }
        b"drain" => {
            drop(handle.shutdown(Duration::from_secs(30)));
            writer.put_str("draining\n");
        }
        _ => {
            writer.put_str("commands: stats, drain\n");
        }
    }
    Ok(())
}

fn main() -> std::io::Result<()> {
    let builder = EventLoop::builder();
    // Exists before the loop, so that the admin handler can own it.
    let handle = builder.handle();
    builder
        .on_request(echo)
        .listen_with(
            Listener::bind("unix:/tmp/netpoll-admin.sock")?,
            async move |conn: &mut Connection| admin(conn, &handle).await,
        )
        .shutdown_on_signals(Duration::from_secs(30))
        .serve("127.0.0.1:8085")
}
