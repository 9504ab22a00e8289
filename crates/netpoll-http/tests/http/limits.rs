// SPDX-License-Identifier: MIT OR Apache-2.0
//! Slow peers and large requests.

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use hyper::body::Bytes;
use hyper::{Request, StatusCode};
use netpoll_http::{Body, Server, service_fn};

use super::client::{Client, connect, on_poller, read_all, read_until, request, send};
use super::{LIMIT, Running, echo, echo_server};

const SHORT: Duration = Duration::from_millis(100);

#[test]
fn silent_connection_is_closed() {
    let builder = echo_server().event_loop(|event_loop| event_loop.first_byte_timeout(SHORT));
    let server = Running::start(builder);
    assert_eq!(read_all(&connect(server.addr)), "");
}

/// Sends a byte from time to time until the connection ends.
fn drip(mut peer: &std::net::TcpStream) {
    let deadline = Instant::now() + LIMIT;
    while peer.write_all(b"a").is_ok() {
        assert!(Instant::now() < deadline, "the connection does not end");
        thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn head_that_drips_is_cut() {
    let server = Running::start(echo_server().head_timeout(SHORT));
    let first = connect(server.addr);
    send(&first, "GET / HTTP/1.1\r\nhost: ");
    drip(&first);
    // The second request of a connection.
    let second = connect(server.addr);
    send(&second, "GET / HTTP/1.1\r\nhost: a\r\n\r\n");
    read_until(&second, "hello");
    send(&second, "GET / HTTP/1.1\r\nhost: ");
    drip(&second);
    // A part of the preface of HTTP/2.
    let preface = connect(server.addr);
    send(&preface, "PRI * HTT");
    assert_eq!(read_all(&preface), "");
}

#[test]
fn idle_connection_is_closed_in_order() {
    let server = Running::start(echo_server().keep_alive(SHORT));
    let peer = connect(server.addr);
    for _ in 0..3 {
        send(&peer, "GET / HTTP/1.1\r\nhost: a\r\n\r\n");
        read_until(&peer, "hello");
    }
    assert_eq!(read_all(&peer), "");
    let addr = server.addr;
    on_poller(async move || {
        let (mut client, ended) = Client::http2(addr).await;
        assert_eq!(client.call("/", Bytes::new()).await.unwrap(), "hello");
        // The client keeps its sender: the server ends the connection.
        ended.await.unwrap().unwrap();
        client.call("/", Bytes::new()).await.unwrap_err();
    });
}

#[test]
fn request_in_flight_is_not_idle() {
    let waits = async |request: Request<Body>| {
        netpoll::time::sleep(4 * SHORT).await;
        echo(request).await
    };
    let builder = Server::builder().service(service_fn(waits));
    let server = Running::start(builder.keep_alive(SHORT).head_timeout(SHORT));
    let peer = connect(server.addr);
    send(
        &peer,
        "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 4\r\n\r\nbody",
    );
    read_until(&peer, "body");
}

#[test]
fn body_that_drips_is_answered_with_408() {
    let server = Running::start(echo_server().min_body_rate(1000, SHORT));
    let peer = connect(server.addr);
    send(
        &peer,
        "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 100000\r\n\r\n",
    );
    thread::scope(|scope| {
        scope.spawn(|| drip(&peer));
        let answer = read_until(&peer, "\r\n\r\n");
        assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
        assert!(answer.contains("connection: close"), "{answer}");
    });
}

#[test]
fn body_that_is_fast_enough_may_take_long() {
    let server = Running::start(echo_server().min_body_rate(10, SHORT));
    let mut peer = connect(server.addr);
    send(
        &peer,
        "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 50\r\n\r\n",
    );
    for _ in 0..10 {
        thread::sleep(Duration::from_millis(30));
        peer.write_all(b"12345").unwrap();
    }
    read_until(&peer, &"12345".repeat(10));
}

#[test]
fn announced_body_above_the_limit_does_not_reach_the_service() {
    let calls = Arc::<AtomicUsize>::default();
    let seen = Arc::clone(&calls);
    let service = service_fn(async move |request: Request<Body>| {
        seen.fetch_add(1, Ordering::SeqCst);
        echo(request).await
    });
    let server = Running::start(Server::builder().service(service).max_body(4));
    let peer = connect(server.addr);
    send(
        &peer,
        "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 4\r\n\r\nbody",
    );
    read_until(&peer, "body");
    send(
        &peer,
        "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\n\r\n",
    );
    let answer = read_all(&peer);
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
    assert_eq!(calls.load(Ordering::SeqCst), 1);
    let addr = server.addr;
    on_poller(async move || {
        let (mut client, _ended) = Client::http2(addr).await;
        let large = request("/", Bytes::from_static(b"large"));
        let answer = client.send(large).await.unwrap();
        assert_eq!(answer.status(), StatusCode::PAYLOAD_TOO_LARGE);
        // The connection goes on.
        assert_eq!(client.call("/", Bytes::new()).await.unwrap(), "hello");
    });
}

#[test]
fn body_without_a_length_is_cut_at_the_limit() {
    let server = Running::start(echo_server().max_body(4));
    let peer = connect(server.addr);
    send(
        &peer,
        "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n5\r\nlarge\r\n",
    );
    let answer = read_until(&peer, "\r\n\r\n");
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
}

#[test]
fn head_above_the_limit_is_answered_with_431() {
    let server = Running::start(echo_server());
    let mut peer = connect(server.addr);
    send(&peer, "GET / HTTP/1.1\r\nhost: a\r\n");
    let line = format!("x: {}\r\n", "a".repeat(1000));
    // The server may close before it has read everything.
    for _ in 0..80 {
        if peer.write_all(line.as_bytes()).is_err() {
            break;
        }
    }
    let answer = read_all(&peer);
    assert!(answer.starts_with("HTTP/1.1 431 "), "{answer}");
    let addr = server.addr;
    on_poller(async move || {
        let (mut client, _ended) = Client::http2(addr).await;
        assert_eq!(client.call("/", Bytes::new()).await.unwrap(), "hello");
        let mut bomb = request("/", Bytes::new());
        for number in 0..30 {
            let name = hyper::header::HeaderName::try_from(format!("x-{number}")).unwrap();
            let value = "a".repeat(1000).parse().unwrap();
            bomb.headers_mut().insert(name, value);
        }
        match client.send(bomb).await {
            Ok(answer) => {
                assert_eq!(answer.status(), StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE);
            }
            // The client knows the limit of the server, and refuses.
            Err(error) => assert!(!error.is_canceled(), "{error:?}"),
        }
    });
}
