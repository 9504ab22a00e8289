// SPDX-License-Identifier: MIT OR Apache-2.0
//! Flow control by users: `writable` for output, pauses of input, and the memory budget that all
//! connections share.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use netpoll::error::Timeout;
use netpoll::options::Budget;
use netpoll::{CloseReason, Connection};

use crate::support::{
    Gate, Server, block_on, bytes, eventually, frame, pair, retry_if_late, rpc, tight_listener,
};

/// How many bytes the calls below write in all.
const MANY: usize = 12 << 20;

#[test]
fn a_call_that_awaits_writable_keeps_unsent_output_near_the_watermark() {
    let most = Arc::<AtomicUsize>::default();
    let seen = Arc::clone(&most);
    let handler = handler!([seen], |conn| {
        let (mut reader, mut writer) = conn.split();
        reader.skip(1).await?;
        let part = bytes(10_000, 7);
        for _ in 0..MANY / part.len() {
            writer.writable().await?;
            writer.put_slice(&part);
            seen.fetch_max(writer.unsent(), Ordering::SeqCst);
        }
        Ok(())
    });
    let server = Server::start_on(
        tight_listener(),
        crate::support::builder().pollers(1),
        handler,
    );
    let mut peer = server.connect();
    peer.send(b"?");
    let part = bytes(10_000, 7);
    for _ in 0..MANY / part.len() {
        assert!(peer.receive(part.len()) == part);
    }
    let most = most.load(Ordering::SeqCst);
    assert!(most <= (64 << 10) + part.len(), "{most} bytes were unsent");
}

#[test]
fn writable_returns_at_once_below_the_watermark_and_fails_after_the_end() {
    let (mut conn, peer) = pair();
    block_on(conn.writer().writable()).unwrap();
    drop(peer);
    block_on(conn.reader().wait(1)).unwrap_err();
    conn.close();
    eventually("the end", || block_on(conn.writer().writable()).is_err());
}

#[test]
fn writable_ends_with_the_write_timeout_when_the_peer_never_reads() {
    let handler = async |conn: &mut Connection| {
        let mut writer = conn.writer();
        loop {
            writer.writable().await?;
            writer.put_slice(&[7; 10_000]);
        }
    };
    let builder = crate::support::builder()
        .pollers(1)
        .write_timeout(Duration::from_millis(200));
    let server = Server::start_on(tight_listener(), builder, handler);
    let mut peer = server.connect();
    peer.send(b"?");
    let reason = server.ending();
    assert!(
        matches!(reason, CloseReason::Timeout(Timeout::Write)),
        "{reason}"
    );
}

#[test]
fn no_input_is_read_while_reads_are_paused_and_all_of_it_after_the_resume() {
    let (mut conn, mut peer) = pair();
    peer.send(b"before");
    block_on(conn.reader().wait(6)).unwrap();
    let handle = conn.handle();
    conn.pause_reads();
    conn.pause_reads();
    let flood = bytes(32 << 20, 3);
    let sending = peer.send_aside(flood.clone());
    // Input that was on its way at the pause may still arrive.
    let mut came = 0;
    for _ in 0..50 {
        std::thread::sleep(Duration::from_millis(2));
        came = conn.reader().available();
    }
    assert!(
        came <= 6 + (256 << 10),
        "{came} bytes arrived while reads were paused"
    );
    assert!(!sending.is_finished(), "the peer has to wait");
    handle.resume_reads();
    assert_eq!(block_on(conn.reader().read_vec(6)).unwrap(), b"before");
    for part in flood.chunks(1 << 20) {
        assert!(block_on(conn.reader().read_vec(part.len())).unwrap() == part);
    }
    sending.join().unwrap().unwrap();
}

