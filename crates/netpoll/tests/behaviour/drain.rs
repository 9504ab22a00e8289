// SPDX-License-Identifier: MIT OR Apache-2.0
//! A drain answers pending requests, with every way to serve a connection.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use netpoll::buffer::LinkBuffer;
use netpoll::codec::LengthField;
use netpoll::connection::{OwnedReader, OwnedWriter, WriteQueue};
use netpoll::runner::Spawn;
use netpoll::{BoxError, CloseReason, Connection, mux};

use crate::support::{AnyBuilder, Gate, LIMIT, Peer, Server, block_on, eventually, frame};

/// Long enough that only a shutdown that hangs reaches it.
const LONG: Duration = LIMIT;

/// Short enough for a test to wait for.
const SHORT: Duration = Duration::from_millis(100);

const CODEC: LengthField = LengthField::new();

/// Starts a server that answers each frame with itself once a gate is open.
type Way = fn(AnyBuilder, Gate) -> Server;

/// The ways to serve a connection.
const WAYS: &[(&str, Way)] = &[
    ("on_request", on_request),
    ("a task with the write queue", queue_of_a_request),
    ("on_connection", on_connection),
    ("tasks of an owner with the write queue", queue_of_an_owner),
    ("mux::serve", mux_serve),
    ("mux::serve_on", mux_serve_on),
    ("Connection::serve", served_by_its_owner),
    ("halves", halves),
    ("halves of two tasks", halves_of_two_tasks),
    ("draining", awaits_the_drain),
];

fn on_request(builder: AnyBuilder, gate: Gate) -> Server {
    let handler = handler!([gate], |conn| {
        let request = conn.reader().frame(&CODEC).await?;
        gate.pass().await;
        request.map_or(Ok(()), |request| {
            Ok(conn.writer().frame(&CODEC, request)?)
        })
    });
    Server::start(builder, handler)
}

fn queue_of_a_request(builder: AnyBuilder, gate: Gate) -> Server {
    let handler = handler!([gate], |conn| {
        if let Some(request) = conn.reader().frame(&CODEC).await? {
            spawn(answer_later(conn.write_queue(), gate, request));
        }
        Ok(())
    });
    Server::start(builder, handler)
}

fn on_connection(builder: AnyBuilder, gate: Gate) -> Server {
    let handler = whole!([gate], |mut conn| {
        while let Some(request) = conn.reader().frame(&CODEC).await? {
            gate.pass().await;
            conn.writer().frame(&CODEC, request)?;
        }
        Ok(())
    });
    Server::start(builder, handler)
}

fn queue_of_an_owner(builder: AnyBuilder, gate: Gate) -> Server {
    let handler = whole!([gate], |mut conn| {
        while let Some(request) = conn.reader().frame(&CODEC).await? {
            spawn(answer_later(conn.write_queue(), gate.clone(), request));
        }
        Ok(())
    });
    Server::start(builder, handler)
}

fn mux_serve(builder: AnyBuilder, gate: Gate) -> Server {
    let AnyBuilder::Local(builder) = builder else {
        // Its futures stay on one thread.
        return mux_serve_on(builder, gate);
    };
    let served = mux::serve(CODEC, async move |request: LinkBuffer| {
        gate.pass().await;
        Ok(request)
    });
    Server::start_as_given(builder.on_connection(served))
}

fn mux_serve_on(builder: AnyBuilder, gate: Gate) -> Server {
    let served = mux::serve_on(Arc::new(Threads), 8, CODEC, move |request: LinkBuffer| {
        let gate = gate.clone();
        async move {
            gate.pass().await;
            Ok(request)
        }
    });
    Server::start_as_given(builder.on_connection(served))
}

fn served_by_its_owner(builder: AnyBuilder, gate: Gate) -> Server {
    let handler = whole!([gate], |conn| {
        let _served = conn.serve(async move |conn: &mut Connection| {
            let request = conn.reader().frame(&CODEC).await?;
            gate.pass().await;
            request.map_or(Ok(()), |request| {
                Ok(conn.writer().frame(&CODEC, request)?)
            })
        });
        Ok(())
    });
    Server::start(builder, handler)
}

fn halves(builder: AnyBuilder, gate: Gate) -> Server {
    let handler = whole!([gate], |conn| {
        let (mut reader, mut writer) = conn.into_split();
        while let Some(request) = reader.frame(&CODEC).await? {
            gate.pass().await;
            writer.frame(&CODEC, request)?;
        }
        Ok(())
    });
    Server::start(builder, handler)
}

fn halves_of_two_tasks(builder: AnyBuilder, gate: Gate) -> Server {
    let handler = whole!([gate], |conn| {
        let (reader, writer) = conn.into_split();
        let (ask, asked) = async_channel();
        spawn(answer_each(asked, gate, writer));
        read_each(reader, ask).await
    });
    Server::start(builder, handler)
}

