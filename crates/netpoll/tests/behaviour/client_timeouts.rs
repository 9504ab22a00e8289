// SPDX-License-Identifier: MIT OR Apache-2.0
//! Every timeout works on the client side, too: on a dialed connection and on that of a mux client,
//! in each executor. Each timeout ends the connection to a server that exceeds it, and to no other.

use std::future::poll_fn;
use std::io;
use std::pin::pin;
use std::task::Poll;
use std::thread::sleep;
use std::time::Duration;

use netpoll::buffer::LinkBuffer;
use netpoll::codec::LengthField;
use netpoll::error::{ErrorExt, ErrorKind, Timeout};
use netpoll::mux::{Client, Message};
use netpoll::options::{MinRate, Timeouts};
use netpoll::{CloseReason, Connection};
use socket2::SockRef;

use crate::mux::{answer, codec, echo, request};
use crate::support::{Peer, retry_if_late, with_a_peer_in_each_executor};
use crate::timeouts::SHORT;

/// The timeout under test.
const PATIENCE: Duration = SHORT.saturating_mul(2);

/// How late threads may run before a server exceeds a timeout that it should meet.
const SLACK: Duration = Duration::from_millis(25);

/// A large request: more than the sockets here hold.
const LARGE: usize = 3 << 20;

/// The steps of a client and its server.
#[derive(Clone, Copy)]
struct Script {
    /// The lengths of the requests, each sent after the answer to the one before it.
    requests: &'static [usize],
    /// How long the client waits after each answer.
    pause: Duration,
    /// The server's steps before it closes the connection, or keeps it open and silent.
    serves: fn(&mut Peer),
}

/// The number of answers, and the timeout that ended the connection, if one did.
type Outcome = (usize, Option<Timeout>);

/// Returns the timeout that an error reports.
fn timeout_of(error: &io::Error) -> Option<Timeout> {
    match error.netpoll_kind()? {
        ErrorKind::TimedOut { timeout, .. } => Some(timeout),
        ErrorKind::Closed {
            reason: CloseReason::Timeout(timeout),
            ..
        } => Some(timeout),
        _ => None,
    }
}

/// Runs the script with the reader and the writer of a dialed connection.
async fn by_reader_and_writer(mut conn: Connection, script: Script) -> Outcome {
    let codec = LengthField::new();
    for (answered, length) in script.requests.iter().enumerate() {
        let (mut reader, mut writer) = conn.split();
        let mut request = LinkBuffer::new();
        request.put_slice(&vec![0; 8 + length]);
        writer.frame(&codec, request).expect("a frame");
        match reader.frame(&codec).await {
            Ok(Some(_)) => netpoll::time::sleep(script.pause).await,
            Ok(None) => return (answered, None),
            Err(error) => return (answered, timeout_of(&error)),
        }
    }
    (script.requests.len(), end_of(conn).await)
}

/// Waits until a connection without a pending request ends, or should take no more requests.
async fn end_of(mut conn: Connection) -> Option<Timeout> {
    let mut draining = pin!(conn.draining());
    let read = {
        let mut reader = conn.reader();
        let mut read = pin!(reader.wait(1));
        poll_fn(|context| match read.as_mut().poll(context) {
            Poll::Ready(read) => Poll::Ready(Some(read)),
            Poll::Pending => draining.as_mut().poll(context).map(|()| None),
        })
        .await
    };
    if read.is_none() && conn.is_active() {
        // It has reached its maximum age, and its user has to close it.
        return Some(Timeout::MaxAge);
    }
    let read = match read {
        Some(read) => read,
        None => conn.reader().wait(1).await,
    };
    timeout_of(&read.expect_err("no more answers"))
}

/// Runs the script with a mux client.
async fn by_mux(conn: Connection, script: Script) -> Outcome {
    let handle = conn.handle();
    let client = Client::new(conn, codec());
    for (answered, length) in script.requests.iter().enumerate() {
        match client.call(Message::new(&vec![0; *length])).await {
            Ok(_) => netpoll::time::sleep(script.pause).await,
            Err(error) => return (answered, timeout_of(&error)),
        }
    }
    let end = match handle.closed().await {
        CloseReason::Timeout(which) => Some(which),
        _ => None,
    };
    (script.requests.len(), end)
}

