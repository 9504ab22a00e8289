// SPDX-License-Identifier: MIT OR Apache-2.0
//! The limits, the filter and the options of a listener without an event loop.

use std::fs::File;
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};

use netpoll::error::ErrorKind;
use netpoll::listener::Accept;
use netpoll::options::ConnOptions;
use netpoll::{ErrorExt, Listener};

use super::process::alone_twice_with;
use super::waiting::{block_on, eventually, poll_once};
use super::{Accepting, client, expect_closed, listen, number, pass_the_poller, poll_until_ready};

#[test]
fn accept_continues_after_descriptors_were_exhausted() {
    let name = "limits::accept_continues_after_descriptors_were_exhausted";
    alone_twice_with(64, name, || {
        let (listener, addr) = listen();
        let listener = listener.max_connections(1000);
        let _first_peer = client(addr, 1);
        let _first = block_on(listener.accept()).expect("a connection");
        let mut held = Vec::new();
        while let Ok(file) = File::open("/dev/null") {
            held.push(file);
        }
        let mut accepting: Accepting<'_> = Box::pin(listener.accept());
        assert!(poll_once(accepting.as_mut()).is_pending());
        let failures = || listener.accept_stats().process_out_of_descriptors;
        let before = failures();
        held.pop();
        let _peer = client(addr, 2);
        eventually("an accept that fails", || failures() > before);
        assert!(poll_once(accepting.as_mut()).is_pending());
        drop(held);
        assert_eq!(block_on(number(poll_until_ready(&mut accepting))), 2);
    });
}

#[test]
fn accept_waits_at_the_connection_limit_until_a_connection_ends() {
    let (listener, addr) = listen();
    let listener = listener.max_connections(2);
    let mut peers: Vec<_> = (0..3).map(|number| client(addr, number)).collect();
    let first = block_on(listener.accept()).expect("a connection");
    let _second = block_on(listener.accept()).expect("a connection");
    let mut third: Accepting<'_> = Box::pin(listener.accept());
    eventually("a pause", || listener.accept_stats().pauses_at_limit > 0);
    pass_the_poller();
    assert!(poll_once(third.as_mut()).is_pending());
    assert_eq!(listener.accept_stats().accepted, 2);
    drop(first);
    drop(peers.remove(0));
    assert_eq!(block_on(number(poll_until_ready(&mut third))), 2);
}

#[test]
fn filter_rejects_connections_and_sets_their_options() {
    let (listener, addr) = listen();
    let seen = AtomicUsize::new(0);
    let listener = listener.on_accept(move |incoming| {
        if seen.fetch_add(1, Ordering::Relaxed) == 0 {
            return Accept::Reject;
        }
        let options = incoming.options().clone().max_frame(3);
        Accept::Accept(options)
    });
    let rejected = client(addr, 0);
    let _peer = client(addr, 1);
    let (mut connection, info) = block_on(listener.accept()).expect("a connection");
    assert_eq!(info.options().get_max_frame(), 3);
    let too_large = block_on(connection.reader().read_u32()).expect_err("4 bytes");
    assert_eq!(too_large.kind(), io::ErrorKind::InvalidData);
    expect_closed(&rejected);
    assert_eq!(listener.accept_stats().rejected, 1);
}

#[test]
fn invalid_options_are_reported_by_name() {
    let options = ConnOptions::default().read_high(0);
    let field = |listener: Listener| {
        let error = listener.accept_blocking().expect_err("an invalid option");
        match error.netpoll_kind() {
            Some(ErrorKind::InvalidConfig { option, .. }) => Some(option),
            _ => None,
        }
    };
    assert_eq!(field(listen().0.options(options)), Some("read_high"));
    assert_eq!(
        field(listen().0.max_connections(0)),
        Some("max_connections")
    );
    assert_eq!(field(listen().0.accept_rate(0)), Some("accept_rate"));
}
