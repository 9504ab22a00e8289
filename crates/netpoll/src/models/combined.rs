// SPDX-License-Identifier: MIT OR Apache-2.0
//! Several protocols combined.

use std::io::ErrorKind;
use std::net::Shutdown;
use std::os::fd::{AsFd, OwnedFd};

use bytes::Bytes;
use netpoll_buffer::Pool;
use netpoll_sys::{socket, transfer};

use super::fixture::{ConnectionFixture, block_on, install_empty_pool, receive_all};
use super::{model, spawn};
use crate::addr::Addr;
use crate::admission::AdmissionControl;
use crate::budget::Budget;
use crate::codec::FixedSize;
use crate::connection::Connection;
use crate::connection::dispatcher::HandlerMode;
use crate::connection::request_batch::run_batch;
use crate::connection::service::{PinnedHandlers, ServiceConfig, SharedHandler};
use crate::error::{BoxError, CloseReason};
use crate::event::EventSink;
use crate::listener::Listener;
use crate::listener::acceptor::Acceptor;
use crate::listener::destination::{AcceptContext, Destination};
use crate::mux::{Client, ClientOptions, Message, Numbered};
use crate::options::ConnOptions;
use crate::poll::balance::Balance;
use crate::poll::mailbox::{Command, Mailbox};
use crate::poll::model_poller::ModelPoller;
use crate::poll::set::{PollerGroup, PollerHandle};
use crate::poll::source::ShutdownRequest;
use crate::sync::{Arc, Mutex, lock, thread};
use crate::tracker::ConnectionTracker;

/// A reader sees a close by another thread, and the bytes that came before it.
#[test]
fn a_close_wakes_a_waiting_read() {
    model(|| {
        let fixture = ConnectionFixture::new(ConnOptions::default());
        let mut connection = Connection::new(Arc::clone(&fixture.shared));
        let (handle, closes) = (connection.handle(), Arc::clone(&fixture.closes));
        transfer::send(fixture.peer.as_fd(), b"a").unwrap();
        let poller = spawn(move || {
            let mut poller = fixture.with_owner();
            poller.run_turn(|| false);
            drop(fixture.peer);
            poller.run_until_empty();
        });
        let closer = spawn(move || handle.close());
        install_empty_pool();
        let first = block_on(connection.reader().read_u8());
        assert!(block_on(connection.reader().read_u8()).is_err());
        // The close may have come before the byte was read from the kernel.
        assert!(first.is_err() || first.unwrap() == b'a');
        drop(connection);
        closer.join().unwrap();
        poller.join().unwrap();
        closes.only();
    });
}

/// Buffers that several threads push arrive once, whole, and in the order of each thread.
#[test]
fn concurrent_pushes_arrive_once_and_in_order() {
    model(|| {
        let fixture = ConnectionFixture::new(ConnOptions::default());
        let mut connection = Connection::new(Arc::clone(&fixture.shared));
        let closes = Arc::clone(&fixture.closes);
        let peer = fixture.peer.try_clone().unwrap();
        let poller = spawn(move || {
            let mut poller = fixture.with_owner();
            drop(fixture.peer);
            poller.run_until_empty();
        });
        let pushing: Vec<_> = [b"aA", b"bB"]
            .into_iter()
            .map(|pair| {
                let handle = connection.handle();
                spawn(move || {
                    install_empty_pool();
                    for byte in pair {
                        handle.push(Bytes::copy_from_slice(&[*byte])).unwrap();
                    }
                })
            })
            .collect();
        install_empty_pool();
        let mut writer = connection.writer();
        writer.push(Bytes::from_static(b"c"));
        block_on(writer.flush()).unwrap();
        writer.push(Bytes::from_static(b"C"));
        pushing
            .into_iter()
            .for_each(|thread| thread.join().unwrap());
        drop(connection);
        let received = receive_all(&peer);
        drop(peer);
        poller.join().unwrap();
        closes.only();
        let mut sorted = received.clone();
        sorted.sort_unstable();
        assert_eq!(sorted, b"ABCabc");
        let at = |byte: u8| received.iter().position(|&known| known == byte);
        assert!(
            b"abc"
                .iter()
                .all(|&byte| at(byte) < at(byte.to_ascii_uppercase()))
        );
    });
}

/// A client is closed while calls are in flight: each call gets its answer or an error, and none
/// waits forever.
#[test]
fn closing_a_loaded_client_completes_every_call() {
    model(|| {
        let fixture = ConnectionFixture::new(ConnOptions::default());
        let connection = Connection::new(Arc::clone(&fixture.shared));
        let (closes, peer) = (
            Arc::clone(&fixture.closes),
            fixture.peer.try_clone().unwrap(),
        );
        let poller = spawn(move || {
            let mut poller = fixture.with_owner();
            drop(fixture.peer);
            poller.run_until_empty();
        });
        let server = spawn(move || echo_all(&peer));
        install_empty_pool();
        // A timer would need a poller that the model does not run.
        let options = ClientOptions::default().timeout(None).max_in_flight(2);
        let codec = Numbered::new(FixedSize::new(9));
        let client = Client::with_options(connection, codec, options).unwrap();
        let callers: Vec<_> = (0..3_u8)
            .map(|number| {
                let client = client.clone();
                spawn(move || {
                    install_empty_pool();
                    let called = block_on(client.call(Message::new(&[number])));
                    called.map(|mut answer| assert_eq!(answer.body.read_u8().unwrap(), number))
                })
            })
            .collect();
        client.close();
        let ends: Vec<_> = callers
            .into_iter()
            .map(|dispatcher| dispatcher.join().unwrap())
            .collect();
        assert_eq!(client.stats().in_flight, 0);
        drop(client);
        server.join().unwrap();
        poller.join().unwrap();
        let reason = closes.only();
        assert!(matches!(reason, CloseReason::Local), "{reason}");
        for error in ends.into_iter().filter_map(Result::err) {
            assert_eq!(error.kind(), ErrorKind::ConnectionAborted);
        }
    });
}

