// SPDX-License-Identifier: MIT OR Apache-2.0
//! Each timeout ends the wait or the connection that it limits, not early, and nothing else.

use std::io::{ErrorKind, Write};
use std::sync::mpsc::channel;
use std::thread::sleep;
use std::time::{Duration, Instant};

use bytes::Bytes;
use netpoll::error::{ErrorExt, ErrorKind as Kind, Timeout};
use netpoll::options::{MinRate, Timeouts};
use netpoll::{CloseReason, Connection, Handler};

use crate::support::{
    Gate, LIMIT, Server, Whole, block_on, bytes, frame, pair, retry_if_late, rpc, tight_listener,
};
use crate::timeout_builders::one_poller;

pub(crate) const SHORT: Duration = Duration::from_millis(100);

/// The largest delay of a thread with which a peer of these tests still meets its deadlines.
const SLACK: Duration = Duration::from_millis(12);

/// Returns the timeout that closed a connection. Fails if it was earlier than `time` after `since`.
#[track_caller]
pub(crate) fn ended_for(server: &Server, since: Instant, time: Duration) -> Timeout {
    match server.ending() {
        CloseReason::Timeout(which) => {
            let took = since.elapsed();
            assert!(took >= time, "{which:?} after {took:?}");
            which
        }
        other => panic!("closed for another reason: {other}"),
    }
}

pub(crate) fn timed_out(error: &std::io::Error) -> Option<Timeout> {
    assert_eq!(error.kind(), ErrorKind::TimedOut);
    match error.netpoll_kind()? {
        Kind::TimedOut { timeout, .. } => Some(timeout),
        _ => None,
    }
}

#[test]
fn a_read_past_its_timeout_fails_and_consumes_nothing() {
    let (sender, receiver) = channel();
    let server = Server::start(
        one_poller().read_timeout(SHORT),
        handler!([sender], |conn| {
            let mut reader = conn.reader();
            let began = Instant::now();
            let failed = reader.next(4).await.expect_err("two bytes are not four");
            let took = began.elapsed();
            let left = reader.available();
            sender.send((timed_out(&failed), took, left))?;
            let all = reader.next(4).await?.to_vec();
            conn.writer().put_slice(&all);
            Ok(())
        }),
    );
    let mut peer = server.connect();
    peer.send(b"ab");
    let (which, took, left) = receiver.recv().unwrap();
    assert_eq!((which, left), (Some(Timeout::Read), 2));
    assert!(took >= SHORT, "{took:?}");
    peer.send(b"cd");
    assert_eq!(peer.receive(4), b"abcd");
}

/// The timeout that closes a peer which sends `begin` and then single bytes without end.
fn dripped(handler: impl Handler, begin: &[u8]) -> Timeout {
    let server = Server::start(one_poller().read_timeout(SHORT), handler);
    let mut peer = server.connect();
    let since = Instant::now();
    peer.send(begin);
    let mut dripping = peer.stream.try_clone().expect("a descriptor");
    let drip = std::thread::spawn(move || {
        while dripping.write_all(b"x").is_ok() {
            sleep(SHORT / 10);
        }
    });
    let which = ended_for(&server, since, SHORT);
    drop(peer);
    drip.join().expect("no panic");
    which
}

#[test]
fn dripping_bytes_do_not_extend_a_read_timeout() {
    assert_eq!(dripped(rpc, &1000_u32.to_be_bytes()), Timeout::Read);
    let lines = async |conn: &mut Connection| {
        conn.reader().until(b'\n', 100_000).await?;
        Ok(())
    };
    assert_eq!(dripped(lines, b""), Timeout::Read);
}

#[test]
fn unconsumed_input_closes_the_connection_at_the_read_timeout() {
    retry_if_late(SLACK, || {
        let handler = async |conn: &mut Connection| {
            let (mut reader, mut writer) = conn.split();
            if reader.available() >= 4 {
                let four = reader.next(4).await?;
                writer.put_slice(four);
            }
            Ok(())
        };
        let server = Server::start(one_poller().read_timeout(SHORT), handler);
        let mut peer = server.connect();
        peer.send(b"ab");
        sleep(SHORT / 2);
        peer.send(b"cd");
        assert_eq!(peer.receive(4), b"abcd");
        let since = Instant::now();
        peer.send(b"ef");
        sleep(SHORT / 4);
        peer.send(b"g");
        assert_eq!(ended_for(&server, since, SHORT), Timeout::Read);
    });
}

