// SPDX-License-Identifier: MIT OR Apache-2.0
//! Idle connections of a pool: closed by their server, by a timeout, or by their age.

use std::io::ErrorKind;
use std::sync::Mutex;
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use netpoll::pool::{ConnPool, ConnPoolOptions};
use netpoll::{Connection, Dialer, EventLoop};

use super::pool::{checked, got, pool_with};
use crate::support::{
    Host, LIMIT, Server, alone_twice, block_on, call, eventually, in_each_executor, on_a_poller,
    poll_once,
};

/// A pause that is long enough to measure and short enough for a test.
const A_WHILE: Duration = Duration::from_millis(50);

#[test]
fn a_server_that_closes_its_connections_empties_its_pool_at_once() {
    let (host, other) = (Host::new(), Host::new());
    let pool = ConnPool::new(Dialer::new());
    let mut kept = got(&pool, &other);
    let all: Vec<_> = (0..8).map(|_| got(&pool, &host)).collect();
    let (conns, mut peers): (Vec<_>, Vec<_>) = all.into_iter().unzip();
    drop(conns);
    assert_eq!(checked(pool.stats(host.addr)).idle, 8);
    // One reset, and a FIN for the rest.
    peers.pop().unwrap().reset();
    drop(peers);
    // No caller asks for a connection meanwhile.
    eventually("an empty pool", || pool.stats(host.addr).idle == 0);
    eventually("the removal of the address", || {
        pool.stats(host.addr).created == 0
    });
    let stats = checked(pool.stats_all());
    assert_eq!((stats.discarded.closed, stats.in_use), (8, 1));
    kept.1.send(b"!");
    assert_eq!(block_on(kept.0.reader().read_u8()).unwrap(), b'!');
}

#[test]
fn callers_waiting_for_a_server_that_stops_get_the_dial_error() {
    let host = Host::new();
    let addr = host.addr;
    let pool = pool_with(ConnPoolOptions::default().max_connections(1));
    let (out, peer) = got(&pool, &host);
    let waiting: Vec<_> = (0..3)
        .map(|_| {
            let pool = pool.clone();
            std::thread::spawn(move || pool.get_blocking(addr).map(drop))
        })
        .collect();
    eventually("three waiting callers", || pool.stats(addr).waiting == 3);
    drop((host, peer));
    drop(out);
    for thread in waiting {
        let error = thread.join().unwrap().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
    }
    let stats = checked(pool.stats_all());
    assert_eq!((stats.discarded.closed, stats.failed), (1, 3));
}

#[test]
fn a_waiting_caller_gets_a_new_connection_when_the_one_in_use_closes() {
    let host = Host::new();
    let pool = pool_with(ConnPoolOptions::default().max_connections(1));
    let (out, peer) = got(&pool, &host);
    let mut waiting = Box::pin(pool.get(host.addr));
    assert!(poll_once(waiting.as_mut()).is_pending());
    drop(peer);
    drop(out);
    let conn = block_on(waiting).unwrap();
    assert!(conn.is_active());
    assert_eq!(checked(pool.stats(host.addr)).created, 2);
}

#[test]
fn a_connection_past_its_idle_timeout_is_closed_and_replaced_on_demand() {
    let host = Host::new();
    let pool = pool_with(ConnPoolOptions::default().idle_timeout(2 * A_WHILE));
    let begun = Instant::now();
    let [one, two] = [(); 2].map(|()| got(&pool, &host));
    drop((one.0, two.0));
    let mut peers = [one.1, two.1];
    for peer in &mut peers {
        assert_eq!(peer.receive_all().unwrap(), b"");
    }
    assert!(begun.elapsed() >= 2 * A_WHILE);
    let stats = checked(pool.stats_all());
    assert_eq!((stats.idle, stats.discarded.idle), (0, 2));
    let _other = got(&pool, &host);
    assert_eq!(checked(pool.stats_all()).created, 3);
}

#[test]
fn a_connection_past_its_idle_timeout_is_not_reused_while_the_poller_is_busy() {
    let host = Host::new();
    let addr = host.addr;
    let pool = pool_with(ConnPoolOptions::default().idle_timeout(A_WHILE));
    let using = pool.clone();
    on_a_poller(move || {
        let pool = using.clone();
        async move {
            drop(pool.get(addr).await.unwrap());
            // Blocks the poller, whose timers run the idle timeout.
            let begun = Instant::now();
            while begun.elapsed() <= A_WHILE {
                std::thread::yield_now();
            }
            assert_eq!(pool.stats(addr).idle, 1);
            drop(pool.get(addr).await.unwrap());
        }
    });
    let stats = checked(pool.stats_all());
    assert_eq!((stats.created, stats.reused), (2, 0));
    assert!(stats.discarded.idle >= 1);
}

