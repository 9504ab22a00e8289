// SPDX-License-Identifier: MIT OR Apache-2.0
//! Many tasks that send whole buffers over one connection.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use netpoll::buffer::LinkBuffer;
use netpoll::connection::{SendError, WriteQueue};
use netpoll::error::{ErrorExt, ErrorKind as Kind};
use netpoll::options::ConnOptions;
use netpoll::{CloseReason, Connection, Dialer, EventLoop};

use crate::support::{Server, block_on, bytes, eventually, frame, pair, pair_with, poll_once};

/// The messages of each of 64 senders: few in a debug build.
const MESSAGES: u32 = if cfg!(debug_assertions) {
    1_000
} else {
    100_000
};

fn buffer(content: &[u8]) -> LinkBuffer {
    let mut buffer = LinkBuffer::new();
    buffer.put_slice(content);
    buffer
}

/// A connection with a small output limit, and its peer.
fn tight_pair() -> (Connection, crate::support::Peer) {
    let options = ConnOptions::for_dialing()
        .write_high(64 << 10)
        .write_low(16 << 10);
    pair_with(&Dialer::new().options(options))
}

/// Sends until the queue is full and returns the number of accepted bytes.
fn fill(queue: &WriteQueue) -> usize {
    let mut accepted = 0;
    let message = bytes(8000, 1);
    let mut full = 0;
    // The kernel accepts bytes meanwhile, so the queue must stay full.
    while full < 50 {
        match queue.try_send(buffer(&message)) {
            Ok(()) => {
                accepted += message.len();
                full = 0;
            }
            Err(SendError { error, buffer, .. }) => {
                assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock);
                assert_eq!(buffer.len(), message.len(), "the buffer is unchanged");
                full += 1;
                std::thread::sleep(Duration::from_millis(1));
            }
        }
    }
    accepted
}

#[test]
fn messages_of_64_senders_arrive_once_whole_and_in_order_per_sender() {
    const SENDERS: usize = 64;
    let (conn, mut peer) = pair();
    let queue = conn.write_queue();
    let threads: Vec<_> = (0..SENDERS)
        .map(|sender| {
            let queue = queue.clone();
            std::thread::spawn(move || {
                for number in 0..MESSAGES {
                    let mut message = LinkBuffer::new();
                    message.put_u32(sender as u32);
                    message.put_u32(number);
                    block_on(queue.send(message)).unwrap();
                }
                block_on(queue.flush()).unwrap();
            })
        })
        .collect();
    let mut next = [0; SENDERS];
    let mut messages = vec![0; 8 << 10];
    for _ in 0..SENDERS * MESSAGES as usize / 1000 {
        let batch = &mut messages[..8000];
        std::io::Read::read_exact(&mut peer.stream, batch).unwrap();
        for message in batch.chunks(8) {
            let word = |at: usize| u32::from_be_bytes(message[at..at + 4].try_into().unwrap());
            assert_eq!(word(4), next[word(0) as usize], "of sender {}", word(0));
            next[word(0) as usize] += 1;
        }
    }
    assert_eq!(next, [MESSAGES; SENDERS]);
    threads
        .into_iter()
        .for_each(|thread| thread.join().unwrap());
    drop(conn);
    assert_eq!(peer.receive_all().unwrap(), b"");
}

