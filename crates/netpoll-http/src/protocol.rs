// SPDX-License-Identifier: MIT OR Apache-2.0
//! The choice between HTTP/1 and HTTP/2, by the first bytes of a connection.

use std::future::{Future, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::task::Poll;
use std::time::{Duration, Instant};

use netpoll::Connection;
use netpoll::time::{sleep_until, timeout};

use crate::settings::DRAIN_GRACE;

/// What an HTTP/2 client sends first.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    Http1,
    Http2,
}

/// Waits for the first byte of the connection. Returns `false` if the peer sends none: it ends its
/// stream, or the server drains and the time for a request that may be on its way is over.
pub(crate) async fn wait_for_first_byte(
    conn: &mut Connection,
    mut draining: impl Future<Output = ()> + Unpin,
) -> io::Result<bool> {
    let mut grace = pin!(sleep_until(Instant::now() + DRAIN_GRACE));
    let mut is_draining = false;
    poll_fn(|context| {
        if let Poll::Ready(bytes) = conn.poll_fill_buf(context) {
            return Poll::Ready(bytes.map(|bytes| !bytes.is_empty()));
        }
        is_draining = is_draining || Pin::new(&mut draining).poll(context).is_ready();
        if is_draining && grace.as_mut().poll(context).is_ready() {
            return Poll::Ready(Ok(false));
        }
        Poll::Pending
    })
    .await
}

/// Reads as much of the connection as is needed to know the protocol, and consumes nothing. `None`
/// if the peer takes longer than `limit` or ends its stream within the preface.
pub(crate) async fn detect(conn: &mut Connection, limit: Duration) -> io::Result<Option<Protocol>> {
    let decide = async {
        let mut reader = conn.reader();
        let mut count = 1;
        loop {
            // What has arrived, and one byte more than was looked at last.
            let bytes = reader.peek(count).await?;
            if bytes != &PREFACE[..bytes.len()] {
                return io::Result::Ok(Some(Protocol::Http1));
            }
            if bytes.len() == PREFACE.len() {
                return Ok(Some(Protocol::Http2));
            }
            count = reader.available().clamp(count + 1, PREFACE.len());
        }
    };
    match timeout(limit, decide).await {
        Ok(Err(error)) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
        Ok(decided) => decided,
        Err(_elapsed) => Ok(None),
    }
}
