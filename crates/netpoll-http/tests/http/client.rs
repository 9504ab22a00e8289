// SPDX-License-Identifier: MIT OR Apache-2.0
//! Clients: hyper's on a poller, and raw sockets.

use std::future::Future;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::{http1, http2};
use hyper::{Request, Response};
use netpoll::Dialer;
use netpoll::hyper::Executor;
use netpoll::task::{JoinHandle, spawn_local};

use super::LIMIT;

/// Runs a client on a poller.
pub(crate) fn on_poller<F, T>(make: impl FnOnce() -> F + Send + 'static) -> T
where
    F: Future<Output = T> + 'static,
    T: Send + 'static,
{
    let task = netpoll::spawn(async move { spawn_local(make())?.await });
    let task = task.expect("a poller");
    task.wait().expect("no panic").expect("no panic")
}

/// A connection of hyper's client, of either version.
pub(crate) enum Client {
    Http1(http1::SendRequest<Full<Bytes>>),
    Http2(http2::SendRequest<Full<Bytes>>),
}

/// The end of a client's connection.
pub(crate) type Ended = JoinHandle<hyper::Result<()>>;

impl Client {
    pub(crate) async fn http1(addr: SocketAddr) -> (Self, Ended) {
        let conn = Dialer::new().dial(addr).await.expect("a connection");
        let (sender, driver) = http1::handshake(conn).await.expect("HTTP/1");
        (Self::Http1(sender), spawn_local(driver).expect("a poller"))
    }

    pub(crate) async fn http2(addr: SocketAddr) -> (Self, Ended) {
        let conn = Dialer::new().dial(addr).await.expect("a connection");
        let handshake = http2::handshake(Executor, conn);
        let (sender, driver) = handshake.await.expect("HTTP/2");
        (Self::Http2(sender), spawn_local(driver).expect("a poller"))
    }

    /// Sends a request as soon as the connection is ready. The returned future waits for the
    /// answer.
    pub(crate) async fn send(
        &mut self,
        request: Request<Full<Bytes>>,
    ) -> hyper::Result<Response<Incoming>> {
        match self {
            Self::Http1(sender) => {
                sender.ready().await?;
                sender.send_request(request).await
            }
            Self::Http2(sender) => {
                sender.ready().await?;
                sender.send_request(request).await
            }
        }
    }

    pub(crate) async fn call(&mut self, path: &str, body: Bytes) -> hyper::Result<Bytes> {
        let answer = self.send(request(path, body)).await?;
        Ok(answer.into_body().collect().await?.to_bytes())
    }
}

/// Returns a POST request.
pub(crate) fn request(path: &str, body: Bytes) -> Request<Full<Bytes>> {
    let request = Request::post(format!("http://test{path}")).header("host", "test");
    request.body(Full::new(body)).expect("a request")
}

/// Connects a raw socket.
pub(crate) fn connect(addr: SocketAddr) -> TcpStream {
    let peer = TcpStream::connect(addr).expect("a connection");
    peer.set_read_timeout(Some(LIMIT)).expect("a timeout");
    peer.set_write_timeout(Some(LIMIT)).expect("a timeout");
    peer.set_nodelay(true).expect("TCP");
    peer
}

pub(crate) fn send(mut peer: &TcpStream, bytes: impl AsRef<[u8]>) {
    peer.write_all(bytes.as_ref()).expect("the peer reads");
}

/// Reads up to the end of the stream. A reset ends it, too.
pub(crate) fn read_all(mut peer: &TcpStream) -> String {
    let mut bytes = Vec::new();
    match peer.read_to_end(&mut bytes) {
        Ok(_) => {}
        Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset),
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Reads until `text` has arrived.
pub(crate) fn read_until(mut peer: &TcpStream, text: &str) -> String {
    let mut bytes = Vec::new();
    loop {
        let mut chunk = [0; 1024];
        let count = peer.read(&mut chunk).expect("an answer in time");
        assert!(count > 0, "ended: {}", String::from_utf8_lossy(&bytes));
        bytes.extend_from_slice(&chunk[..count]);
        let seen = String::from_utf8_lossy(&bytes);
        if seen.contains(text) {
            return seen.into_owned();
        }
    }
}