#[test]
fn senders_wait_while_the_peer_does_not_read_and_memory_is_bounded() {
    let (conn, mut peer) = tight_pair();
    let queue = conn.write_queue();
    let before = fill(&queue);
    assert!(
        conn.stats().unsent < (64 << 10) + 8000,
        "{:?}",
        conn.stats()
    );
    let waiting = Arc::<AtomicUsize>::default();
    let order = Arc::<AtomicUsize>::default();
    let threads: Vec<_> = (0..16)
        .map(|sender: usize| {
            let (queue, order) = (queue.clone(), Arc::clone(&order));
            let waits = Arc::clone(&waiting);
            let thread = std::thread::spawn(move || {
                let message = buffer(&bytes(20_000, sender as u8));
                let mut sent = pin!(queue.send(message));
                assert!(poll_once(sent.as_mut()).is_pending());
                waits.fetch_add(1, Ordering::SeqCst);
                block_on(sent).unwrap();
                order.fetch_add(1, Ordering::SeqCst)
            });
            eventually("a waiting sender", || {
                waiting.load(Ordering::SeqCst) == sender + 1
            });
            thread
        })
        .collect();
    assert_eq!(order.load(Ordering::SeqCst), 0, "no sender has capacity");
    assert!(conn.stats().unsent < (64 << 10) + 8000);
    assert_eq!(
        queue.try_send(buffer(b"?")).unwrap_err().error.kind(),
        std::io::ErrorKind::WouldBlock,
        "try_send does not overtake"
    );
    peer.receive(before);
    // Senders are served in order.
    for sender in 0..16 {
        assert_eq!(peer.receive(20_000), bytes(20_000, sender));
    }
    threads
        .into_iter()
        .for_each(|thread| assert!(thread.join().unwrap() < 16));
}

#[test]
fn a_close_wakes_every_sender_and_flush_with_the_reason() {
    let ends: [fn(Connection, crate::support::Peer); 4] = [
        |conn, peer| {
            conn.handle().abort();
            drop((conn, peer));
        },
        |conn, peer| {
            drop(conn);
            drop(peer);
        },
        |conn, peer| {
            peer.reset();
            drop(conn);
        },
        |mut conn, peer| {
            conn.writer().shutdown();
            drop((conn, peer));
        },
    ];
    for end in ends {
        let (conn, peer) = tight_pair();
        let queue = conn.write_queue();
        fill(&queue);
        let waiting = Arc::<AtomicUsize>::default();
        let threads: Vec<_> = (0..4)
            .map(|number| {
                let (queue, waiting) = (queue.clone(), Arc::clone(&waiting));
                std::thread::spawn(move || {
                    let wait = async {
                        if number % 2 == 0 {
                            let sent = queue.send(buffer(b"late")).await;
                            sent.map_err(|unsent| {
                                assert_eq!(unsent.buffer.len(), 4, "the buffer is unchanged");
                                unsent.error
                            })
                        } else {
                            queue.flush().await
                        }
                    };
                    let mut wait = pin!(wait);
                    assert!(poll_once(wait.as_mut()).is_pending());
                    waiting.fetch_add(1, Ordering::SeqCst);
                    block_on(wait)
                })
            })
            .collect();
        eventually("four waiting calls", || waiting.load(Ordering::SeqCst) == 4);
        end(conn, peer);
        for thread in threads {
            let error = thread.join().unwrap().unwrap_err();
            let end = error.netpoll_kind();
            let reported = matches!(end, Some(Kind::Closed { .. } | Kind::WriteAfterShutdown));
            let known = error.raw_os_error().is_some() || reported;
            assert!(known, "{error:?}");
        }
        eventually("the close", || {
            let late = queue.try_send(buffer(b"?")).unwrap_err().error;
            late.kind() != std::io::ErrorKind::WouldBlock
        });
    }
}

#[test]
fn a_dropped_send_sends_nothing_and_wakes_the_next_sender() {
    let (conn, mut peer) = tight_pair();
    let queue = conn.write_queue();
    let before = fill(&queue);
    let (first, second) = (queue.send(buffer(b"first")), queue.send(buffer(b"second")));
    let (mut first, mut second) = (Box::pin(first), Box::pin(second));
    assert!(poll_once(first.as_mut()).is_pending());
    assert!(poll_once(second.as_mut()).is_pending());
    let sender = std::thread::spawn(move || {
        peer.receive(before);
        peer
    });
    let mut peer = sender.join().unwrap();
    eventually("free capacity", || conn.stats().unsent == 0);
    // The first sender was woken and is dropped. The second must be woken instead.
    drop(first);
    block_on(second).unwrap();
    assert_eq!(peer.receive(6), b"second");
}

