// SPDX-License-Identifier: MIT OR Apache-2.0
//! The connection pool: its permits, its wait queue, and connections that close in it.

use std::future::Future;
use std::os::fd::AsFd;
use std::pin::pin;
use std::task::{Context, Waker};

use netpoll_sys::transfer;

use super::fixture::{ConnectionFixture, block_on, install_empty_pool};
use super::{model, spawn};
use crate::addr::Addr;
use crate::connection::Connection;
use crate::dialer::Dialer;
use crate::options::ConnOptions;
use crate::pool::{ConnPool, ConnPoolOptions};
use crate::semaphore::Semaphore;
use crate::sync::Arc;

/// Polls `future` once and drops it.
fn poll_once_and_drop(future: impl Future) {
    let mut future = pin!(future);
    let _polled = future
        .as_mut()
        .poll(&mut Context::from_waker(Waker::noop()))
        .is_ready();
}

/// Creates a pool of one connection without timers: a timer needs a poller that no model has.
fn pool_of_one() -> ConnPool {
    let options = ConnPoolOptions::default()
        .max_connections(1)
        .idle_timeout(None)
        .wait_timeout(None);
    ConnPool::with_options(Dialer::new(), options).unwrap()
}

/// A waiter that is dropped just as it is granted a permit passes the permit on.
#[test]
fn a_permit_granted_to_a_cancelled_acquire_reaches_the_next_waiter() {
    model(|| {
        let semaphore = Semaphore::new(1);
        let first = semaphore.try_acquire().unwrap();
        let other = Arc::clone(&semaphore);
        let cancelled = spawn(move || poll_once_and_drop(other.acquire()));
        let other = Arc::clone(&semaphore);
        let waits = spawn(move || drop(block_on(other.acquire())));
        drop(first);
        cancelled.join().unwrap();
        waits.join().unwrap();
        assert_eq!(
            (semaphore.available_permits(), semaphore.waiter_count()),
            (1, 0)
        );
    });
}

/// A caller that comes while the limit is removed does not wait.
#[test]
fn removing_the_limit_grants_every_waiter() {
    model(|| {
        let semaphore = Semaphore::new(1);
        let first = semaphore.try_acquire().unwrap();
        let other = Arc::clone(&semaphore);
        let waits = spawn(move || drop(block_on(other.acquire())));
        semaphore.remove_limit();
        waits.join().unwrap();
        drop(first);
        assert_eq!(semaphore.waiter_count(), 0);
    });
}

/// Its poller sees the close as the connection returns: the poller or the pool removes it, or the
/// poller would keep it forever.
#[test]
fn a_connection_that_closes_while_it_returns_is_not_kept() {
    model(|| {
        let fixture = ConnectionFixture::new(ConnOptions::default());
        let connection = Connection::new(Arc::clone(&fixture.shared));
        let closes = Arc::clone(&fixture.closes);
        install_empty_pool();
        let pool = pool_of_one();
        let out = pool.with(Addr::Unnamed, connection);
        let poller = spawn(move || {
            let mut poller = fixture.with_owner();
            drop(fixture.peer);
            poller.run_until_empty();
        });
        drop(out);
        poller.join().unwrap();
        closes.only();
        let stats = pool.stats_all();
        assert_eq!((stats.idle, stats.discarded.closed), (0, 1));
    });
}

/// A waiter gets the connection once it is returned, whatever other callers do.
#[test]
fn one_connection_serves_all_waiters_in_turn() {
    model(|| {
        let fixture = ConnectionFixture::new(ConnOptions::default());
        let connection = Connection::new(Arc::clone(&fixture.shared));
        install_empty_pool();
        let pool = pool_of_one();
        let out = pool.with(Addr::Unnamed, connection);
        let (waits, cancelled) = (pool.clone(), pool.clone());
        let waits = spawn(move || {
            install_empty_pool();
            drop(block_on(waits.get(Addr::Unnamed)).unwrap());
        });
        let cancelled = spawn(move || {
            install_empty_pool();
            poll_once_and_drop(cancelled.get(Addr::Unnamed));
        });
        drop(out);
        waits.join().unwrap();
        cancelled.join().unwrap();
        let stats = pool.stats_all();
        assert_eq!((stats.idle, stats.in_use, stats.waiting), (1, 0, 0));
        assert_eq!((stats.created, stats.failed), (1, 0), "no dial");
        assert!(transfer::send(fixture.peer.as_fd(), b"!").is_ok());
    });
}
