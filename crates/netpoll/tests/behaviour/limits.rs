// SPDX-License-Identifier: MIT OR Apache-2.0
//! Limits on the memory and work that a peer or a handler can cause in a server.

use std::io::{ErrorKind, Write};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use netpoll::error::Limit;
use netpoll::listener::Accept;
use netpoll::options::{Budget, ConnOptions};
use netpoll::{Builder, CloseReason, Connection, EventLoop, Listener};

use crate::support::{
    Gate, Peer, Server, alone_twice, bytes, data_segment, eventually, frame, invalid_option, rpc,
    tight_listener,
};

#[test]
fn a_length_above_max_frame_closes_the_connection_after_the_earlier_answers() {
    let server = Server::start(crate::support::builder().pollers(1).max_frame(1000), rpc);
    let mut peer = server.connect();
    let good = frame(&bytes(1000, 1));
    peer.send(&[&good[..], &good, &1001_u32.to_be_bytes()].concat());
    assert!(peer.receive_all().unwrap() == [&good[..], &good].concat());
    peer.finish();
    assert!(matches!(server.ending(), CloseReason::Limit(Limit::Frame)));
}

#[test]
fn length_prefixes_without_bodies_cost_little() {
    alone_twice("limits::length_prefixes_without_bodies_cost_little", || {
        let server = Server::rpc();
        let mut peers: Vec<Peer> = (0..200).map(|_| server.connect()).collect();
        let before = data_segment();
        for peer in &mut peers {
            peer.send(&(4_u32 << 20).to_be_bytes());
        }
        // One more byte makes the poller process the read of four mebibytes.
        for peer in &mut peers {
            peer.send(&[1]);
        }
        server.connect().call(b"all read");
        let grown = data_segment().saturating_sub(before);
        assert!(grown < 64 << 20, "{grown} bytes for 200 lengths");
    });
}

#[test]
fn output_above_max_output_closes_the_connection() {
    // Off the poller, output may be sent while the handler runs. The large part alone exceeds the
    // limit.
    let parts = || (0..60).map(|part| bytes(if part == 30 { 600_000 } else { 10_000 }, part));
    let handler = handler!([], |conn| {
        let (mut reader, mut writer) = conn.split();
        match reader.read_u8().await? {
            b'm' => parts().for_each(|part| writer.put_slice(&part)),
            byte => writer.put_u8(byte),
        }
        Ok(())
    });
    let bounds = ConnOptions::default().max_output(500_000);
    let builder = crate::support::builder().pollers(1).options(bounds);
    let server = Server::start_on(tight_listener(), builder, handler);
    let (mut peer, mut steady) = (server.connect(), server.connect());
    peer.send(b"?");
    assert_eq!(peer.receive(1), b"?");
    peer.send(b"m");
    let received = peer.receive_all().unwrap();
    let whole: Vec<u8> = parts().flatten().collect();
    assert!(whole.starts_with(&received), "the bytes sent have no gap");
    drop(peer);
    assert!(matches!(server.ending(), CloseReason::Limit(Limit::Output)));
    steady.send(b"?");
    assert_eq!(steady.receive(1), b"?");
}

/// Checks that the handler is not called for a peer that sends `requests` requests and does not read
/// the answers of `size` bytes each.
fn check_unread_answers(requests: usize, size: usize) {
    let (calls, most) = (Arc::<AtomicUsize>::default(), Arc::<AtomicUsize>::default());
    let (count, unsent) = (Arc::clone(&calls), Arc::clone(&most));
    let handler = handler!([count, unsent], |conn| {
        let (mut reader, mut writer) = conn.split();
        match reader.read_u8().await? {
            b'?' => writer.put_u8(b'!'),
            seed => {
                count.fetch_add(1, Ordering::SeqCst);
                unsent.fetch_max(writer.unsent(), Ordering::SeqCst);
                writer.put_slice(&bytes(size, seed));
            }
        }
        Ok(())
    });
    let builder = crate::support::builder().pollers(1);
    let server = Server::start_on(tight_listener(), builder, handler);
    let (mut slow, mut other) = (server.connect(), server.connect());
    slow.send(&vec![7; requests]);
    eventually("the first call", || calls.load(Ordering::SeqCst) > 0);
    let mut last = 0;
    // No further call during many poller iterations: the server waits for its peer.
    eventually("a pause of the calls", || {
        for _ in 0..50 {
            other.send(b"?");
            other.receive(1);
        }
        std::mem::replace(&mut last, calls.load(Ordering::SeqCst)) == last
    });
    let called = calls.load(Ordering::SeqCst);
    assert!(called < requests / 2, "{called} calls were made");
    let answers = slow.receive(requests * size);
    assert!(answers == bytes(size, 7).repeat(requests));
    assert_eq!(calls.load(Ordering::SeqCst), requests);
    let most = most.load(Ordering::SeqCst);
    assert!(most < 64 << 10, "called with {most} bytes unsent");
}

