// SPDX-License-Identifier: MIT OR Apache-2.0
//! The pool of connections: its permits, its line, and the ends of what waits in it.

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

/// Polls once, and gives up.
fn poll_once_and_drop(future: impl Future) {
    let mut future = pin!(future);
    let _polled = future
        .as_mut()
        .poll(&mut Context::from_waker(Waker::noop()))
        .is_ready();
}

/// A pool of one connection, that has no timers: those are of pollers that no model has.
fn pool_of_one() -> ConnPool {
    let mut options = ConnPoolOptions::default();
    options.max_connections = 1;
    options.idle_timeout = None;
    options.wait_timeout = None;
    ConnPool::with_options(Dialer::new(), options).unwrap()
}

/// Who leaves the line just as he is handed a permit hands it on.
#[test]
fn a_permit_granted_to_a_cancelled_acquire_reaches_the_next_waiter() {
    model(|| {
        let semaphore = Semaphore::new(1);
        let first = semaphore.try_acquire().unwrap();
        let other = Arc::clone(&semaphore);
        let goes = spawn(move || poll_once_and_drop(other.acquire()));
        let other = Arc::clone(&semaphore);
        let stays = spawn(move || drop(block_on(other.acquire())));
        drop(first);
        goes.join().unwrap();
        stays.join().unwrap();
        assert_eq!(
            (semaphore.available_permits(), semaphore.waiter_count()),
            (1, 0)
        );
    });
}

/// Who comes while the bound is lifted waits for nobody.
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

/// Its poller sees the end as it comes back: either of the two takes it out, or the poller would
/// have it for ever.
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

/// Whoever waits has it once it is back, whoever else comes and goes.
#[test]
fn one_connection_serves_all_waiters_in_turn() {
    model(|| {
        let fixture = ConnectionFixture::new(ConnOptions::default());
        let connection = Connection::new(Arc::clone(&fixture.shared));
        install_empty_pool();
        let pool = pool_of_one();
        let out = pool.with(Addr::Unnamed, connection);
        let (waits, goes) = (pool.clone(), pool.clone());
        let waits = spawn(move || {
            install_empty_pool();
            drop(block_on(waits.get(Addr::Unnamed)).unwrap());
        });
        let goes = spawn(move || {
            install_empty_pool();
            poll_once_and_drop(goes.get(Addr::Unnamed));
        });
        drop(out);
        waits.join().unwrap();
        goes.join().unwrap();
        let stats = pool.stats_all();
        assert_eq!((stats.idle, stats.in_use, stats.waiting), (1, 0, 0));
        assert_eq!((stats.created, stats.failed), (1, 0), "nobody dialed");
        assert!(transfer::send(fixture.peer.as_fd(), b"!").is_ok());
    });
}
