// SPDX-License-Identifier: MIT OR Apache-2.0
//! Several protocols at once.

use std::io::ErrorKind;
use std::net::Shutdown;
use std::os::fd::{AsFd, OwnedFd};

use bytes::Bytes;
use netpoll_buffer::Pool;
use netpoll_sys::{socket, transfer};

use super::scene::{Scene, block_on, own_pool, receive_all};
use super::{model, spawn};
use crate::addr::Addr;
use crate::budget::Budget;
use crate::census::Census;
use crate::codec::FixedSize;
use crate::connection::Connection;
use crate::connection::burst::burst;
use crate::connection::calling::Calls;
use crate::connection::service::{OneForAll, Pinned, Terms};
use crate::entrance::Entrance;
use crate::error::{BoxError, CloseReason};
use crate::event::Listening;
use crate::listener::Listener;
use crate::listener::acceptor::{Acceptor, Reception};
use crate::mux::{Client, ClientOptions, Message, Numbered};
use crate::options::ConnOptions;
use crate::poll::balance::Balance;
use crate::poll::mailbox::{Letter, Mailbox};
use crate::poll::set::{PollerHandle, PollerSet};
use crate::poll::source::Ask;
use crate::poll::stepped::Stepped;
use crate::sync::{Arc, Mutex, lock, thread};

/// Whoever reads learns of an end that another asks for, and of bytes that came before it.
#[test]
fn a_close_during_a_read_that_waits_is_heard() {
    model(|| {
        let scene = Scene::new(ConnOptions::default());
        let mut connection = Connection::new(Arc::clone(&scene.link));
        let (handle, told) = (connection.handle(), Arc::clone(&scene.told));
        transfer::send(scene.peer.as_fd(), b"a").unwrap();
        let poller = spawn(move || {
            let mut poller = scene.owned();
            poller.turn(|| false);
            drop(scene.peer);
            poller.turn_until_empty();
        });
        let closer = spawn(move || handle.close());
        own_pool();
        let first = block_on(connection.reader().read_u8());
        assert!(block_on(connection.reader().read_u8()).is_err());
        // The close may have come before the byte was read from the kernel.
        assert!(first.is_err() || first.unwrap() == b'a');
        drop(connection);
        closer.join().unwrap();
        poller.join().unwrap();
        told.only();
    });
}

