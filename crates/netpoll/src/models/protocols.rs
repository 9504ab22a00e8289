// SPDX-License-Identifier: MIT OR Apache-2.0
//! The protocols, one model each.

use std::future::Future;
use std::os::fd::AsFd;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use bytes::Bytes;
use netpoll_sys::transfer;

use super::fixture::{ConnectionFixture, install_empty_pool, receive_all};
use super::{model, spawn};
use crate::connection::Connection;
use crate::error::{CloseReason, Timeout};
use crate::options::ConnOptions;
use crate::sync::{Arc, lock, thread};
use crate::tracker::{ConnectionTracker, TrackedConnection};

/// The poller sees a command before it sleeps, or is woken for it.
#[test]
fn a_sleeping_poller_is_woken_for_every_command() {
    model(|| {
        let fixture = ConnectionFixture::new(ConnOptions::default());
        let mut connection = Connection::new(Arc::clone(&fixture.shared));
        let (closes, shared) = (Arc::clone(&fixture.closes), Arc::clone(&fixture.shared));
        let poller = spawn(move || {
            let mut poller = fixture.with_owner();
            // Sleeps until the first command, and then until the second, if they do not come
            // together.
            poller.run_turn(|| false);
            assert!(!fixture.closes.has_closed());
            drop(fixture.peer);
            poller.run_until_empty();
        });
        install_empty_pool();
        connection.writer().push(Bytes::from_static(b"."));
        shared.request_send();
        shared.set_timeouts(shared.timeouts());
        drop(connection);
        poller.join().unwrap();
        closes.only();
    });
}

/// A connection that both sides close is reported once.
#[test]
fn a_close_by_both_sides_is_reported_once() {
    model(|| {
        let fixture = ConnectionFixture::new(ConnOptions::default());
        let connection = Connection::new(Arc::clone(&fixture.shared));
        let handle = connection.handle();
        let poller = spawn(move || {
            let mut poller = fixture.with_owner();
            drop(fixture.peer);
            poller.run_until_empty();
            fixture.closes.only()
        });
        install_empty_pool();
        handle.close();
        handle.abort();
        drop(connection);
        let reason = poller.join().unwrap();
        assert!(
            matches!(reason, CloseReason::Local | CloseReason::PeerFin),
            "{reason}"
        );
    });
}

/// The handler gets bytes that come while it returns, and the close is the peer's.
#[test]
fn a_returning_handler_misses_no_bytes_and_no_fin() {
    model(|| {
        let fixture = ConnectionFixture::new(ConnOptions::default());
        let (closes, tasks) = (Arc::clone(&fixture.closes), Arc::clone(&fixture.tasks));
        transfer::send(fixture.peer.as_fd(), b"a").unwrap();
        let poller = spawn(move || {
            let mut poller = fixture.with_offloaded_handler();
            poller.run_turn(|| false);
            transfer::send(fixture.peer.as_fd(), b"b").unwrap();
            netpoll_sys::socket::shutdown(fixture.peer.as_fd(), std::net::Shutdown::Write).unwrap();
            poller.run_until_empty();
            let mut answers = [0; 8];
            let count = transfer::receive(fixture.peer.as_fd(), &mut answers).unwrap();
            assert_eq!(&answers[..count], b"..", "every byte is answered");
        });
        install_empty_pool();
        tasks.run_until_closed(&closes);
        poller.join().unwrap();
        assert!(matches!(closes.only(), CloseReason::PeerFin));
    });
}

/// A flush that times out during a send fails once, and nothing hangs.
#[test]
fn a_write_timeout_during_a_partial_send_fails_the_flush_once() {
    model(|| {
        let options = ConnOptions::default().max_output(8 << 20);
        let fixture = ConnectionFixture::new(options);
        let mut connection = Connection::new(Arc::clone(&fixture.shared));
        let closes = Arc::clone(&fixture.closes);
        let poller = spawn(move || {
            let mut poller = fixture.with_owner();
            while !poller.is_empty() {
                poller.run_turn(|| true);
                poller.fire_all_timers();
                thread::yield_now();
            }
        });
        install_empty_pool();
        let mut writer = connection.writer();
        writer.push(Bytes::from_static(&[7; 4 << 20]));
        let mut flush = Box::pin(writer.flush());
        let mut context = Context::from_waker(Waker::noop());
        let error = loop {
            match flush.as_mut().poll(&mut context) {
                Poll::Ready(result) => break result.unwrap_err(),
                Poll::Pending => thread::yield_now(),
            }
        };
        assert_eq!(error.kind(), std::io::ErrorKind::TimedOut);
        drop(flush);
        assert_eq!(connection.writer().unsent(), 0);
        drop(connection);
        poller.join().unwrap();
        let reason = closes.only();
        assert!(
            matches!(reason, CloseReason::Timeout(Timeout::Write)),
            "{reason}"
        );
    });
}

/// A close during a send by another thread waits for that send, and for nothing more.
#[test]
fn a_close_waits_for_a_send_by_another_thread() {
    model(|| {
        let fixture = ConnectionFixture::new(ConnOptions::default());
        let mut connection = Connection::new(Arc::clone(&fixture.shared));
        let (handle, closes) = (connection.handle(), Arc::clone(&fixture.closes));
        let peer = fixture.peer.try_clone().unwrap();
        let poller = spawn(move || {
            let mut poller = fixture.with_owner();
            drop(fixture.peer);
            handle.close();
            poller.run_until_empty();
        });
        install_empty_pool();
        connection.writer().push(Bytes::from_static(b"."));
        let mut flush = Box::pin(async { connection.writer().flush().await });
        let _sent = flush.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        drop(flush);
        // Ends with the FIN, and with the byte if it was put before the close.
        assert!(receive_all(&peer).len() <= 1);
        drop(peer);
        drop(connection);
        poller.join().unwrap();
        assert!(matches!(closes.only(), CloseReason::Local));
    });
}

/// Output that a sending thread returns after a reset stays discarded.
#[test]
fn an_abort_during_a_send_by_another_thread_discards_all_output() {
    model(|| {
        let fixture = ConnectionFixture::new(ConnOptions::default());
        let mut connection = Connection::new(Arc::clone(&fixture.shared));
        let (handle, closes) = (connection.handle(), Arc::clone(&fixture.closes));
        let (peer, shared) = (
            fixture.peer.try_clone().unwrap(),
            Arc::clone(&fixture.shared),
        );
        let poller = spawn(move || {
            let mut poller = fixture.with_owner();
            handle.abort();
            poller.run_until_empty();
        });
        install_empty_pool();
        let mut writer = connection.writer();
        writer.push(Bytes::from_static(&[7; 4 << 20]));
        let mut flush = Box::pin(writer.flush());
        let _sent = flush.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        drop(flush);
        drop(connection);
        poller.join().unwrap();
        drop(peer);
        closes.only();
        assert_eq!(lock(&shared.output_buffer).unsent(), 0);
    });
}

/// The last connection to close wakes the thread that waits for the drain.
#[test]
fn the_last_connection_to_close_ends_the_drain() {
    model(|| {
        let tracker = Arc::new(ConnectionTracker::default());
        let (one, other) = (
            TrackedConnection::new(&tracker),
            TrackedConnection::new(&tracker),
        );
        let going: Vec<_> = [one, other]
            .into_iter()
            .map(|connection| spawn(move || drop(connection)))
            .collect();
        let century = Instant::now() + Duration::from_secs(1 << 31);
        assert!(tracker.wait_until_drained(|| century));
        assert_eq!(tracker.open_connections(), 0);
        going.into_iter().for_each(|thread| thread.join().unwrap());
    });
}
