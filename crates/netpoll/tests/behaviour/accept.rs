// SPDX-License-Identifier: MIT OR Apache-2.0
//! Accepting: the number of connections, their rate, and the `on_accept` filter.

use std::io::ErrorKind;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use netpoll::Connection;
use netpoll::listener::{Accept, IncomingConnection};
use netpoll::options::ConnOptions;

use crate::support::{
    AnyBuilder, Kind, LIMIT, Peer, Server, Whole, builder, bytes, eventually, frame, free_listener,
    invalid_option, rpc,
};

fn two_pollers() -> AnyBuilder {
    builder().pollers(2)
}

#[test]
fn a_loop_at_max_connections_accepts_one_connection_for_each_that_ends() {
    let server = Server::start(two_pollers().max_connections(3), rpc);
    let mut peers: Vec<Peer> = (0..10).map(|_| server.connect()).collect();
    for peer in &mut peers {
        peer.send(&frame(b"one"));
    }
    eventually("the pause", || {
        server.handle.accept_stats().pauses_at_limit > 0
    });
    while !peers.is_empty() {
        let mut peer = peers.remove(0);
        assert_eq!(peer.receive(7), frame(b"one"));
        peer.call(b"two");
        assert!(server.handle.connections() <= 3);
    }
    eventually("no connection", || server.handle.connections() == 0);
    assert_eq!(server.handle.accept_stats().accepted, 10);
}

#[test]
fn a_closed_connection_counts_against_max_connections_while_it_is_held() {
    let held = Arc::new(Mutex::new(Vec::new()));
    let hold = Arc::clone(&held);
    let handler = whole!([hold], |conn| {
        hold.lock().unwrap().push(conn);
        Ok(())
    });
    let builder = builder().pollers(1).max_connections(1);
    let server = Server::start(builder, handler);
    let first = server.connect();
    eventually("the first", || held.lock().unwrap().len() == 1);
    let _second = server.connect();
    drop(first);
    eventually("the pause", || {
        server.handle.accept_stats().pauses_at_limit > 0
    });
    assert_eq!(server.handle.accept_stats().accepted, 1);
    held.lock().unwrap().clear();
    eventually("the second", || held.lock().unwrap().len() == 1);
    held.lock().unwrap().clear();
}

#[test]
fn a_shutdown_serves_the_connections_in_the_backlog_of_a_full_loop() {
    let server = Server::start(two_pollers().max_connections(1), rpc);
    let mut peers: Vec<Peer> = (0..5).map(|_| server.connect()).collect();
    peers[0].call(b"in");
    for peer in &mut peers {
        peer.send(&frame(b"before"));
    }
    let shutdown = server.handle.shutdown(LIMIT);
    for mut peer in peers {
        assert_eq!(peer.receive_all().unwrap(), frame(b"before"));
    }
    assert_eq!(shutdown.wait(), 0);
}

#[test]
fn a_full_loop_with_a_backlog_ends_at_the_shutdown_deadline() {
    let handler = Whole(async |_: Connection| std::future::pending().await);
    let builder = builder().pollers(1).max_connections(1);
    let server = Server::start(builder, handler);
    let _peers: Vec<Peer> = (0..3).map(|_| server.connect()).collect();
    eventually("the first", || server.handle.connections() == 1);
    assert_eq!(server.shut_down(Duration::from_millis(100)), 1);
}

#[test]
fn connections_are_accepted_no_faster_than_accept_rate() {
    let server = Server::start(two_pollers().accept_rate(20), rpc);
    let start = Instant::now();
    let mut peers: Vec<Peer> = (0..12).map(|_| server.connect()).collect();
    peers.iter_mut().for_each(|peer| peer.call(b"in"));
    // The first tenth of a second's share may be accepted at once, and one more at the start.
    assert!(start.elapsed() >= Duration::from_millis(400));
    assert!(server.handle.accept_stats().pauses_for_rate > 0);
}

/// Accepts every other connection, beginning with the first.
fn every_other(info: &IncomingConnection<'_>, seen: &AtomicUsize) -> Accept {
    if seen.fetch_add(1, Ordering::SeqCst).is_multiple_of(2) {
        Accept::Accept(info.options().clone())
    } else {
        Accept::Reject
    }
}

