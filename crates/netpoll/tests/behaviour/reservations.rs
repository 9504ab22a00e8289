// SPDX-License-Identifier: MIT OR Apache-2.0
//! An open reservation belongs to its owner: output of other senders goes before or after all of it,
//! and is never dropped.
#![expect(clippy::unwrap_used, reason = "only tests run this shared code")]

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use netpoll::buffer::LinkBuffer;
use netpoll::connection::{ConnectionHandle, WriteQueue};
use netpoll::error::{ErrorExt, ErrorKind as Kind};
use netpoll::options::ConnOptions;
use netpoll::{Connection, Dialer};

use crate::support::{Peer, block_on, bytes, eventually, pair, pair_with, poll_once};

fn buffer(content: &[u8]) -> LinkBuffer {
    let mut buffer = LinkBuffer::new();
    buffer.put_slice(content);
    buffer
}

/// Sends in each way that another sender can use.
fn others_send(handle: &ConnectionHandle, queue: &WriteQueue) {
    handle.push(Bytes::from_static(b"[pushed]")).unwrap();
    queue.try_send(buffer(b"[tried]")).unwrap();
    block_on(queue.send(buffer(b"[sent]"))).unwrap();
}

const OTHERS: &[u8] = b"[pushed][tried][sent]";

#[test]
fn output_of_other_senders_is_sent_before_an_open_reservation() {
    let (mut conn, mut peer) = pair();
    let (handle, queue) = (conn.handle(), conn.write_queue());
    let mut writer = conn.writer();
    writer.put_str("first ");
    let length = writer.reserve(4).unwrap();
    writer.put_str("body ");
    others_send(&handle, &queue);
    writer.push(Bytes::from_static(b"and tail"));
    writer.insert(4, Bytes::from_static(b"head, ")).unwrap();
    assert_eq!(writer.uncommitted_len(), 4 + 6 + 5 + 8);
    block_on(writer.flush()).unwrap();
    assert_eq!(peer.receive(6 + OTHERS.len()), [b"first ", OTHERS].concat());
    others_send(&handle, &queue);
    writer.fill(&length, b"len ").unwrap();
    writer.commit_all();
    others_send(&handle, &queue);
    block_on(writer.flush()).unwrap();
    let expected = [OTHERS, b"len head, body and tail", OTHERS].concat();
    assert_eq!(peer.receive(expected.len()), expected);
}

/// Ends a reservation and returns the connection if it still exists.
type Ends = fn(Connection) -> Option<Connection>;

/// The ways to end a reservation, and the part of `mine` that is sent.
const ENDS: [(&str, Ends, &[u8]); 7] = [
    (
        "a partial commit",
        |mut conn| {
            conn.writer().commit(2).unwrap();
            Some(conn)
        },
        b"mi",
    ),
    (
        "an empty commit",
        |mut conn| {
            conn.writer().commit(0).unwrap();
            Some(conn)
        },
        b"",
    ),
    (
        "a shutdown",
        |mut conn| {
            conn.writer().shutdown();
            Some(conn)
        },
        b"",
    ),
    (
        "a close",
        |conn| {
            conn.close();
            Some(conn)
        },
        b"",
    ),
    (
        "the drop of the connection",
        |conn| {
            drop(conn);
            None
        },
        b"",
    ),
    (
        "into_fd",
        |conn| {
            let (fd, unread) = block_on(conn.into_fd()).unwrap();
            assert!(unread.is_empty());
            drop(fd);
            None
        },
        b"",
    ),
    (
        "the drop of both halves",
        |conn| {
            drop(conn.into_split());
            None
        },
        b"",
    ),
];

#[test]
fn ending_a_reservation_drops_no_output_of_other_senders() {
    for (what, ends, mine) in ENDS {
        let (mut conn, mut peer) = pair();
        let (handle, queue) = (conn.handle(), conn.write_queue());
        let mut writer = conn.writer();
        let room = writer.reserve(4).unwrap();
        writer.fill(&room, b"mine").unwrap();
        others_send(&handle, &queue);
        let conn = ends(conn);
        if let Some(mut conn) = conn {
            eventually(what, || conn.writer().uncommitted_len() == 0);
            drop(conn);
        }
        let received = peer.receive_all().unwrap();
        assert_eq!(received, [OTHERS, mine].concat(), "{what}");
    }
}

/// Reads frames of a sender byte, a length and that many copies of the byte. Counts them per sender.
fn read_frames(peer: &mut Peer, mut frames: usize) -> Vec<usize> {
    let mut of_sender = vec![0; 256];
    while frames > 0 {
        let head = peer.receive(3);
        let length = usize::from(u16::from_be_bytes([head[1], head[2]]));
        let body = peer.receive(length);
        assert!(
            body.iter().all(|&byte| byte == head[0]),
            "a frame without gaps"
        );
        of_sender[usize::from(head[0])] += 1;
        frames -= 1;
    }
    of_sender
}