#[test]
fn a_paused_connection_is_neither_idle_nor_called_and_continues_when_resumed() {
    retry_if_late(Duration::from_millis(20), || {
        let gate = Gate::default();
        let passing = gate.clone();
        let handler = handler!([passing], |conn| {
            let handle = conn.handle();
            if conn.reader().peek(5).await?[4] == b'p' {
                conn.pause_reads();
                let gate = passing.clone();
                std::thread::spawn(move || {
                    block_on(gate.pass());
                    handle.resume_reads();
                });
            }
            rpc(conn).await
        });
        let builder = crate::support::builder()
            .pollers(1)
            .idle_timeout(Duration::from_millis(150));
        let server = Server::start(builder, handler);
        let mut peer = server.connect();
        peer.call(b"p");
        peer.send(&frame(b"later"));
        std::thread::sleep(Duration::from_millis(450));
        peer.stream.set_nonblocking(true).unwrap();
        let early = std::io::Read::read(&mut peer.stream, &mut [0]);
        assert_eq!(early.unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
        gate.open();
        peer.stream.set_nonblocking(false).unwrap();
        assert_eq!(peer.receive(9), frame(b"later"));
    });
}

#[test]
fn connections_that_hold_input_are_not_read_above_the_budget_and_small_requests_are_served() {
    let budget = Budget::new(16 << 20);
    let builder = crate::support::builder().pollers(1).budget(budget.clone());
    let server = Server::start_on(tight_listener(), builder, rpc);
    let mut small = server.connect();
    small.call(b"is in");
    let mut peers: Vec<_> = (0..64).map(|_| server.connect()).collect();
    // Without the budget the server would hold 2 MiB for each.
    let part = frame(&bytes(2 << 20, 9));
    let part = &part[..part.len() - 1];
    for peer in &peers {
        // Otherwise the kernel would buffer it for the senders.
        peer.stream.set_send_buffer_size(64 << 10).unwrap();
    }
    let mut sending: Vec<_> = peers
        .iter()
        .map(|peer| peer.send_aside(part.to_vec()))
        .collect();
    eventually("a budget that is nearly used", || {
        budget.stats().in_use > (14 << 20)
    });
    for _ in 0..100 {
        small.call(b"small");
        let used = budget.stats().in_use;
        // The last read that began may take a whole frame, beside the blocks that all share.
        assert!(used <= (22 << 20), "{used} of 16 MiB");
    }
    assert!(sending.iter().any(|sending| !sending.is_finished()));
    // Connections that end free memory for those that stay. They are reset: the server would
    // not see a FIN while it reads nothing.
    let (mut last, sent) = (peers.pop().unwrap(), sending.pop().unwrap());
    for (peer, sending) in peers.into_iter().zip(sending) {
        peer.stream.shutdown(std::net::Shutdown::Both).unwrap();
        let _cut = sending.join().unwrap().is_err();
        peer.reset();
    }
    sent.join().unwrap().unwrap();
    last.send(&[frame(&bytes(2 << 20, 9))[part.len()]]);
    assert!(last.receive(part.len() + 1) == frame(&bytes(2 << 20, 9)));
}

#[test]
fn accepting_pauses_while_the_budget_is_exhausted_and_then_resumes() {
    let budget = Budget::new(1 << 20);
    let builder = crate::support::builder().pollers(1).max_frame(64 << 10);
    let server = Server::start(builder.budget(budget.clone()), rpc);
    server.connect().call(b"before");
    let held = std::thread::spawn({
        let pool = budget.pool().clone();
        move || {
            pool.enter();
            let mut held = netpoll::buffer::LinkBuffer::new();
            held.put_slice(&[7; 2 << 20]);
            held
        }
    });
    let held = held.join().unwrap();
    let mut waiting = server.connect();
    waiting.send(&frame(b"after"));
    eventually("a pause", || {
        server.handle.accept_stats().pauses_for_memory > 0
    });
    assert_eq!(server.handle.accept_stats().accepted, 1);
    drop(held);
    assert_eq!(waiting.receive(9), frame(b"after"));
}
