// SPDX-License-Identifier: MIT OR Apache-2.0
//! An echo server without copies: it sends the memory that it received into.
//!
//! `cargo run --release -p netpoll-examples --example echo`, and in another terminal `nc 127.0.0.1
//! 8081`.
#![forbid(unsafe_code)]

use netpoll::{Connection, EventLoop};

fn main() -> std::io::Result<()> {
    EventLoop::builder()
        .on_request(async |conn: &mut Connection| {
            let (mut reader, mut writer) = conn.split();
            if let Some(bytes) = reader.chunk().await? {
                writer.append(bytes);
            }
            Ok(())
        })
        .serve("127.0.0.1:8081")
}