#[test]
fn a_connection_in_regular_use_is_not_closed_for_idleness() {
    let host = Host::new();
    let pool = pool_with(ConnPoolOptions::default().idle_timeout(2 * A_WHILE));
    let (conn, _peer) = got(&pool, &host);
    drop(conn);
    let (begun, mut last) = (Instant::now(), Instant::now());
    // On a busy machine this thread may pause for longer than the idle timeout.
    let mut pauses = 0;
    // A busy machine may also leave time for a few uses only.
    while begun.elapsed() < 5 * A_WHILE || pool.stats_all().reused <= pool.stats_all().created {
        assert!(begun.elapsed() < LIMIT, "{:?}", pool.stats_all());
        drop(block_on(pool.get(host.addr)).unwrap());
        pauses += u64::from(last.elapsed() > A_WHILE);
        last = Instant::now();
    }
    let stats = checked(pool.stats_all());
    assert!(stats.created <= 1 + pauses, "{stats:?}, {pauses} pauses");
}

#[test]
fn a_connection_past_its_max_age_is_closed_when_idle_and_on_return() {
    let host = Host::new();
    let pool = pool_with(ConnPoolOptions::default().max_age(2 * A_WHILE));
    let begun = Instant::now();
    let (waits, mut of_waits) = got(&pool, &host);
    let (out, mut of_out) = got(&pool, &host);
    drop(waits);
    assert_eq!(of_waits.receive_all().unwrap(), b"");
    assert!(begun.elapsed() >= 9 * A_WHILE / 5);
    assert!(
        out.is_active(),
        "the pool does not close a connection in use"
    );
    while begun.elapsed() < 2 * A_WHILE + A_WHILE {
        std::thread::yield_now();
    }
    drop(out);
    assert_eq!(
        pool.stats_all().idle,
        0,
        "closed on return, not by the next timer"
    );
    assert_eq!(of_out.receive_all().unwrap(), b"");
    let stats = checked(pool.stats_all());
    assert_eq!((stats.created, stats.discarded.expired), (2, 2));
}

#[test]
fn idle_timeouts_still_apply_after_the_loop_that_ran_them_has_ended() {
    let host = Host::new();
    let pool = pool_with(ConnPoolOptions::default().idle_timeout(4 * A_WHILE));
    let (sender, receiver) = channel();
    let sender = Mutex::new(sender);
    let (using, at) = (pool.clone(), host.addr);
    let server = Server::start_as_given(EventLoop::builder().pollers(1).on_connection(
        async move |_conn: Connection| {
            drop(using.get(at).await?);
            sender.lock().unwrap().send(())?;
            Ok(())
        },
    ));
    let peer = server.connect();
    let mut first = host.accept();
    receiver.recv_timeout(LIMIT).unwrap();
    drop(peer);
    assert_eq!(server.shut_down(LIMIT), 0);
    // The connection belonged to that loop.
    assert_eq!(first.receive_all().unwrap(), b"");
    eventually("an empty pool", || pool.stats_all().idle == 0);
    let (conn, mut second) = got(&pool, &host);
    drop(conn);
    assert_eq!(second.receive_all().unwrap(), b"");
    let stats = checked(pool.stats_all());
    assert_eq!((stats.created, stats.discarded.total()), (2, 2));
}

#[test]
fn a_dropped_pool_leaks_nothing_in_any_executor() {
    alone_twice(
        "pool_idle::a_dropped_pool_leaks_nothing_in_any_executor",
        || {
            let server = Server::rpc();
            let addr = server.addr;
            in_each_executor(move || async move {
                let pool = ConnPool::new(Dialer::new());
                let mut first = pool.get(addr).await.unwrap();
                let mut second = pool.get(addr).await.unwrap();
                call(&mut first, b"one").await.unwrap();
                call(&mut second, b"two").await.unwrap();
                first.recycle();
                let mut third = pool.get(addr).await.unwrap();
                call(&mut third, b"three").await.unwrap();
                third.recycle();
                second.discard();
                assert_eq!(pool.stats(addr).idle, 1);
            });
            eventually("the close of all connections", || {
                server.handle.connections() == 0
            });
        },
    );
}
