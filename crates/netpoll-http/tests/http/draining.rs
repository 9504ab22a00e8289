// SPDX-License-Identifier: MIT OR Apache-2.0
//! A shutdown cuts no request, and keeps no idle connection.

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use hyper::Request;
use hyper::body::Bytes;
use netpoll_http::{Body, Builder, Server, service_fn};

use super::client::{Client, connect, on_poller, read_all, read_until, send};
use super::{LIMIT, Running, echo, echo_server};

/// A server whose requests wait for a gate.
struct Gated {
    server: Running,
    gate: Arc<AtomicBool>,
    begun: Receiver<()>,
}

impl Gated {
    fn start(configure: impl FnOnce(Builder) -> Builder) -> Self {
        let (begin, begun) = channel();
        let gate = Arc::<AtomicBool>::default();
        let opened = Arc::clone(&gate);
        let service = service_fn(async move |request: Request<Body>| {
            begin.send(()).expect("the test waits");
            while !opened.load(Ordering::SeqCst) {
                netpoll::time::sleep(Duration::from_millis(1)).await;
            }
            echo(request).await
        });
        let server = Running::start(configure(Server::builder().service(service)));
        Self {
            server,
            gate,
            begun,
        }
    }

    fn wait_for_requests(&self, count: usize) {
        for _ in 0..count {
            self.begun.recv_timeout(LIMIT).expect("a request");
        }
    }

    /// Opens the gate once the shutdown has reached the connections.
    fn open_later(&self) {
        let gate = Arc::clone(&self.gate);
        thread::spawn(move || {
            thread::sleep(Duration::from_millis(50));
            gate.store(true, Ordering::SeqCst);
        });
    }
}

fn eventually(condition: impl Fn() -> bool) {
    let deadline = Instant::now() + LIMIT;
    while !condition() {
        assert!(
            Instant::now() < deadline,
            "the condition does not come about"
        );
        thread::yield_now();
    }
}

#[test]
fn requests_in_flight_are_answered_and_the_connections_closed() {
    let gated = Gated::start(|builder| builder);
    let addr = gated.server.addr;
    let http1 = connect(addr);
    send(&http1, "GET / HTTP/1.1\r\nhost: a\r\n\r\n");
    let http2 = thread::spawn(move || {
        on_poller(async move || {
            let (mut client, ended) = Client::http2(addr).await;
            let answer = client.call("/", Bytes::from_static(b"body")).await;
            assert_eq!(answer.unwrap(), "body");
            ended.await.unwrap().unwrap();
        });
    });
    gated.wait_for_requests(2);
    gated.open_later();
    let shutdown = gated.server.handle.shutdown(LIMIT);
    let answer = read_all(&http1);
    drop(http1);
    assert_eq!(shutdown.wait(), 0);
    assert!(answer.ends_with("hello"), "{answer}");
    assert!(answer.contains("connection: close"), "{answer}");
    http2.join().unwrap();
}

#[test]
fn idle_connections_are_closed_at_once() {
    let server = Running::start(echo_server());
    let peer = connect(server.addr);
    send(&peer, "GET / HTTP/1.1\r\nhost: a\r\n\r\n");
    read_until(&peer, "hello");
    let addr = server.addr;
    let (idle, idles) = channel();
    let http2 = thread::spawn(move || {
        on_poller(async move || {
            let (mut client, ended) = Client::http2(addr).await;
            client.call("/", Bytes::new()).await.unwrap();
            idle.send(()).unwrap();
            ended.await.unwrap().unwrap();
        });
    });
    idles.recv_timeout(LIMIT).unwrap();
    let shutdown = server.handle.shutdown(LIMIT);
    assert_eq!(read_all(&peer), "");
    // The server waits for the FIN of the peer.
    drop(peer);
    assert_eq!(shutdown.wait(), 0);
    http2.join().unwrap();
}

#[test]
fn head_that_has_begun_is_answered() {
    let server = Running::start(echo_server());
    let (first, second) = (connect(server.addr), connect(server.addr));
    send(&second, "GET / HTTP/1.1\r\nhost: a\r\n\r\n");
    read_until(&second, "hello");
    for peer in [&first, &second] {
        send(peer, "GET / HTTP/1.1\r\nho");
    }
    let both = 27 + 2 * 18;
    eventually(|| server.handle.stats().total().received == both);
    let shutdown = server.handle.shutdown(LIMIT);
    thread::sleep(Duration::from_millis(50));
    for peer in [first, second] {
        let peer = &peer;
        send(peer, "st: a\r\n\r\n");
        let answer = read_all(peer);
        assert!(answer.ends_with("hello"), "{answer}");
        assert!(answer.contains("connection: close"), "{answer}");
    }
    assert_eq!(shutdown.wait(), 0);
}

