// SPDX-License-Identifier: MIT OR Apache-2.0
//! Other values of the user that the framework keeps and drops: attached state, errors, handlers,
//! futures. A panic in their drop ends only what they belong to.

use std::future::{Future, pending, poll_fn};
use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use netpoll::codec::LengthField;
use netpoll::dialer::{Resolve, Resolving};
use netpoll::mux::{Backoff, Client, ClientOptions, Message, Numbered};
use netpoll::{BoxError, Connection, Dialer, EventLoop, Runner};

use crate::hostile::watched;
use crate::support::{AnyBuilder, Peer, Server, block_on, eventually};

/// Panics when it is dropped, even during unwinding.
#[derive(Debug)]
struct Harmful;

impl Drop for Harmful {
    fn drop(&mut self) {
        std::panic::panic_any("foreign code panics");
    }
}

impl std::fmt::Display for Harmful {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("harmful")
    }
}

impl std::error::Error for Harmful {}

/// Runs `harm` for a byte `x`, and answers every other byte.
async fn serve(conn: &mut Connection, harm: impl AsyncFnOnce(&mut Connection)) -> io::Result<()> {
    if conn.reader().read_u8().await? == b'x' {
        harm(conn).await;
    } else {
        conn.writer().put_u8(b'y');
    }
    Ok(())
}

/// Checks that a server of one poller still serves after `harm`.
fn goes_on(what: &str, builder: impl Into<AnyBuilder>, harm: impl FnOnce(&Server)) {
    watched(what, || {
        let server = Server::start_unobserved(builder.into().pollers(1));
        harm(&server);
        let mut peer = Peer::connect(server.addr);
        peer.send(b"a");
        assert_eq!(peer.receive(1), b"y");
    });
}

fn does_harm(server: &Server) {
    let mut peer = Peer::connect(server.addr);
    peer.send(b"x");
    let _end = peer.receive_all();
}

#[test]
fn attached_state_may_panic_after_its_handler_panicked() {
    let builder = EventLoop::builder().on_request(async |conn: &mut Connection| {
        let harm = async |conn: &mut Connection| {
            conn.attach(Harmful);
            std::panic::panic_any("foreign code panics");
        };
        Ok(serve(conn, harm).await?)
    });
    goes_on("attached", builder, does_harm);
}

#[test]
fn owned_connection_and_its_state_may_be_dropped_by_a_panicking_handler() {
    let builder = EventLoop::builder().on_connection(async |mut conn: Connection| {
        if conn.reader().read_u8().await? == b'x' {
            conn.attach(Harmful);
            std::panic::panic_any("foreign code panics");
        }
        conn.writer().put_u8(b'y');
        conn.writer().flush().await?;
        Ok(())
    });
    goes_on("attached and owned", builder, does_harm);
}

#[test]
fn handler_error_may_panic_when_another_close_reason_came_first() {
    let waits = Arc::new(Mutex::new(false));
    let noted = Arc::clone(&waits);
    let builder = EventLoop::builder()
        .on_request(async move |conn: &mut Connection| fails(conn, &noted).await);
    goes_on("error", builder, |server| {
        let mut peer = Peer::connect(server.addr);
        peer.send(b"x");
        eventually("a wait", || *waits.lock().unwrap());
        peer.reset();
        eventually("the end", || server.handle.connections() == 0);
    });
}

/// Fails with a hostile error when its peer resets.
async fn fails(conn: &mut Connection, noted: &Mutex<bool>) -> Result<(), BoxError> {
    if conn.reader().read_u8().await? != b'x' {
        conn.writer().put_u8(b'y');
        return Ok(());
    }
    let mut reader = conn.reader();
    let mut waits = std::pin::pin!(reader.wait(1));
    let ended = poll_fn(|context| {
        let polled = waits.as_mut().poll(context);
        *noted.lock().expect("no panic under it") = true;
        polled
    });
    match ended.await {
        Ok(()) => Ok(()),
        Err(_reset) => Err(Box::new(Harmful)),
    }
}

#[test]
fn values_of_an_aborted_handler_may_panic_on_any_runner() {
    for runner in [Runner::Inline, Runner::Threads(1)] {
        let builder = EventLoop::builder_on(runner).on_connection(async |mut conn: Connection| {
            if conn.reader().read_u8().await? == b'x' {
                let _held = Harmful;
                conn.writer().put_u8(b'y');
                pending::<()>().await;
            }
            conn.writer().put_u8(b'y');
            conn.writer().flush().await?;
            Ok(())
        });
        let mut kept = None;
        goes_on("aborted", builder, |server| {
            let mut peer = Peer::connect(server.addr);
            peer.send(b"x");
            assert_eq!(peer.receive(1), b"y");
            // The connection is aborted when the loop ends.
            kept = Some(peer);
        });
    }
}

#[test]
fn handlers_may_panic_when_dropped_after_their_loop() {
    let on_threads = EventLoop::builder().handler_threads(2);
    for builder in [EventLoop::builder(), on_threads] {
        let builder = builder.on_request_with(|| {
            let state = Harmful;
            async move |conn: &mut Connection| {
                let _kept = &state;
                Ok(serve(conn, async |_| ()).await?)
            }
        });
        goes_on("handlers", builder, |_| ());
    }
}

/// A resolver that fails with an error whose drop calls the client that keeps the error.
struct NoName(Arc<Mutex<Option<TestClient>>>);

type TestClient = Client<Numbered<LengthField>>;

struct Asks(Arc<Mutex<Option<TestClient>>>);

impl Drop for Asks {
    fn drop(&mut self) {
        let client = self.0.lock().expect("no panic under it").clone();
        if let Some(client) = client {
            let _stats = (client.stats(), client.is_connected());
        }
    }
}

impl std::fmt::Debug for Asks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("asks")
    }
}

impl std::fmt::Display for Asks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("asks")
    }
}

impl std::error::Error for Asks {}

impl Resolve for NoName {
    fn resolve<'a>(&'a self, _host: &'a str, _port: u16) -> Resolving<'a> {
        let error = io::Error::other(Asks(Arc::clone(&self.0)));
        Box::pin(async { Err(error) })
    }
}

#[test]
fn resolver_error_may_call_its_client_when_dropped() {
    watched("a resolver", || {
        let place = Arc::new(Mutex::new(None));
        let dialer = Dialer::new().resolver(NoName(Arc::clone(&place)));
        let moment = Duration::from_millis(1);
        let backoff = Backoff::default().first(moment).longest(moment);
        let options = ClientOptions::default().backoff(backoff);
        let codec = Numbered::new(LengthField::new());
        let client = Client::dialing(dialer, ("nobody", 1), codec, options).unwrap();
        *place.lock().unwrap() = Some(client.clone());
        for _ in 0..5 {
            let called = block_on(client.call(Message::new(b"text")));
            drop(called.expect_err("no name"));
            std::thread::sleep(2 * moment);
        }
        drop(place.lock().unwrap().take());
    });
}