/// Serves one request, and takes no more once the connection drains.
fn awaits_the_drain(builder: AnyBuilder, gate: Gate) -> Server {
    let handler = whole!([gate], |mut conn| {
        let draining = conn.draining();
        let (mut reader, mut writer) = conn.split();
        let request = reader.frame(&CODEC).await?;
        let mut answer = pin!(gate.pass());
        let mut draining = pin!(draining);
        let mut more = pin!(reader.frame(&CODEC));
        let (mut drains, mut passed) = (false, false);
        poll_fn(|context| {
            drains = drains || draining.as_mut().poll(context).is_ready();
            passed = passed || answer.as_mut().poll(context).is_ready();
            // It waits for input all the time, unless the connection is aborted.
            match more.as_mut().poll(context) {
                Poll::Ready(end) => Poll::Ready(Err(end.expect_err("no more input"))),
                Poll::Pending if drains && passed => Poll::Ready(Ok(())),
                Poll::Pending => Poll::Pending,
            }
        })
        .await?;
        request.map_or(Ok(()), |request| Ok(writer.frame(&CODEC, request)?))
    });
    Server::start(builder, handler)
}

async fn answer_later(queue: WriteQueue, gate: Gate, request: LinkBuffer) {
    gate.pass().await;
    let mut answer = LinkBuffer::new();
    netpoll::codec::Codec::encode(&CODEC, request, &mut answer).expect("a frame");
    // An aborted connection takes no more output.
    drop(queue.send(answer).await);
}

/// Runs a task on a thread of its own.
fn spawn(task: impl Future<Output = ()> + Send + 'static) {
    std::thread::spawn(move || block_on(task));
}

/// Runs the task of each request on a thread of its own.
struct Threads;

impl Spawn for Threads {
    fn spawn(&self, task: Pin<Box<dyn Future<Output = ()> + Send>>) {
        spawn(task);
    }
}

type Asks = std::sync::mpsc::Sender<LinkBuffer>;
type Asked = std::sync::mpsc::Receiver<LinkBuffer>;

fn async_channel() -> (Asks, Asked) {
    std::sync::mpsc::channel()
}

async fn read_each(mut reader: OwnedReader, ask: Asks) -> Result<(), BoxError> {
    while let Some(request) = reader.frame(&CODEC).await? {
        ask.send(request)?;
    }
    Ok(())
}

async fn answer_each(asked: Asked, gate: Gate, mut writer: OwnedWriter) {
    while let Ok(request) = asked.recv() {
        gate.pass().await;
        let put = writer.frame(&CODEC, request);
        put.expect("a frame");
    }
}

/// Returns three peers whose requests wait at the gate of `server`.
fn asking(way: &str, server: &Server, gate: &Gate) -> Vec<Peer> {
    let mut peers: Vec<Peer> = (0..3).map(|_| server.connect()).collect();
    peers
        .iter_mut()
        .for_each(|peer| peer.send(&frame(b"pending")));
    eventually(way, || gate.arrivals() == 3);
    peers
}

/// Waits until the shutdown of `server` has reached each connection.
fn until_it_drains(server: &Server) {
    eventually("a closed port", || Peer::try_connect(server.addr).is_err());
}

#[test]
fn a_drain_answers_pending_requests_and_then_sends_a_fin() {
    for (way, serves) in WAYS {
        let gate = Gate::default();
        let mut server = serves(crate::support::builder().pollers(1), gate.clone());
        let peers = asking(way, &server, &gate);
        let shutdown = server.handle.shutdown(LONG);
        until_it_drains(&server);
        gate.open();
        for mut peer in peers {
            let received = peer.receive_all().expect(way);
            assert_eq!(received, frame(b"pending"), "{way}");
        }
        assert_eq!(shutdown.wait(), 0, "{way}");
        let endings = server.take_endings();
        drop(server);
        let drained = |reason: &CloseReason| matches!(reason, CloseReason::Shutdown);
        let drained = endings.iter().filter(|(_, reason)| drained(reason)).count();
        assert_eq!(drained, 3, "{way}");
    }
}

#[test]
fn connections_with_pending_requests_are_aborted_at_the_deadline_and_counted() {
    for (way, serves) in WAYS {
        let gate = Gate::default();
        let server = serves(crate::support::builder().pollers(1), gate.clone());
        let server = server.of_which_some_is_kept();
        let peers = asking(way, &server, &gate);
        assert_eq!(server.handle.shutdown(SHORT).wait(), 3, "{way}");
        gate.open();
        drop(peers);
    }
}
