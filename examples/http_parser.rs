// SPDX-License-Identifier: MIT OR Apache-2.0
//! A parser of another crate on the received bytes: a server that answers HTTP requests without a
//! body. The parser borrows the bytes where they were received, and says how many it has used.
//!
//! `cargo run --release -p netpoll-examples --example http_parser`, and in another terminal
//! `curl http://127.0.0.1:8084/index`.
#![forbid(unsafe_code)]

use std::io;

use httparse::{EMPTY_HEADER, Request, Status};
use netpoll::{Connection, EventLoop, Reader};

/// A head that is longer is rejected, so that a peer cannot have an endless one parsed again.
const HEAD_MAX: usize = 8 << 10;

fn main() -> io::Result<()> {
    EventLoop::builder()
        .on_request(async |conn: &mut Connection| {
            let (mut reader, mut writer) = conn.split();
            let path = read_head(&mut reader).await?;
            let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", path.len());
            writer.put_slices(&[head.as_bytes(), path.as_bytes()]);
            Ok(())
        })
        .on_disconnect(|conn, reason| eprintln!("{}: {reason}", conn.peer_addr()))
        .serve("127.0.0.1:8084")
}

/// Reads the head of a request, and returns its path.
async fn read_head(reader: &mut Reader<'_>) -> io::Result<String> {
    loop {
        let bytes = reader.buffered();
        let mut headers = [EMPTY_HEADER; 32];
        let mut request = Request::new(&mut headers);
        match request.parse(bytes).map_err(invalid)? {
            Status::Complete(length) => {
                let path = request.path.unwrap_or_default().to_owned();
                reader.consume(length)?;
                return Ok(path);
            }
            Status::Partial if bytes.len() >= HEAD_MAX => return Err(invalid("head above 8 KiB")),
            Status::Partial => {}
        }
        if !reader.more().await? {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}

fn invalid(error: impl Into<netpoll::BoxError>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}
