// SPDX-License-Identifier: MIT OR Apache-2.0
//! A server of lines without an event loop: tokio accepts connections, and runs a task for each.
//! Every line is sent back until the peer ends its stream.
//!
//! `cargo run --release -p netpoll-examples --example accept_loop`, and in another terminal
//! `nc 127.0.0.1 8080`.
#![forbid(unsafe_code)]

use std::io;

use netpoll::{Connection, Listener};

/// The longest line, with its end.
const MAX_LINE: usize = 64 << 10;

#[tokio::main(flavor = "current_thread")]
async fn main() -> io::Result<()> {
    // At 1000 open connections, the kernel queues further ones.
    let listener = Listener::bind("127.0.0.1:8080")?.max_connections(1000);
    println!("listening on {}", listener.local_addr()?);
    loop {
        let (conn, info) = listener.accept().await?;
        tokio::spawn(async move {
            if let Err(error) = echo_lines(conn).await {
                eprintln!("{}: {error}", info.peer_addr());
            }
        });
    }
}

/// Answers each line with itself. The task owns the connection: the return closes it.
async fn echo_lines(mut conn: Connection) -> io::Result<()> {
    let (mut reader, mut writer) = conn.split();
    loop {
        match reader.until(b'\n', MAX_LINE).await {
            Ok(line) => writer.put_slice(line),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
            Err(error) => return Err(error),
        }
        // Waits while the peer reads more slowly than it sends.
        writer.flush().await?;
    }
}
