// SPDX-License-Identifier: MIT OR Apache-2.0
//! When a client's connection starts to close, new calls use another connection. Calls in flight
//! fail as soon as no answer can arrive, not after the linger time.

use std::io;
use std::sync::LazyLock;
use std::thread::JoinHandle;
use std::time::Duration;

use netpoll::codec::LengthField;
use netpoll::error::ErrorExt;
use netpoll::mux::{Client, ClientOptions, Numbered};
use netpoll::options::{ConnOptions, Timeouts};
use netpoll::{CloseReason, Dialer};

use super::mux::{TestClient, answer, call, codec, echo, request};
use crate::support::{Host, LIMIT, Peer, block_on, eventually};

/// A client of `host` whose connections linger longer than a test may wait.
fn client_of(host: &Host, timeouts: Timeouts) -> TestClient {
    let dialer = Dialer::new().timeouts(timeouts).linger(10 * LIMIT);
    let client = Client::dialing(dialer, host.addr, codec(), ClientOptions::default());
    client.expect("valid options")
}

/// Makes a call on a thread of its own.
fn spawn_call(client: &TestClient, text: &'static [u8]) -> JoinHandle<io::Result<Vec<u8>>> {
    let client = client.clone();
    std::thread::spawn(move || block_on(call(&client, text)))
}

/// Closes a connection from either side.
type End = fn(&TestClient, Peer) -> Option<Peer>;

const ENDS: &[(&str, End)] = &[
    ("a close", |client, peer| {
        client.close();
        Some(peer)
    }),
    ("the peer's FIN", |_, peer| {
        peer.finish();
        Some(peer)
    }),
    ("the peer's reset", |_, peer| {
        peer.reset();
        None
    }),
    ("a malformed answer", |_, mut peer| {
        peer.send(&[0, 0, 0, 1, 7]);
        Some(peer)
    }),
];

#[test]
fn calls_in_flight_fail_when_the_close_begins_and_the_next_call_reconnects() {
    for (name, end) in ENDS {
        let host = Host::new();
        let client = client_of(&host, Timeouts::for_dialing());
        let first = spawn_call(&client, b"first");
        let mut peer = host.accept();
        request(&mut peer);
        let _peer = end(&client, peer);
        first.join().unwrap().expect_err(name);
        assert!(!client.is_connected(), "{name}");
        let second = spawn_call(&client, b"second");
        echo(&mut host.accept(), 1);
        assert_eq!(second.join().unwrap().expect(name), b"second");
    }
}

#[test]
fn no_call_after_a_close_is_lost() {
    let host = Host::new();
    let client = client_of(&host, Timeouts::for_dialing());
    let mut peers = Vec::new();
    for _ in 0..100 {
        let made = spawn_call(&client, b"again");
        let mut peer = host.accept();
        echo(&mut peer, 1);
        assert_eq!(made.join().unwrap().expect("an answer"), b"again");
        client.close();
        // Kept: dropping the peer would close the lingering connection.
        peers.push(peer);
    }
}

#[test]
fn a_connection_closed_for_idleness_takes_no_call() {
    let host = Host::new();
    let client = client_of(
        &host,
        Timeouts::for_dialing().idle(Duration::from_millis(20)),
    );
    let mut peers = Vec::new();
    for _ in 0..3 {
        let made = spawn_call(&client, b"soon");
        let mut peer = host.accept();
        echo(&mut peer, 1);
        assert_eq!(made.join().unwrap().expect("an answer"), b"soon");
        eventually("the close", || !client.is_connected());
        peers.push(peer);
    }
}

#[test]
fn a_connection_past_its_max_age_completes_calls_in_flight_and_takes_no_new_one() {
    let host = Host::new();
    let client = client_of(
        &host,
        Timeouts::for_dialing().max_age(Duration::from_millis(50)),
    );
    let first = spawn_call(&client, b"first");
    let mut old = host.accept();
    let (id, text) = request(&mut old);
    eventually("the maximum age", || !client.is_connected());
    let second = spawn_call(&client, b"second");
    echo(&mut host.accept(), 1);
    assert_eq!(second.join().unwrap().expect("an answer"), b"second");
    answer(&mut old, id, &text);
    assert_eq!(first.join().unwrap().expect("an answer"), b"first");
    assert_eq!(old.receive_all().expect("a FIN"), b"");
}

#[test]
fn an_unsent_request_is_sent_over_the_next_connection() {
    // More than two socket buffers hold.
    const LARGE: usize = 16 << 20;
    static REQUEST: LazyLock<Vec<u8>> = LazyLock::new(|| vec![7; LARGE]);
    let host = Host::new();
    let bounds = ConnOptions::for_dialing().max_frame(LARGE + 64);
    let dialer = Dialer::new().options(bounds);
    let large_frames = Numbered::new(LengthField::new().maximum(LARGE + 64));
    let client = Client::dialing(dialer, host.addr, large_frames, ClientOptions::default());
    let client = client.expect("valid options");
    let stuck = spawn_call(&client, &REQUEST);
    let mut peer = host.accept();
    peer.receive(1);
    // The second request waits behind the one that the peer does not read.
    let waits = spawn_call(&client, b"not sent");
    eventually("two calls", || client.stats().in_flight == 2);
    peer.finish();
    echo(&mut host.accept(), 1);
    assert_eq!(waits.join().unwrap().expect("an answer"), b"not sent");
    let lost = stuck
        .join()
        .unwrap()
        .expect_err("the request was sent in part");
    assert!(
        matches!(lost.close_reason(), Some(CloseReason::PeerFin)),
        "{lost}"
    );
    drop(peer);
}