#[test]
fn the_handler_is_not_called_while_the_peer_does_not_read() {
    check_unread_answers(400, 16 << 10);
}

#[test]
fn the_handler_is_not_called_while_the_socket_is_full_and_little_is_unsent() {
    check_unread_answers(6000, 1000);
}

#[test]
fn a_slow_peer_receives_every_byte_in_order() {
    let builder = crate::support::builder().pollers(1);
    let server = Server::start_on(tight_listener(), builder, rpc);
    let mut peer = server.connect();
    let requests: Vec<u8> = (0..300)
        .flat_map(|n| frame(&bytes(n * 37, n as u8)))
        .collect();
    let sending = peer.send_aside(requests.clone());
    let mut received = Vec::new();
    while received.len() < requests.len() {
        let few = (requests.len() - received.len()).min(1009);
        received.extend(peer.receive(few));
    }
    assert!(received == requests);
    sending.join().unwrap().unwrap();
}

#[test]
fn endless_pipelined_requests_are_read_no_faster_than_they_are_served() {
    let most = Arc::new(AtomicUsize::new(0));
    let seen = Arc::clone(&most);
    let handler = handler!([seen], |conn| {
        let waiting = conn.reader().available();
        seen.fetch_max(waiting, Ordering::SeqCst);
        rpc(conn).await
    });
    let server = Server::start(crate::support::builder().pollers(1), handler);
    let mut peer = server.connect();
    let requests = frame(b"tiny").repeat(500_000);
    let sending = peer.send_aside(requests.clone());
    assert!(peer.receive(requests.len()) == requests);
    sending.join().unwrap().unwrap();
    let most = most.load(Ordering::SeqCst);
    assert!(most <= 512 << 10, "{most} bytes of requests were buffered");
}

#[test]
fn input_is_bounded_while_each_request_awaits_a_timer() {
    let most = Arc::new(AtomicUsize::new(0));
    let seen = Arc::clone(&most);
    let handler = handler!([seen], |conn| {
        let waiting = conn.reader().available();
        seen.fetch_max(waiting, Ordering::SeqCst);
        netpoll::time::sleep(std::time::Duration::from_micros(100)).await;
        Ok(conn.reader().skip(1).await?)
    });
    let server = Server::start(crate::support::builder().pollers(1), handler);
    let peer = server.connect();
    let sending = peer.send_aside(vec![7; 64 << 20]);
    let called = || server.handle.stats().total().requests;
    eventually("many calls", || called() >= 200);
    let most = most.load(Ordering::SeqCst);
    assert!(most <= 512 << 10, "{most} bytes of requests were buffered");
    // Only the shutdown ends a send that the server never reads.
    server.shut_down(std::time::Duration::ZERO);
    assert!(sending.join().unwrap().is_err());
}

#[test]
fn input_is_bounded_while_a_handler_awaits_something_else() {
    let gate = Gate::default();
    let at = gate.clone();
    let handler = handler!([at], |conn| {
        conn.reader().skip(1).await?;
        at.pass().await;
        let held = conn.reader().available();
        conn.writer().put_u32(held as u32);
        conn.close();
        Ok(())
    });
    let builder = crate::support::builder().pollers(1);
    let server = Server::start_on(tight_listener(), builder, handler);
    let mut peer = server.connect();
    peer.send(b"?");
    eventually("a waiting handler", || gate.is_waited_at());
    peer.stream.set_nonblocking(true).unwrap();
    let sending = peer.stream.try_clone().unwrap();
    let flood = vec![0; 1 << 20];
    let mut sent = 0;
    // The socket is full when the peer can send nothing during many poller iterations.
    let stuck = Mutex::new(0);
    eventually("a full socket", || {
        match (&sending).write(&flood) {
            Ok(count) => {
                sent += count;
                *stuck.lock().unwrap() = 0;
            }
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::WouldBlock);
                drop(server.connect());
                *stuck.lock().unwrap() += 1;
            }
        }
        *stuck.lock().unwrap() == 100
    });
    gate.open();
    peer.stream.set_nonblocking(false).unwrap();
    let held = u32::from_be_bytes(peer.receive(4).try_into().unwrap());
    assert!(held <= 256 << 10, "{held} of {sent} bytes were buffered");
}