#[test]
fn a_connection_that_on_accept_refuses_is_closed_before_any_handler() {
    let seen = AtomicUsize::new(0);
    let filter = move |info: &IncomingConnection<'_>| every_other(info, &seen);
    let mut server = Server::start(two_pollers().on_accept(filter), rpc);
    for round in 0..20 {
        let mut peer = server.connect();
        if round % 2 == 0 {
            peer.call(b"in");
        } else {
            assert_eq!(peer.receive_all().unwrap(), b"");
        }
    }
    let stats = server.handle.accept_stats();
    assert_eq!((stats.accepted, stats.rejected), (20, 10));
    let endings = server.take_endings();
    server.shut_down(LIMIT);
    assert_eq!(endings.iter().count(), 10);
}

#[test]
fn a_panic_of_on_accept_refuses_its_connection_and_affects_no_other() {
    let seen = AtomicUsize::new(0);
    let filter = move |info: &IncomingConnection<'_>| match every_other(info, &seen) {
        Accept::Reject => panic!("requested by the test"),
        taken => taken,
    };
    let server = Server::start(two_pollers().max_connections(2).on_accept(filter), rpc);
    let mut steady = server.connect();
    steady.call(b"in");
    for _ in 0..5 {
        assert_eq!(server.connect().receive_all().unwrap(), b"");
        server.connect().call(b"in");
    }
    steady.call(b"in");
}

#[test]
fn on_accept_sets_the_limits_of_each_connection() {
    let small = AtomicUsize::new(0);
    let filter = move |info: &IncomingConnection<'_>| {
        assert_eq!(info.options().get_max_frame(), 1000);
        let max_frame = [10, 100_000][small.fetch_add(1, Ordering::SeqCst) % 2];
        Accept::Accept(info.options().clone().max_frame(max_frame))
    };
    let server = Server::start(two_pollers().max_frame(1000).on_accept(filter), rpc);
    let (mut small, mut large) = (server.connect(), server.connect());
    small.call(&bytes(10, 1));
    small.send(&frame(&bytes(11, 1)));
    assert_eq!(small.receive_all().unwrap(), b"");
    large.call(&bytes(50_000, 1));
}

#[test]
fn invalid_options_from_on_accept_refuse_the_connection() {
    let filter = |info: &IncomingConnection<'_>| {
        let options = info.options().clone().max_frame(0);
        Accept::Accept(options)
    };
    let server = Server::start(two_pollers().on_accept(filter), rpc);
    assert_eq!(server.connect().receive_all().unwrap(), b"");
    assert_eq!(server.handle.accept_stats().rejected, 1);
}

#[test]
fn on_accept_sees_the_addresses_and_sets_the_socket_options() {
    let recorded = Arc::new(Mutex::new(Vec::new()));
    let record = Arc::clone(&recorded);
    let filter = move |info: &IncomingConnection<'_>| {
        let local = info.local_addr().expect("a bound socket");
        record.lock().unwrap().push((info.peer_addr(), local));
        let known = info.peer_credentials().is_ok();
        assert_eq!(known, crate::support::kind() == Kind::Unix);
        let options: ConnOptions = info.options().clone();
        let options = options.nodelay(false).keepalive(None).user_timeout(None);
        Accept::Accept(options)
    };
    let handler = async |conn: &mut Connection| {
        let socket = socket2::SockRef::from(&*conn);
        let mut set = vec![socket.keepalive()?];
        if crate::support::kind() == Kind::Tcp {
            set.push(socket.tcp_nodelay()?);
            set.push(socket.tcp_user_timeout()?.is_some());
        }
        conn.reader().skip(1).await?;
        let answer = if set.contains(&true) { b'!' } else { b'.' };
        conn.writer().put_u8(answer);
        Ok(())
    };
    let builder = builder().pollers(1);
    let server = Server::start(builder.on_accept(filter), handler);
    let mut peer = server.connect();
    peer.send(b"?");
    assert_eq!(peer.receive(1), b".");
    assert_eq!(*recorded.lock().unwrap(), [(peer.addr(), server.addr)]);
}

#[test]
fn a_zero_limit_is_rejected_with_the_name_of_its_field() {
    let refused = |builder: AnyBuilder| {
        let error = builder.listen(free_listener()).build().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        invalid_option(&error).map(|(option, _)| option)
    };
    assert_eq!(
        refused(two_pollers().on_request(rpc).max_connections(0)),
        Some("max_connections")
    );
    assert_eq!(
        refused(two_pollers().on_request(rpc).accept_rate(0)),
        Some("accept_rate")
    );
}