#[test]
fn first_byte_timeout_closes_a_silent_peer_and_not_an_active_one() {
    retry_if_late(SLACK, || {
        let server = Server::start(one_poller().first_byte_timeout(SHORT), rpc);
        let mut talks = server.connect();
        talks.call(b"in time");
        let since = Instant::now();
        let mut silent = server.connect();
        assert_eq!(silent.receive_all().unwrap(), b"");
        assert_eq!(ended_for(&server, since, SHORT), Timeout::FirstByte);
        sleep(SHORT);
        talks.call(b"still open");
    });
}

#[test]
fn bytes_that_arrived_in_time_count_although_the_poller_was_busy() {
    retry_if_late(SLACK, || {
        let (begins, held) = channel();
        let handler = handler!([begins], |conn| {
            if conn.reader().peek(5).await?[4] == b'h' {
                begins.send(()).ok();
                sleep(SHORT * 8);
            }
            rpc(conn).await
        });
        let server = Server::start(one_poller().first_byte_timeout(SHORT * 4), handler);
        let mut holds = server.connect();
        let mut talks = server.connect();
        while server.handle.connections() < 2 {
            std::thread::yield_now();
        }
        holds.send(&frame(b"hold"));
        held.recv_timeout(LIMIT).expect("a running handler");
        talks.call(b"in time");
        assert_eq!(holds.receive(8), frame(b"hold"));
    });
}

#[test]
fn a_connection_is_idle_only_without_traffic_and_without_a_running_handler() {
    retry_if_late(SLACK, || {
        let gate = Gate::default();
        let passing = gate.clone();
        let handler = handler!([passing], |conn| {
            let (mut reader, mut writer) = conn.split();
            if reader.read_u8().await? == b'w' {
                passing.pass().await;
            }
            writer.put_u8(b'.');
            Ok(())
        });
        let server = Server::start(one_poller().idle_timeout(SHORT), handler);
        let mut peer = server.connect();
        for _ in 0..8 {
            peer.send(b"x");
            assert_eq!(peer.receive(1), b".");
            sleep(SHORT / 4);
        }
        peer.send(b"w");
        sleep(SHORT * 3);
        gate.open();
        let since = Instant::now();
        assert_eq!(peer.receive(1), b".");
        assert_eq!(peer.receive_all().unwrap(), b"");
        assert_eq!(ended_for(&server, since, SHORT), Timeout::Idle);
    });
}

#[test]
fn received_bytes_alone_reset_the_idle_timeout() {
    retry_if_late(SLACK, || {
        let handler = async |conn: &mut Connection| {
            let (mut reader, mut writer) = conn.split();
            if reader.read_u8().await? == b'?' {
                writer.put_u8(b'!');
            }
            Ok(())
        };
        let server = Server::start(one_poller().idle_timeout(SHORT * 2), handler);
        let mut peer = server.connect();
        for _ in 0..12 {
            peer.send(b"x");
            sleep(SHORT / 4);
        }
        peer.send(b"?");
        assert_eq!(peer.receive(1), b"!");
    });
}

#[test]
fn bytes_sent_by_another_thread_alone_reset_the_idle_timeout() {
    retry_if_late(SLACK, || {
        let (conn, mut peer) = pair();
        let timeouts = Timeouts::default().idle(SHORT * 2);
        conn.set_timeouts(timeouts).unwrap();
        let (mut reader, mut writer) = conn.into_split();
        let waits = std::thread::spawn(move || block_on(reader.read_u8()));
        for _ in 0..12 {
            writer.put_u8(b'x');
            block_on(writer.flush()).unwrap();
            sleep(SHORT / 4);
        }
        assert_eq!(peer.receive(12), [b'x'; 12]);
        peer.send(b"!");
        assert_eq!(waits.join().unwrap().unwrap(), b'!');
    });
}

#[test]
fn a_waiting_owner_gets_the_reason_of_an_idle_close() {
    let (sender, receiver) = channel();
    let server = Server::start(
        one_poller().idle_timeout(SHORT),
        whole!([sender], |mut conn| {
            let error = conn.reader().read_u8().await.expect_err("no input");
            sender.send(error)?;
            Ok(())
        }),
    );
    let peer = server.connect();
    let error = receiver.recv().unwrap();
    assert_eq!(error.kind(), ErrorKind::TimedOut);
    let reason = error.close_reason();
    assert!(matches!(reason, Some(CloseReason::Timeout(Timeout::Idle))));
    drop(peer);
}

