// SPDX-License-Identifier: MIT OR Apache-2.0
//! Requests of both versions, kinds of services, and what a service sees.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::mpsc::channel;

use axum::Router;
use axum::routing::{get, post};
use http_body_util::Full;
use hyper::body::Bytes;
use hyper::{Request, Response};
use netpoll::BoxError;
use netpoll::addr::Addr;
use netpoll_http::{Body, ConnInfo, Server, service_fn};

use super::client::{Client, connect, on_poller, read_all, read_until, send};
use super::{Running, echo_server};

#[test]
fn axum_serves_both_versions_on_one_port() {
    let app = Router::new()
        .route("/hello", post(async || "hello"))
        .route("/echo", post(async |body: Bytes| body));
    let server = Running::start(Server::builder().service(app));
    let addr = server.addr;
    on_poller(async move || {
        for (mut client, _ended) in [Client::http1(addr).await, Client::http2(addr).await] {
            let hello = client.call("/hello", Bytes::new()).await;
            assert_eq!(hello.unwrap(), "hello");
            for size in [1, 1000, 1 << 20] {
                let body = Bytes::from(vec![b'a'; size]);
                let echoed = client.call("/echo", body.clone()).await;
                assert!(echoed.unwrap() == body, "{size} bytes");
            }
        }
    });
}

#[test]
fn preface_that_comes_byte_by_byte_is_http2() {
    let server = Running::start(echo_server());
    let peer = connect(server.addr);
    for byte in b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" {
        send(&peer, [*byte]);
    }
    let settings = [0, 0, 0, 4, 0, 0, 0, 0, 0];
    send(&peer, settings);
    // The settings of the server: a length, and the type.
    let mut header = [0; 9];
    std::io::Read::read_exact(&mut &peer, &mut header).unwrap();
    assert_eq!((header[0], header[3]), (0, 4), "{header:?}");
    // A method that begins as the preface does.
    let peer = connect(server.addr);
    send(&peer, "PR");
    send(
        &peer,
        "OPFIND / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n",
    );
    assert!(read_all(&peer).starts_with("HTTP/1.1 200 OK"));
    // The same, and shorter than the preface.
    let peer = connect(server.addr);
    send(&peer, "P");
    std::thread::sleep(std::time::Duration::from_millis(20));
    send(&peer, "OST / HTTP/1.0\r\n\r\n");
    assert!(read_all(&peer).starts_with("HTTP/1.0 200 OK"));
    let peer = connect(server.addr);
    send(&peer, "GET / HTTP/1.0\r\n\r\n");
    assert!(read_all(&peer).starts_with("HTTP/1.0 200 OK"));
}

#[test]
fn service_of_a_connection_knows_its_peer_and_need_not_be_send() {
    let builder = Server::builder().service_per_connection(|info: &ConnInfo| {
        let (info, count) = (info.clone(), Rc::new(Cell::new(0)));
        service_fn(async move |request: Request<Body>| {
            count.set(count.get() + 1);
            let seen = request.extensions().get::<ConnInfo>().expect("an info");
            assert_eq!(seen.local_addr(), info.local_addr());
            let text = format!("{} {}", seen.peer_addr(), count.get());
            Ok::<_, BoxError>(Response::new(text))
        })
    });
    let server = Running::start(builder);
    for _ in 0..2 {
        let peer = connect(server.addr);
        let addr = Addr::from(peer.local_addr().unwrap());
        for count in 1..=2 {
            send(&peer, "GET / HTTP/1.1\r\nhost: a\r\n\r\n");
            read_until(&peer, &format!("{addr} {count}"));
        }
    }
}

#[test]
fn service_of_a_poller_serves_all_its_connections() {
    let builder = Server::builder()
        .event_loop(|event_loop| event_loop.pollers(1))
        .service_per_poller(|| {
            let count = Rc::new(Cell::new(0));
            service_fn(async move |_request: Request<Body>| {
                count.set(count.get() + 1);
                Ok::<_, BoxError>(Response::new(format!("request {}", count.get())))
            })
        });
    let server = Running::start(builder);
    for count in 1..=3 {
        let peer = connect(server.addr);
        send(&peer, "GET / HTTP/1.1\r\nhost: a\r\n\r\n");
        read_until(&peer, &format!("request {count}"));
    }
}

#[test]
fn answers_to_pipelined_requests_leave_with_one_system_call() {
    let server = Running::start(echo_server());
    let peer = connect(server.addr);
    let requests = "GET / HTTP/1.1\r\nhost: a\r\n\r\n".repeat(15);
    send(
        &peer,
        requests + "GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n",
    );
    let answers = read_all(&peer);
    assert_eq!(answers.matches("hello").count(), 16);
    let sends = server.handle.stats().total().sends;
    assert!(sends <= 2, "{sends} sends");
}

#[test]
fn panic_ends_one_connection_of_http1_and_one_stream_of_http2() {
    let app = Router::new()
        .route(
            "/panic",
            post(async || -> &'static str { panic!("one request") }),
        )
        .route("/hello", post(async || "hello"));
    let server = Running::start(Server::builder().service(app));
    let addr = server.addr;
    on_poller(async move || {
        let (mut first, _ended) = Client::http1(addr).await;
        let (mut other, _ended) = Client::http1(addr).await;
        first.call("/panic", Bytes::new()).await.unwrap_err();
        assert_eq!(other.call("/hello", Bytes::new()).await.unwrap(), "hello");
        let (mut client, _ended) = Client::http2(addr).await;
        client.call("/panic", Bytes::new()).await.unwrap_err();
        assert_eq!(client.call("/hello", Bytes::new()).await.unwrap(), "hello");
    });
}

#[test]
fn request_whose_peer_is_gone_is_dropped() {
    let (dropped, drops) = channel();
    let (began, begins) = channel();
    let app = Router::new().route(
        "/",
        get(async move || {
            struct Dropped(std::sync::mpsc::Sender<()>);
            impl Drop for Dropped {
                fn drop(&mut self) {
                    self.0.send(()).unwrap();
                }
            }
            let _guard = Dropped(dropped.clone());
            began.send(()).unwrap();
            std::future::pending::<&'static str>().await
        }),
    );
    let server = Running::start(Server::builder().service(app));
    let peer = connect(server.addr);
    send(&peer, "GET / HTTP/1.1\r\nhost: a\r\n\r\n");
    begins.recv_timeout(super::LIMIT).unwrap();
    drop(peer);
    drops.recv_timeout(super::LIMIT).unwrap();
}

#[test]
fn server_without_a_service_is_refused_by_name() {
    let error = Server::builder().build().unwrap_err();
    assert!(error.to_string().starts_with("service: "), "{error}");
}

#[test]
fn error_of_a_service_closes_its_connection() {
    let fails = async |_request: Request<Body>| -> Result<Response<Full<Bytes>>, BoxError> {
        Err("broken".into())
    };
    let server = Running::start(Server::builder().service(service_fn(fails)));
    let peer = connect(server.addr);
    send(&peer, "GET / HTTP/1.1\r\nhost: a\r\n\r\n");
    assert_eq!(read_all(&peer), "");
}
