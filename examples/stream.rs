// SPDX-License-Identifier: MIT OR Apache-2.0
//! A server that sends first, and for as long as the peer reads. The handler owns the connection,
//! and `flush` sets its pace.
//!
//! `cargo run --release -p netpoll-examples --example stream`, and in another terminal `nc
//! 127.0.0.1 8082 | head`.
#![forbid(unsafe_code)]

use netpoll::{Connection, EventLoop};

fn main() -> std::io::Result<()> {
    EventLoop::builder()
        .on_connection(async |mut conn: Connection| {
            let mut writer = conn.writer();
            for number in 0u64.. {
                writer.put_str(&format!("line {number}\n"));
                // Waits until the kernel has taken the line: a peer that does not read blocks the
                // handler here.
                writer.flush().await?;
            }
            Ok(())
        })
        .on_disconnect(|conn, reason| eprintln!("{}: {reason}", conn.peer_addr()))
        .serve("127.0.0.1:8082")
}