#[test]
fn a_frame_below_the_minimum_rate_closes_the_connection_and_a_faster_one_does_not() {
    retry_if_late(SLACK, || {
        let rate = MinRate::new(200, SHORT);
        let builder = one_poller().min_rate(rate).read_timeout(None);
        let server = Server::start(builder, rpc);
        let mut steady = server.connect();
        let body = bytes(200, 1);
        let whole = frame(&body);
        for part in whole.chunks(20) {
            steady.send(part);
            sleep(SHORT / 5);
        }
        assert!(steady.receive(whole.len()) == whole);
        let mut slow = server.connect();
        let since = Instant::now();
        slow.send(&whole[..10]);
        assert_eq!(ended_for(&server, since, SHORT), Timeout::MinRate);
    });
}

#[test]
fn overlapping_frames_that_each_arrive_in_time_meet_the_minimum_rate() {
    retry_if_late(SLACK, || {
        let builder = one_poller().min_rate(MinRate::new(1_000_000, SHORT * 4));
        let server = Server::start(
            builder,
            Whole(async |mut conn: Connection| {
                loop {
                    rpc(&mut conn).await?;
                }
            }),
        );
        let mut peer = server.connect();
        let frames = frame(b"ab").repeat(7);
        // Each part has the end of a frame and the start of the next.
        let (first, later) = frames.split_at(5);
        peer.send(first);
        for part in later.chunks(6) {
            sleep(SHORT);
            peer.send(part);
        }
        assert!(peer.receive(frames.len()) == frames);
    });
}

/// Answers each byte with a mebibyte.
async fn large_answer(conn: &mut Connection) -> Result<(), netpoll::BoxError> {
    let (mut reader, mut writer) = conn.split();
    let byte = reader.read_u8().await?;
    writer.push(Bytes::from(bytes(1 << 20, byte)));
    Ok(())
}

#[test]
fn output_that_the_peer_does_not_read_closes_the_connection() {
    let builder = one_poller().write_timeout(SHORT);
    let server = Server::start_on(tight_listener(), builder, large_answer);
    let mut peer = server.connect();
    let since = Instant::now();
    peer.send(b"a");
    assert_eq!(ended_for(&server, since, SHORT), Timeout::Write);
}

#[test]
fn a_peer_that_reads_each_part_in_time_may_take_long_in_total() {
    retry_if_late(SLACK, || {
        let builder = one_poller().write_timeout(SHORT * 30);
        let server = Server::start_on(
            tight_listener(),
            builder,
            Whole(async |mut conn: Connection| {
                loop {
                    large_answer(&mut conn).await?;
                }
            }),
        );
        let mut peer = server.connect();
        peer.send(b"a");
        for _ in 0..8 {
            // The next mebibyte is put before the peer reads this one.
            peer.send(b"a");
            sleep(SHORT * 5);
            assert!(peer.receive(1 << 20) == bytes(1 << 20, b'a'));
        }
    });
}

#[test]
fn a_flush_past_its_deadline_fails_and_closes_the_connection() {
    let (sender, receiver) = channel();
    let server = Server::start_on(
        tight_listener(),
        one_poller(),
        handler!([sender], |conn| {
            let (mut reader, writer) = conn.split();
            reader.read_u8().await?;
            let began = Instant::now();
            let mut writer = writer.with_deadline(began + SHORT);
            writer.push(Bytes::from(bytes(1 << 20, 1)));
            let error = writer.flush().await.expect_err("the peer does not read");
            sender.send((error.kind(), began.elapsed()))?;
            Err(error.into())
        }),
    );
    let since = Instant::now();
    let mut peer = server.connect();
    peer.send(b"a");
    let (kind, took) = receiver.recv().unwrap();
    assert_eq!(kind, ErrorKind::TimedOut);
    assert!(took >= SHORT);
    assert_eq!(ended_for(&server, since, SHORT), Timeout::Write);
}

#[test]
fn a_connection_past_its_max_age_answers_received_requests_and_closes() {
    retry_if_late(SLACK, || {
        let gate = Gate::default();
        let passing = gate.clone();
        let handler = handler!([passing], |conn| {
            let (mut reader, mut writer) = conn.split();
            let byte = reader.read_u8().await?;
            passing.pass().await;
            writer.put_u8(byte);
            Ok(())
        });
        let server = Server::start(one_poller().max_age(SHORT), handler);
        let since = Instant::now();
        let mut peer = server.connect();
        peer.send(b"a");
        sleep(SHORT * 2);
        gate.open();
        assert_eq!(peer.receive_all().unwrap(), b"a");
        assert_eq!(ended_for(&server, since, SHORT * 9 / 10), Timeout::MaxAge);
    });
}
