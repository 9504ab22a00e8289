// SPDX-License-Identifier: MIT OR Apache-2.0
//! The server of the README: it reads a length and a payload, and returns both.
//!
//! `cargo run --release -p netpoll-examples --example rpc_server`, and in another terminal `cargo
//! run --release -- load rpc --addr 127.0.0.1:8080`.
#![forbid(unsafe_code)]

fn main() -> std::io::Result<()> {
    netpoll::EventLoop::builder()
        .on_request(async |conn: &mut netpoll::Connection| {
            let (mut reader, mut writer) = conn.split();
            let len = reader.read_u32().await?;
            let body = reader.next(len as usize).await?;
            writer.put_slices(&[&len.to_be_bytes(), body]);
            Ok(())
        })
        .serve("127.0.0.1:8080")
}