/// What several threads push arrives once, whole, and in the order of each.
#[test]
fn what_many_push_while_others_send_arrives_once_and_in_order() {
    model(|| {
        let scene = Scene::new(ConnOptions::default());
        let mut connection = Connection::new(Arc::clone(&scene.link));
        let told = Arc::clone(&scene.told);
        let peer = scene.peer.try_clone().unwrap();
        let poller = spawn(move || {
            let mut poller = scene.owned();
            drop(scene.peer);
            poller.turn_until_empty();
        });
        let pushing: Vec<_> = [b"aA", b"bB"]
            .into_iter()
            .map(|pair| {
                let handle = connection.handle();
                spawn(move || {
                    own_pool();
                    for byte in pair {
                        handle.push(Bytes::copy_from_slice(&[*byte])).unwrap();
                    }
                })
            })
            .collect();
        own_pool();
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
        told.only();
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

/// A client that is closed while calls are under way: each of them has its answer or is told why it
/// has none, and nobody waits for ever.
#[test]
fn a_client_that_is_closed_under_load_ends_every_call() {
    model(|| {
        let scene = Scene::new(ConnOptions::default());
        let connection = Connection::new(Arc::clone(&scene.link));
        let (told, peer) = (Arc::clone(&scene.told), scene.peer.try_clone().unwrap());
        let poller = spawn(move || {
            let mut poller = scene.owned();
            drop(scene.peer);
            poller.turn_until_empty();
        });
        let server = spawn(move || repeat_all(&peer));
        own_pool();
        let mut options = ClientOptions::default();
        // An alarm would be one of a poller that the model does not turn.
        options.timeout = None;
        options.max_in_flight = 2;
        let codec = Numbered::new(FixedSize::new(9));
        let client = Client::with_options(connection, codec, options).unwrap();
        let callers: Vec<_> = (0..3_u8)
            .map(|number| {
                let client = client.clone();
                spawn(move || {
                    own_pool();
                    let called = block_on(client.call(Message::new(&[number])));
                    called.map(|mut answer| assert_eq!(answer.body.read_u8().unwrap(), number))
                })
            })
            .collect();
        client.close();
        let ends: Vec<_> = callers
            .into_iter()
            .map(|caller| caller.join().unwrap())
            .collect();
        assert_eq!(client.stats().in_flight, 0);
        drop(client);
        server.join().unwrap();
        poller.join().unwrap();
        let reason = told.only();
        assert!(matches!(reason, CloseReason::Local), "{reason}");
        for error in ends.into_iter().filter_map(Result::err) {
            assert_eq!(error.kind(), ErrorKind::ConnectionAborted);
        }
    });
}

/// Sends back what comes, up to the end.
fn repeat_all(peer: &OwnedFd) {
    let mut room = [0; 64];
    loop {
        match transfer::receive(peer.as_fd(), &mut room) {
            Ok(0) => return,
            Ok(count) => drop(transfer::send(peer.as_fd(), &room[..count])),
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

/// Two pollers, one of which accepts for both, are shut down while peers come: what was sent before
/// is answered, whoever was let in is told of once, and the loop ends.
#[test]
fn a_shutdown_during_a_burst_of_connections_answers_what_was_sent_before() {
    model(|| {
        own_pool();
        let handles = [
            PollerHandle::new(Mailbox::new(Arc::default()).unwrap()),
            PollerHandle::new(Mailbox::new(Arc::default()).unwrap()),
        ];
        let census = Arc::new(Census::default());
        let reasons = Arc::new(Mutex::new(Vec::new()));
        let reception = reception(&handles, &census, &reasons);
        let listener = Listener::abstract_name(name()).unwrap();
        let addr = listener.local_addr().unwrap();
        let birth = Acceptor::birth(Arc::new(listener), None, &reception);
        let entrance = Arc::clone(&reception.entrance);
        drop(reception);
        let mut births = [Some(birth), None];
        let pollers: Vec<_> = handles
            .iter()
            .zip(&mut births)
            .map(|(handle, birth)| {
                let (handle, birth, census) = (handle.clone(), birth.take(), Arc::clone(&census));
                spawn(move || {
                    own_pool();
                    let budget = Budget::of(Pool::of_thread(), usize::MAX);
                    let mut poller = Stepped::new(&handle, &budget);
                    birth.into_iter().for_each(|birth| poller.register(birth));
                    while !census.is_none() {
                        poller.turn(|| census.is_none());
                    }
                })
            })
            .collect();
        let late = spawn(move || ask(addr));
        let early = socket::stream_socket(addr).unwrap();
        socket::connect(early.as_fd(), addr).unwrap();
        transfer::send(early.as_fd(), b"?").unwrap();
        for handle in &handles {
            handle.post(Letter::Everyone(Ask::Drain));
        }
        assert_eq!(receive_all(&early), b"?");
        drop(early);
        assert!(late.join().unwrap() <= 1);
        pollers
            .into_iter()
            .for_each(|poller| poller.join().unwrap());
        let told = lock(&reasons).len();
        assert_eq!(told as u64, entrance.stats().accepted);
    });
}

/// Asks once, if it is let in, and says how many answers came.
fn ask(addr: Addr) -> usize {
    let peer = socket::stream_socket(addr).unwrap();
    if socket::connect(peer.as_fd(), addr).is_err() {
        return 0;
    }
    let _sent = transfer::send(peer.as_fd(), b"?").is_ok();
    let _finished = socket::shutdown(peer.as_fd(), Shutdown::Write).is_ok();
    receive_all(&peer).len()
}

/// A name that no other model has: the kernel lets go of one only after a while.
fn name() -> String {
    use std::sync::atomic::{AtomicUsize, Ordering};
    static NAMES: AtomicUsize = AtomicUsize::new(0);
    let number = NAMES.fetch_add(1, Ordering::Relaxed);
    format!("netpoll-model-{}-{number}", std::process::id())
}

fn reception(
    handles: &[PollerHandle],
    census: &Arc<Census>,
    reasons: &Arc<Mutex<Vec<CloseReason>>>,
) -> Arc<Reception> {
    let told = Arc::clone(reasons);
    let observer = Arc::new(move |_: &mut Connection, reason: &CloseReason| {
        lock(&told).push(reason.clone());
    });
    let terms = Terms::new(ConnOptions::default(), census, Some(observer));
    let pinned = Pinned {
        origin: Arc::new(OneForAll(Arc::new(answer))),
        greet: None,
        make: burst,
        calls: Calls::PerRequest,
        terms: Arc::new(terms),
    };
    Arc::new(Reception {
        pollers: Arc::new(PollerSet::of(handles.to_vec())),
        service: pinned.here(),
        entrance: Arc::new(Entrance::new(
            100,
            None,
            Budget::unlimited(),
            Listening::default(),
        )),
        filter: None,
        balance: Balance::RoundRobin,
    })
}