/// Sends back all input, up to its end.
fn echo_all(peer: &OwnedFd) {
    let mut buffer = [0; 64];
    loop {
        match transfer::receive(peer.as_fd(), &mut buffer) {
            Ok(0) => return,
            Ok(count) => drop(transfer::send(peer.as_fd(), &buffer[..count])),
            Err(error) if error.kind() == ErrorKind::WouldBlock => thread::yield_now(),
            Err(_) => return,
        }
    }
}

async fn answer(connection: &mut Connection) -> Result<(), BoxError> {
    let byte = connection.reader().read_u8().await?;
    connection.writer().push(Bytes::copy_from_slice(&[byte]));
    Ok(())
}

/// Two pollers, one of which accepts for both, shut down while peers connect: requests sent before
/// are answered, each accepted connection is reported once, and the loop ends.
#[test]
fn a_graceful_shutdown_answers_requests_sent_before_it() {
    model(|| {
        install_empty_pool();
        let handles = [
            PollerHandle::new(Mailbox::new(Arc::default()).unwrap()),
            PollerHandle::new(Mailbox::new(Arc::default()).unwrap()),
        ];
        let tracker = Arc::new(ConnectionTracker::default());
        let reasons = Arc::new(Mutex::new(Vec::new()));
        let accept_context = accept_context(&handles, &tracker, &reasons);
        let listener = Listener::abstract_name(name()).unwrap();
        let addr = listener.local_addr().unwrap();
        let factory = Acceptor::factory(Arc::new(listener), None, &accept_context);
        let admission = Arc::clone(&accept_context.admission);
        drop(accept_context);
        let mut factories = [Some(factory), None];
        let pollers: Vec<_> = handles
            .iter()
            .zip(&mut factories)
            .map(|(handle, factory)| {
                let (handle, factory, tracker) =
                    (handle.clone(), factory.take(), Arc::clone(&tracker));
                spawn(move || {
                    install_empty_pool();
                    let budget = Budget::of(Pool::current(), usize::MAX);
                    let mut poller = ModelPoller::new(&handle, &budget);
                    factory
                        .into_iter()
                        .for_each(|factory| poller.register(factory));
                    while !tracker.is_none() {
                        poller.run_turn(|| tracker.is_none());
                    }
                })
            })
            .collect();
        let late = spawn(move || ask(addr));
        let early = socket::stream_socket(addr).unwrap();
        socket::connect(early.as_fd(), addr).unwrap();
        transfer::send(early.as_fd(), b"?").unwrap();
        for handle in &handles {
            handle.send(Command::Shutdown(ShutdownRequest::Graceful));
        }
        assert_eq!(receive_all(&early), b"?");
        drop(early);
        assert!(late.join().unwrap() <= 1);
        pollers
            .into_iter()
            .for_each(|poller| poller.join().unwrap());
        let closes = lock(&reasons).len();
        assert_eq!(closes as u64, admission.stats().accepted);
    });
}

/// Sends one request, if it is accepted, and returns the number of answers.
fn ask(addr: Addr) -> usize {
    let peer = socket::stream_socket(addr).unwrap();
    if socket::connect(peer.as_fd(), addr).is_err() {
        return 0;
    }
    let _sent = transfer::send(peer.as_fd(), b"?").is_ok();
    let _finished = socket::shutdown(peer.as_fd(), Shutdown::Write).is_ok();
    receive_all(&peer).len()
}

/// Returns a name that no other model has: the kernel frees one only after a while.
fn name() -> String {
    use std::sync::atomic::{AtomicUsize, Ordering};
    static NAMES: AtomicUsize = AtomicUsize::new(0);
    let number = NAMES.fetch_add(1, Ordering::Relaxed);
    format!("netpoll-model-{}-{number}", std::process::id())
}

fn accept_context(
    handles: &[PollerHandle],
    tracker: &Arc<ConnectionTracker>,
    reasons: &Arc<Mutex<Vec<CloseReason>>>,
) -> Arc<AcceptContext> {
    let closes = Arc::clone(reasons);
    let observer = Arc::new(move |_: &mut Connection, reason: &CloseReason| {
        lock(&closes).push(reason.clone());
    });
    let config = ServiceConfig::new(ConnOptions::default(), tracker, Some(observer));
    let pinned = PinnedHandlers {
        provider: Arc::new(SharedHandler(Arc::new(answer))),
        on_connect: None,
        make: run_batch,
        mode: HandlerMode::PerRequest,
        config: Arc::new(config),
    };
    Arc::new(AcceptContext {
        pollers: PollerGroup::new(handles.to_vec()),
        destination: Destination::Service(pinned.on_pollers()),
        admission: Arc::new(AdmissionControl::new(
            100,
            None,
            Budget::unlimited(),
            EventSink::default(),
        )),
        filter: None,
        balance: Balance::RoundRobin,
    })
}