#[test]
fn a_flush_completes_when_earlier_output_is_sent_although_others_send_more() {
    let (conn, mut peer) = tight_pair();
    let queue = conn.write_queue();
    let before = fill(&queue);
    let mut flush = Box::pin(queue.flush());
    assert!(poll_once(flush.as_mut()).is_pending());
    let done = Arc::<AtomicBool>::default();
    let more = {
        let (queue, done) = (queue.clone(), Arc::clone(&done));
        std::thread::spawn(move || {
            let mut sent = 0;
            while !done.load(Ordering::SeqCst) {
                block_on(queue.send(buffer(&bytes(1000, 3)))).unwrap();
                sent += 1000;
            }
            sent
        })
    };
    let reader = std::thread::spawn(move || peer.receive_all().unwrap().len());
    block_on(flush).unwrap();
    done.store(true, Ordering::SeqCst);
    let sent = more.join().unwrap();
    drop(conn);
    assert_eq!(reader.join().unwrap(), before + sent);
}

#[test]
fn a_rejected_buffer_is_returned_with_the_reason() {
    let (mut conn, mut peer) = pair();
    let queue = conn.write_queue();
    let most = ConnOptions::default().get_max_frame() * 2;
    let unsent = queue.try_send(buffer(&vec![0; most + 1])).unwrap_err();
    let Some(Kind::FrameTooLarge { size, limit, .. }) = unsent.error.netpoll_kind() else {
        panic!("{unsent:?}");
    };
    assert_eq!((limit, size), (most, most + 1));
    assert_eq!(unsent.buffer.len(), most + 1);
    block_on(queue.send(LinkBuffer::new())).unwrap();
    conn.writer().shutdown();
    let unsent = queue.try_send(buffer(b"late")).unwrap_err();
    assert!(matches!(
        unsent.error.netpoll_kind(),
        Some(Kind::WriteAfterShutdown)
    ));
    assert_eq!(peer.receive_all().unwrap(), b"");
    let handle = conn.handle();
    drop((conn, peer));
    block_on(handle.closed());
    eventually("the close", || handle.timeouts().is_none());
    let queues = [queue, handle.write_queue()];
    for queue in queues {
        let error = block_on(queue.send(buffer(b"?"))).unwrap_err().error;
        let kinds = [error.kind(), block_on(queue.flush()).unwrap_err().kind()];
        // The first queue knows the connection; the second was created after its end.
        let expected = [
            std::io::ErrorKind::ConnectionAborted,
            std::io::ErrorKind::NotConnected,
        ];
        assert!(
            expected.contains(&kinds[0]) && kinds[0] == kinds[1],
            "{kinds:?}"
        );
    }
}

#[test]
fn a_close_sends_all_accepted_buffers() {
    let (conn, mut peer) = pair();
    let queue = conn.write_queue();
    for number in 0..100 {
        block_on(queue.send(buffer(&[number; 500]))).unwrap();
    }
    drop(conn);
    let all = peer.receive_all().unwrap();
    assert_eq!(all.len(), 50_000);
    assert!(
        all.chunks(500)
            .enumerate()
            .all(|(at, part)| part == [at as u8; 500])
    );
}

#[test]
fn many_sends_in_one_poll_use_few_system_calls() {
    let server = Server::start_as_given(EventLoop::builder().pollers(1).on_request(
        async |conn: &mut Connection| {
            let request = conn.reader().next(5).await?.to_vec();
            let queue = conn.write_queue();
            for _ in 0..50 {
                queue.send(buffer(&request)).await?;
            }
            Ok(())
        },
    ));
    let mut peer = server.connect();
    // A poll that lasts for too long, on a busy machine, yields and sends what there is.
    eventually("few system calls for many sends", || {
        let before = server.handle.stats().total().sends;
        peer.send(&frame(b"!"));
        assert_eq!(peer.receive(250), frame(b"!").repeat(50));
        server.handle.stats().total().sends - before <= 3
    });
    drop(peer);
    assert!(matches!(server.ending(), CloseReason::PeerFin));
}
