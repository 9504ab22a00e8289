// SPDX-License-Identifier: MIT OR Apache-2.0
//! The write queue: its last sender and the poller that has just sent.

use std::os::fd::AsFd;

use bytes::Bytes;
use netpoll_buffer::LinkBuffer;
use netpoll_sys::transfer;

use super::scene::{Scene, block_on, own_pool};
use super::{model, spawn};
use crate::connection::Connection;
use crate::error::CloseReason;
use crate::options::ConnOptions;
use crate::sync::{Arc, thread};

fn message(content: &'static [u8]) -> LinkBuffer {
    let mut message = LinkBuffer::new();
    message.push(Bytes::from_static(content));
    message
}

/// Turns until nothing is left, once the peer has all of `count` bytes.
fn receive(peer: &impl AsFd, count: usize) -> Vec<u8> {
    let mut received = Vec::new();
    let mut room = [0; 16];
    while received.len() < count {
        match transfer::receive(peer.as_fd(), &mut room) {
            Ok(more) => received.extend_from_slice(&room[..more]),
            Err(_) => thread::yield_now(),
        }
    }
    received
}

/// What was taken leaves, whoever takes the output just then: the one who came last tells the
/// poller, or it was seen.
#[test]
fn what_two_senders_queue_leaves_without_another_word() {
    model(|| {
        let scene = Scene::new(ConnOptions::default());
        let connection = Connection::new(Arc::clone(&scene.link));
        let (told, peer) = (Arc::clone(&scene.told), scene.peer.try_clone().unwrap());
        let poller = spawn(move || {
            let mut poller = scene.owned();
            drop(scene.peer);
            poller.turn_until_empty();
        });
        own_pool();
        let queue = connection.write_queue();
        let other = spawn(move || {
            own_pool();
            queue.try_send(message(b"ab")).unwrap();
        });
        connection.write_queue().try_send(message(b"cd")).unwrap();
        other.join().unwrap();
        let received = receive(&peer, 4);
        assert!(received == b"abcd" || received == b"cdab", "{received:?}");
        drop(peer);
        drop(connection);
        poller.join().unwrap();
        told.only();
    });
}

/// Whoever waits for room goes on when there is some.
#[test]
fn a_sender_that_finds_no_room_is_woken_for_it() {
    model(|| {
        let mut options = ConnOptions::default();
        (options.write_high, options.write_low) = (1, 0);
        let scene = Scene::new(options);
        let connection = Connection::new(Arc::clone(&scene.link));
        let (told, peer) = (Arc::clone(&scene.told), scene.peer.try_clone().unwrap());
        let poller = spawn(move || {
            let mut poller = scene.owned();
            drop(scene.peer);
            poller.turn_until_empty();
        });
        own_pool();
        let queue = connection.write_queue();
        queue.try_send(message(b"a")).unwrap();
        block_on(queue.send(message(b"b"))).unwrap();
        assert_eq!(receive(&peer, 2), b"ab");
        drop(peer);
        drop(connection);
        poller.join().unwrap();
        told.only();
    });
}

/// Whoever waits learns of the end, or was in time.
#[test]
fn a_sender_that_waits_as_the_connection_ends_is_told() {
    model(|| {
        let mut options = ConnOptions::default();
        (options.write_high, options.write_low) = (1, 0);
        let scene = Scene::new(options);
        let connection = Connection::new(Arc::clone(&scene.link));
        let (handle, told) = (connection.handle(), Arc::clone(&scene.told));
        let poller = spawn(move || {
            let mut poller = scene.owned();
            drop(scene.peer);
            handle.abort();
            poller.turn_until_empty();
        });
        own_pool();
        let queue = connection.write_queue();
        let first = queue.try_send(message(b"a")).is_ok();
        let second = block_on(queue.send(message(b"b"))).is_ok();
        assert!(first || !second, "nothing overtakes");
        drop(connection);
        poller.join().unwrap();
        let reason = told.only();
        assert!(!matches!(reason, CloseReason::Forgotten), "{reason}");
    });
}