#[test]
fn frames_of_a_reserving_owner_and_of_many_senders_all_arrive_whole() {
    const SENDERS: u8 = 4;
    const FRAMES: usize = 200;
    let (mut conn, mut peer) = pair();
    let senders: Vec<_> = (1..=SENDERS)
        .map(|sender| {
            let (handle, queue) = (conn.handle(), conn.write_queue());
            std::thread::spawn(move || {
                for number in 0..FRAMES {
                    let length = (number * 7 % 500) as u16;
                    let mut frame = buffer(&[&[sender][..], &length.to_be_bytes()].concat());
                    frame.put_slice(&vec![sender; usize::from(length)]);
                    match number % 2 {
                        0 => handle.push(Bytes::from(frame)).unwrap(),
                        _ => block_on(queue.send(frame)).unwrap(),
                    }
                }
            })
        })
        .collect();
    let reading = std::thread::spawn(move || {
        let all = FRAMES * (usize::from(SENDERS) + 1);
        (read_frames(&mut peer, all), peer)
    });
    for number in 0..FRAMES {
        let mut writer = conn.writer();
        let head = writer.reserve(3).unwrap();
        let length = number * 11 % 3000;
        for part in vec![0; length].chunks(700) {
            writer.put_slice(part);
            std::thread::yield_now();
        }
        writer.put_str("not committed");
        let length = length as u16;
        writer
            .fill(&head, &[&[0][..], &length.to_be_bytes()].concat())
            .unwrap();
        writer.commit(3 + usize::from(length)).unwrap();
        block_on(writer.flush()).unwrap();
    }
    senders
        .into_iter()
        .for_each(|sender| sender.join().unwrap());
    let (of_sender, _peer) = reading.join().unwrap();
    assert!(
        of_sender[..=usize::from(SENDERS)]
            .iter()
            .all(|&count| count == FRAMES)
    );
}

/// Memory that counts its drops.
struct Counted(Arc<AtomicUsize>);

impl AsRef<[u8]> for Counted {
    fn as_ref(&self) -> &[u8] {
        b"counted"
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

#[test]
fn a_reservation_survives_split_and_reunite_and_ends_with_a_dropped_owned_writer() {
    let (mut conn, mut peer) = pair();
    let room = conn.writer().reserve(1).unwrap();
    let (reader, mut owned) = conn.into_split();
    owned.writer().put_str("bc");
    let mut conn = reader.reunite(owned).unwrap();
    conn.writer().fill(&room, b"a").unwrap();
    conn.writer().commit_all();
    let dropped = Arc::default();
    conn.writer().reserve(1).unwrap();
    conn.writer()
        .push(Bytes::from_owner(Counted(Arc::clone(&dropped))));
    let (mut reader, writer) = conn.into_split();
    drop(writer);
    assert_eq!(dropped.load(Ordering::SeqCst), 1);
    let handle = reader.handle();
    handle.push(Bytes::from_static(b" and d")).unwrap();
    assert_eq!(peer.receive(9), b"abc and d");
    peer.send(b"x");
    block_on(reader.read_u8()).unwrap();
}

#[test]
fn a_push_after_shutdown_is_rejected_and_does_not_fail_the_owners_flush() {
    let (mut conn, mut peer) = pair();
    let (handle, queue) = (conn.handle(), conn.write_queue());
    let mut writer = conn.writer();
    writer.put_str("all");
    writer.shutdown();
    let refused = handle.push(Bytes::from_static(b"late")).unwrap_err();
    assert!(matches!(
        refused.netpoll_kind(),
        Some(Kind::WriteAfterShutdown)
    ));
    assert!(queue.try_send(buffer(b"late")).is_err());
    block_on(writer.flush()).unwrap();
    assert_eq!(peer.receive_all().unwrap(), b"all");
}

/// A connection with a small output limit.
fn tight() -> (Connection, Peer) {
    let options = ConnOptions::for_dialing()
        .write_high(64 << 10)
        .write_low(16 << 10)
        .max_output(200 << 10);
    pair_with(&Dialer::new().options(options))
}

#[test]
fn a_sender_waits_for_capacity_beside_a_large_reservation_and_the_connection_stays_open() {
    for commits in [0, 150 << 10] {
        let (mut conn, mut peer) = tight();
        let queue = conn.write_queue();
        let mut writer = conn.writer();
        writer.reserve(150 << 10).unwrap();
        queue.try_send(buffer(b"little")).unwrap();
        assert_eq!(peer.receive(6), b"little");
        let large = bytes(60 << 10, 3);
        let mut sending = pin!(queue.send(buffer(&large)));
        assert!(poll_once(sending.as_mut()).is_pending(), "no capacity");
        writer.commit(commits).unwrap();
        let reading = std::thread::spawn(move || {
            let reserved = peer.receive(commits);
            assert!(reserved.iter().all(|&byte| byte == 0));
            (peer.receive(60 << 10), peer)
        });
        block_on(sending).unwrap();
        block_on(writer.flush()).unwrap();
        let (received, _peer) = reading.join().unwrap();
        assert!(received == large);
        assert!(conn.is_active());
    }
}

#[test]
fn a_push_above_max_output_fails_and_closes_the_connection() {
    let (mut conn, _peer) = tight();
    let handle = conn.handle();
    conn.writer().reserve(150 << 10).unwrap();
    handle.push(Bytes::from(bytes(40 << 10, 1))).unwrap();
    let error = handle.push(Bytes::from(bytes(190 << 10, 1))).unwrap_err();
    assert!(error.close_reason().is_some(), "{error}");
    eventually("the close", || !conn.is_active());
}

#[test]
fn watermarks_and_limits_apply_to_other_senders_while_a_reservation_is_open() {
    let (mut conn, mut peer) = tight();
    let handle = conn.handle();
    let mut writer = conn.writer();
    writer.reserve(1).unwrap();
    for round in 0..50_u8 {
        // Above the watermark the poller is notified. It must not treat the bytes as the owner's.
        handle.push(Bytes::from(vec![round; 70 << 10])).unwrap();
        writer.put_u8(round);
        assert!(peer.receive(70 << 10) == vec![round; 70 << 10]);
    }
    eventually("all other output sent", || writer.unsent() == 0);
    assert_eq!(writer.uncommitted_len(), 51);
    writer.commit_all();
    block_on(writer.flush()).unwrap();
    assert_eq!(peer.receive(51)[1..], (0..50).collect::<Vec<u8>>());
}