/// Closes an idle connection only after the kernel's input is read.
#[test]
fn request_that_the_kernel_holds_is_answered() {
    let (blocked, blocks) = channel();
    let gate = Arc::<AtomicBool>::default();
    let opened = Arc::clone(&gate);
    let service = service_fn(async move |request: Request<Body>| {
        if request.uri().path() == "/block" {
            blocked.send(()).expect("the test waits");
            while !opened.load(Ordering::SeqCst) {
                thread::yield_now();
            }
        }
        echo(request).await
    });
    let one_poller = |event_loop: netpoll::Builder| event_loop.pollers(1);
    let server = Running::start(Server::builder().service(service).event_loop(one_poller));
    let (blocking, peer) = (connect(server.addr), connect(server.addr));
    send(&peer, "GET / HTTP/1.1\r\nhost: a\r\n\r\n");
    read_until(&peer, "hello");
    send(&blocking, "GET /block HTTP/1.1\r\nhost: a\r\n\r\n");
    blocks.recv_timeout(LIMIT).unwrap();
    send(&peer, "GET / HTTP/1.1\r\nhost: a\r\n\r\n");
    let shutdown = server.handle.shutdown(LIMIT);
    gate.store(true, Ordering::SeqCst);
    for peer in [blocking, peer] {
        let answer = read_all(&peer);
        assert!(answer.ends_with("hello"), "{answer}");
    }
    assert_eq!(shutdown.wait(), 0);
}

#[test]
fn connection_that_was_just_made_may_send_its_request() {
    let server = Running::start(echo_server());
    let peer = connect(server.addr);
    eventually(|| server.handle.connections() > 0);
    let shutdown = server.handle.shutdown(LIMIT);
    thread::sleep(Duration::from_millis(50));
    send(&peer, "GET / HTTP/1.1\r\nhost: a\r\n\r\n");
    let answer = read_all(&peer);
    drop(peer);
    assert!(answer.ends_with("hello"), "{answer}");
    assert_eq!(shutdown.wait(), 0);
}

#[test]
fn request_that_does_not_end_is_aborted_at_the_deadline() {
    let gated = Gated::start(|builder| builder);
    let peer = connect(gated.server.addr);
    send(&peer, "GET / HTTP/1.1\r\nhost: a\r\n\r\n");
    gated.wait_for_requests(1);
    let shutdown = gated.server.handle.shutdown(Duration::from_millis(20));
    assert_eq!(shutdown.wait(), 1);
    assert_eq!(read_all(&peer), "");
}

#[test]
fn connection_that_reaches_its_age_is_closed_after_its_answer() {
    let configure = |builder: Builder| {
        builder.event_loop(|event_loop| event_loop.max_age(Duration::from_millis(20)))
    };
    let gated = Gated::start(configure);
    let peer = connect(gated.server.addr);
    send(&peer, "GET / HTTP/1.1\r\nhost: a\r\n\r\n");
    gated.wait_for_requests(1);
    gated.open_later();
    let answer = read_all(&peer);
    assert!(answer.ends_with("hello"), "{answer}");
    assert!(answer.contains("connection: close"), "{answer}");
}

/// Sends requests one after the other until the connection ends. Returns when the last one was
/// sent that got no answer; `None` if all were answered.
fn request_until_closed(addr: SocketAddr) -> Option<Instant> {
    let mut peer = connect(addr);
    loop {
        if peer
            .write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
            .is_err()
        {
            return None;
        }
        let sent = Instant::now();
        let mut answer = Vec::new();
        while !answer.ends_with(b"hello") {
            let mut chunk = [0; 1024];
            match peer.read(&mut chunk) {
                Ok(count) if count > 0 => answer.extend_from_slice(&chunk[..count]),
                _ => return Some(sent),
            }
        }
        if String::from_utf8_lossy(&answer).contains("connection: close") {
            return None;
        }
    }
}

#[test]
fn shutdown_under_load_cuts_no_request_of_http1_that_was_sent_before() {
    for _ in 0..100 {
        let server = Running::start(echo_server());
        let addr = server.addr;
        let clients = (0..4).map(|_| thread::spawn(move || request_until_closed(addr)));
        let clients: Vec<_> = clients.collect();
        eventually(|| server.handle.connections() == 4 && server.handle.stats().total().sent > 0);
        let begun = Instant::now();
        assert_eq!(server.handle.shutdown(LIMIT).wait(), 0);
        for client in clients {
            let unanswered = client.join().unwrap();
            assert!(
                unanswered.is_none_or(|sent| sent >= begun),
                "a request was cut"
            );
        }
    }
}

#[test]
fn shutdown_under_load_answers_all_requests_of_http2_that_reached_the_service() {
    for _ in 0..100 {
        let calls = Arc::<AtomicUsize>::default();
        let seen = Arc::clone(&calls);
        let service = service_fn(async move |request: Request<Body>| {
            seen.fetch_add(1, Ordering::SeqCst);
            echo(request).await
        });
        let server = Running::start(Server::builder().service(service));
        let addr = server.addr;
        let client = thread::spawn(move || {
            on_poller(async move || {
                let (mut client, ended) = Client::http2(addr).await;
                let mut answered = 0;
                // After GOAWAY, a request is refused before it is sent.
                while let Ok(answer) = client.call("/", Bytes::new()).await {
                    assert_eq!(answer, "hello");
                    answered += 1;
                }
                ended.await.unwrap().unwrap();
                answered
            })
        });
        eventually(|| calls.load(Ordering::SeqCst) > 0);
        assert_eq!(server.handle.shutdown(LIMIT).wait(), 0);
        assert_eq!(client.join().unwrap(), calls.load(Ordering::SeqCst));
    }
}