/// Runs `script` over a new connection in each executor, with and without a mux client.
fn run(
    change: fn(Timeouts) -> Timeouts,
    script: Script,
    closes: bool,
) -> Vec<(&'static str, Outcome)> {
    let serves = move |mut peer: Peer| {
        (script.serves)(&mut peer);
        (!closes).then_some(peer)
    };
    let begin = move |conn: &Connection| {
        let small = SockRef::from(conn).set_send_buffer_size(64 << 10);
        small.expect("an open socket");
        let timeouts = Timeouts::for_dialing()
            .min_rate(None)
            .write(None)
            .linger(Duration::from_millis(1));
        let set = conn.set_timeouts(change(timeouts));
        set.expect("times above zero");
    };
    let dialed = with_a_peer_in_each_executor(serves, move |conn| {
        begin(&conn);
        by_reader_and_writer(conn, script)
    });
    let called = with_a_peer_in_each_executor(serves, move |conn| {
        begin(&conn);
        by_mux(conn, script)
    });
    let dialed = dialed.into_iter().map(|outcome| ("Dialer", outcome));
    let called = called.into_iter().map(|outcome| ("mux::Client", outcome));
    dialed.chain(called).collect()
}

/// Checks that `which` ends the connection of `triggers` after the given number of answers, and
/// that `keeps` gets all its answers.
fn each(
    change: fn(Timeouts) -> Timeouts,
    which: Timeout,
    triggers: (usize, Script),
    keeps: Script,
) {
    let (answered, triggers) = triggers;
    retry_if_late(SLACK, || {
        for (way, outcome) in run(change, triggers, false) {
            assert_eq!(outcome, (answered, Some(which)), "{way}");
        }
        for (way, outcome) in run(change, keeps, true) {
            assert_eq!(outcome, (keeps.requests.len(), None), "{way}");
        }
    });
}

/// Returns a script of one small request.
fn one(serves: fn(&mut Peer)) -> Script {
    Script {
        requests: &[1],
        pause: Duration::ZERO,
        serves,
    }
}

#[test]
fn first_byte_timeout_ends_a_connection_to_a_server_that_never_sends() {
    let keeps = Script {
        requests: &[1, 1],
        pause: PATIENCE * 2,
        serves: |peer| echo(peer, 2),
    };
    each(
        |timeouts| timeouts.first_byte(PATIENCE),
        Timeout::FirstByte,
        (0, one(|peer| drop(request(peer)))),
        keeps,
    );
}

#[test]
fn idle_timeout_ends_a_client_connection_without_a_pending_request() {
    let keeps = Script {
        requests: &[1; 6],
        pause: PATIENCE / 3,
        serves: |peer| echo(peer, 6),
    };
    each(
        |timeouts| timeouts.idle(PATIENCE),
        Timeout::Idle,
        (1, one(|peer| echo(peer, 1))),
        keeps,
    );
}

#[test]
fn max_age_ends_a_dialed_connection() {
    each(
        |timeouts| timeouts.max_age(PATIENCE),
        Timeout::MaxAge,
        (1, one(|peer| echo(peer, 1))),
        one(|peer| echo(peer, 1)),
    );
}

#[test]
fn write_timeout_ends_a_connection_to_a_server_that_does_not_read() {
    let large = |serves| Script {
        requests: &[LARGE],
        pause: Duration::ZERO,
        serves,
    };
    each(
        |timeouts| timeouts.write(PATIENCE),
        Timeout::Write,
        (0, large(|_does_not_read| ())),
        large(|peer| {
            let (id, _) = request(peer);
            answer(peer, id, b"all of it");
        }),
    );
}

#[test]
fn read_timeout_ends_a_connection_with_half_an_answer_but_not_a_slow_one() {
    each(
        |timeouts| timeouts.read(PATIENCE),
        Timeout::Read,
        (
            0,
            one(|peer| {
                request(peer);
                peer.send(&[0, 0, 0, 9, 0]);
            }),
        ),
        one(|peer| {
            let (id, _) = request(peer);
            sleep(PATIENCE / 4);
            peer.send(&[0, 0, 0, 9]);
            sleep(PATIENCE / 4);
            peer.send(&[&id.to_be_bytes()[..], b"x"].concat());
        }),
    );
}

#[test]
fn min_rate_ends_a_connection_to_a_server_that_sends_too_slowly() {
    each(
        |timeouts| timeouts.min_rate(MinRate::new(2000, PATIENCE)),
        Timeout::MinRate,
        (
            0,
            one(|peer| {
                request(peer);
                peer.send(&1000_u32.to_be_bytes());
                while io::Write::write_all(&mut peer.stream, b"x").is_ok() {
                    sleep(PATIENCE / 10);
                }
            }),
        ),
        one(|peer| {
            let (id, _) = request(peer);
            answer(peer, id, &[b'x'; 1000]);
        }),
    );
}
