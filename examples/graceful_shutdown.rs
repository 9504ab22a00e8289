// SPDX-License-Identifier: MIT OR Apache-2.0
//! A server that shuts down in order when it receives SIGTERM or SIGINT (Ctrl-C). It answers the
//! requests that were received, closes idle connections, and after ten seconds aborts the rest. A
//! second signal aborts them at once.
//!
//! `cargo run --release -p netpoll-examples --example graceful_shutdown`
#![forbid(unsafe_code)]

use std::time::Duration;

use netpoll::{Connection, EventLoop};

fn main() -> std::io::Result<()> {
    let handle = EventLoop::builder()
        .on_request(async |conn: &mut Connection| {
            let (mut reader, mut writer) = conn.split();
            let line = reader.until(b'\n', 4096).await?;
            writer.put_slice(line);
            Ok(())
        })
        .shutdown_on_signals(Duration::from_secs(10))
        .spawn("127.0.0.1:8084")?;

    println!(
        "listening on {}; press Ctrl-C to shut down",
        handle.local_addrs()[0]
    );
    handle.wait()?;
    let closed = handle.stats().closed;
    for (reason, count) in closed.iter().filter(|(_, count)| *count > 0) {
        println!("{count} connections ended: {reason}");
    }
    Ok(())
}