#[test]
fn a_handler_that_never_consumes_buffers_at_most_one_frame() {
    let handler = async |conn: &mut Connection| {
        conn.reader().available();
        Ok(())
    };
    let builder = crate::support::builder().pollers(1);
    let server = Server::start(builder.max_frame(100_000), handler);
    let mut peer = server.connect();
    peer.send(&bytes(100_000, 1));
    peer.send(&[1]);
    assert!(matches!(server.ending(), CloseReason::Limit(Limit::Frame)));
}

#[test]
fn invalid_options_are_rejected_with_the_field_name() {
    let listener = || Listener::bind("127.0.0.1:0").unwrap();
    let rejected_field = |builder: Builder| {
        let error = builder.build().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        invalid_option(&error).map(|(option, _)| option)
    };
    let whole = || EventLoop::builder().on_request(rpc).listen(listener());
    assert_eq!(rejected_field(whole().pollers(0)), Some("pollers"));
    assert_eq!(rejected_field(whole().max_frame(0)), Some("max_frame"));
    assert_eq!(
        rejected_field(EventLoop::builder().on_request(rpc)),
        Some("listeners")
    );
    assert_eq!(
        rejected_field(EventLoop::builder().listen(listener())),
        Some("handler")
    );
    assert_eq!(rejected_field(whole().read_high(0)), Some("read_high"));
    let output = rejected_field(whole().max_output(1));
    assert_eq!(output, Some("max_output"));
    let low = rejected_field(whole().write_high(99).write_low(100));
    assert_eq!(low, Some("write_low"));
    assert!(whole().build().is_ok());
}

#[test]
fn a_budget_below_the_minimum_is_rejected_and_the_minimum_receives_the_largest_frame() {
    let frame_size = 1 << 20;
    let least = Budget::least(frame_size, 1);
    let listener = || Listener::bind("127.0.0.1:0").unwrap();
    let with = |limit, pollers| {
        let builder = EventLoop::builder().pollers(pollers).max_frame(frame_size);
        builder.budget(Budget::new(limit)).on_request(rpc)
    };
    for (limit, pollers) in [(frame_size, 1), (least - 1, 1), (least, 2), (least, 40)] {
        let error = with(limit, pollers).listen(listener()).build().unwrap_err();
        let (option, expected) = invalid_option(&error).expect("a reason");
        assert_eq!(option, "budget", "{limit} {pollers}");
        assert!(expected.contains("max_frame"));
    }
    // A frame of the largest size is received, without a stall or a timeout.
    let server = Server::start_as_given(with(least, 1));
    let mut peer = server.connect();
    for _ in 0..3 {
        peer.call_aside(&bytes(frame_size, 1));
    }
}

#[test]
fn max_frame_set_in_on_accept_is_checked_against_the_budget() {
    let builder = crate::support::builder().pollers(1).max_frame(1000);
    let builder = builder.budget(Budget::new(1 << 20)).on_accept(|info| {
        let options = info.options().clone().max_frame(4 << 20);
        Accept::Accept(options)
    });
    let server = Server::start(builder, rpc);
    let mut peer = server.connect();
    assert!(!matches!(peer.receive_all().as_deref(), Ok([_, ..])));
    assert_eq!(server.handle.accept_stats().rejected, 1);
}

#[test]
fn an_address_in_use_is_rejected_with_the_kernels_error() {
    let server = Server::rpc();
    let rejected = EventLoop::builder().on_request(rpc).serve(server.addr);
    assert_eq!(rejected.unwrap_err().kind(), ErrorKind::AddrInUse);
}
