// SPDX-License-Identifier: MIT OR Apache-2.0
//! The proxy: forwards bytes in both directions without a copy, each at the pace of its receiver.
//!
//! * End of a stream: the proxy forwards it, and the other direction continues until it has been
//!   silent for too long. A client that has gone leaves no connection open.
//! * Reset: the proxy resets the other side.
//! * Drain: the client's stream ends towards the server as if the client had ended it. The server
//!   answers what was forwarded, and then both connections end.

use std::io;
use std::pin::{Pin, pin};
use std::task::Poll;
use std::time::{Duration, Instant};

use netpoll::buffer::LinkBuffer;
use netpoll::connection::{ConnectionHandle, OwnedReader, OwnedWriter};
use netpoll::error::{ErrorExt, Timeout};
use netpoll::options::ConnOptions;
use netpoll::time::timeout;
use netpoll::{Addr, BoxError, CloseReason, Connection, Dialer};

/// How often the direction that is left is checked.
const CHECK_INTERVAL: Duration = Duration::from_millis(500);

/// Returns a handler that connects each client with `upstream`, a connection with the options
/// `bounds`. Once one side has ended its stream, the other direction may be silent for `half_open`.
pub(super) fn handler(
    upstream: Addr,
    bounds: ConnOptions,
    half_open: Option<Duration>,
) -> impl AsyncFn(Connection) -> Result<(), BoxError> + Send + Sync + 'static {
    let dialer = Dialer::new().options(bounds);
    async move |client: Connection| {
        let server = dialer.dial(upstream).await?;
        let (client_end, server_end) = (client.handle(), server.handle());
        let (from_client, to_client) = client.into_split();
        let (from_server, to_server) = server.into_split();
        let answers = netpoll::spawn(relay(from_server, to_client))?;
        let mut requests = pin!(relay(from_client, to_server));
        let mut answers = pin!(async move { answers.await? });
        let (first, ended) = std::future::poll_fn(|context| {
            if let Poll::Ready(ended) = requests.as_mut().poll(context) {
                return Poll::Ready((Direction::Requests, ended));
            }
            let answered = answers.as_mut().poll(context);
            answered.map(|ended| (Direction::Answers, ended))
        })
        .await;
        ended?;
        let ended = match first {
            Direction::Requests => {
                wait_for_other_direction(answers, &server_end, &client_end, half_open).await
            }
            Direction::Answers => {
                wait_for_other_direction(requests, &client_end, &server_end, half_open).await
            }
        };
        ended.map_err(BoxError::from)
    }
}

/// A direction of a proxied connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Direction {
    Requests,
    Answers,
}

/// Forwards one direction to its end, and the end of the stream after it. If one side fails, both
/// are ended.
async fn relay(mut from: OwnedReader, mut to: OwnedWriter) -> io::Result<()> {
    let moved = forward(&mut from, &mut to).await;
    if let Err(error) = &moved {
        for end in [from.handle(), to.handle()] {
            // An error of the kernel means that a side is gone.
            match error.raw_os_error() {
                Some(_) => end.abort(),
                None => end.close(),
            }
        }
    }
    moved
}

async fn forward(from: &mut OwnedReader, to: &mut OwnedWriter) -> io::Result<()> {
    loop {
        match from.chunk().await {
            Ok(Some(bytes)) => to.append(bytes),
            Ok(None) => break,
            Err(error) if is_drained(&error) => break,
            Err(error) => return Err(error),
        }
        to.writable().await?;
    }
    to.shutdown();
    to.flush().await
}

/// Returns whether the connection is draining: it reads no more, and requests in progress are still
/// answered.
fn is_drained(error: &io::Error) -> bool {
    matches!(
        error.close_reason(),
        Some(CloseReason::Shutdown | CloseReason::Timeout(Timeout::MaxAge))
    )
}

/// Waits for the direction that is left. Ends both connections if nothing moves for `silence`, or
/// if the receiver is gone.
async fn wait_for_other_direction(
    mut direction: Pin<&mut impl Future<Output = io::Result<()>>>,
    from: &ConnectionHandle,
    to: &ConnectionHandle,
    silence: Option<Duration>,
) -> io::Result<()> {
    let look = silence.map_or(CHECK_INTERVAL, |silence| CHECK_INTERVAL.min(silence / 4));
    let look = look.max(Duration::from_millis(1));
    let mut seen = (bytes_forwarded(from, to), Instant::now());
    loop {
        if let Ok(ended) = timeout(look, direction.as_mut()).await {
            return ended;
        }
        if to.write_queue().try_send(LinkBuffer::new()).is_err() {
            from.abort();
            to.abort();
            return Err(io::ErrorKind::ConnectionReset.into());
        }
        let now = bytes_forwarded(from, to);
        if now != seen.0 {
            seen = (now, Instant::now());
        } else if silence.is_some_and(|silence| seen.1.elapsed() >= silence) {
            from.close();
            to.close();
            return Err(io::ErrorKind::TimedOut.into());
        }
    }
}

/// Returns the bytes received from one connection and the bytes sent to the other.
fn bytes_forwarded(from: &ConnectionHandle, to: &ConnectionHandle) -> (u64, u64) {
    let received = from.stats().map_or(0, |stats| stats.received);
    (received, to.stats().map_or(0, |stats| stats.sent))
}
