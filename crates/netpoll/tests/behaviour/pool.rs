// SPDX-License-Identifier: MIT OR Apache-2.0
//! Connection pool: which connections are reused and which are closed.

use std::io::ErrorKind;
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use netpoll::connection::Liveness;
use netpoll::error::{ErrorExt, ErrorKind as Kind};
use netpoll::pool::{ConnPool, ConnPoolOptions, ConnPoolStats, Pooled};
use netpoll::{Addr, Connection, Dialer, EventLoop};
use socket2::SockRef;

use crate::support::{
    Host, LIMIT, Peer, Server, block_on, bytes, call, eventually, in_each_executor, invalid_option,
    on_a_poller,
};

/// A pool with these options.
pub(crate) fn pool_with(options: ConnPoolOptions) -> ConnPool {
    ConnPool::with_options(Dialer::new(), options).expect("valid options")
}

/// A new connection of `pool` and its other end.
pub(crate) fn got(pool: &ConnPool, host: &Host) -> (Pooled, Peer) {
    let conn = block_on(pool.get(host.addr)).expect("a server that listens");
    (conn, host.accept())
}

/// Fails unless the counts add up. Returns `stats`.
pub(crate) fn checked(stats: ConnPoolStats) -> ConnPoolStats {
    let accounted = (stats.idle + stats.in_use) as u64 + stats.detached + stats.discarded.total();
    assert_eq!(stats.created, accounted, "{stats:?}");
    stats
}

/// The kernel's unique number of a socket.
fn cookie(conn: &Connection) -> u64 {
    SockRef::from(conn).cookie().expect("an open socket")
}

#[test]
fn a_recycled_connection_is_reused_in_every_executor() {
    let server = Server::rpc();
    let addr = server.addr;
    in_each_executor(move || async move {
        let pool = ConnPool::new(Dialer::new());
        for size in 0..10 {
            let mut conn = pool.get(addr).await.unwrap();
            call(&mut conn, &bytes(size * 1000, 3)).await.unwrap();
            assert_eq!(checked(pool.stats(addr)).in_use, 1);
            conn.recycle();
        }
        let stats = checked(pool.stats(addr));
        assert_eq!((stats.created, stats.reused, stats.idle), (1, 9, 1));
        assert_eq!(stats, pool.stats_all());
    });
}

#[test]
fn the_last_returned_connection_is_reused_first_and_surplus_closes_the_oldest() {
    let host = Host::new();
    let pool = pool_with(ConnPoolOptions::default().max_idle(2));
    let [one, two, three] = [(); 3].map(|()| got(&pool, &host));
    let (second, third) = (cookie(&two.0), cookie(&three.0));
    let mut first = one.1;
    drop(one.0);
    drop(two.0);
    drop(three.0);
    assert_eq!(first.receive_all().unwrap(), b"");
    let stats = checked(pool.stats(host.addr));
    assert_eq!((stats.idle, stats.discarded.surplus), (2, 1));
    let again = [(); 2].map(|()| block_on(pool.get(host.addr)).unwrap());
    assert_eq!([cookie(&again[0]), cookie(&again[1])], [third, second]);
    assert_eq!(checked(pool.stats(host.addr)).reused, 2);
}

#[test]
fn limits_apply_per_address() {
    let (one, other) = (Host::new(), Host::new());
    let pool = pool_with(ConnPoolOptions::default().max_connections(1).max_waiting(0));
    let first = got(&pool, &one);
    let second = got(&pool, &other);
    assert!(block_on(pool.get(one.addr)).is_err());
    drop(first.0);
    assert!(block_on(pool.get(other.addr)).is_err());
    let again = block_on(pool.get(one.addr)).unwrap();
    assert_eq!(again.peer_addr(), one.addr);
    let (one, all) = (pool.stats(one.addr), checked(pool.stats_all()));
    assert_eq!(
        (one.rejected, one.in_use, one.created, one.reused),
        (1, 1, 1, 1)
    );
    assert_eq!(
        (all.rejected, all.in_use, all.created, all.reused),
        (2, 2, 2, 1)
    );
    drop(second);
}

#[test]
fn a_connection_with_unread_unsent_or_half_closed_data_or_discarded_is_closed() {
    let host = Host::new();
    let pool = ConnPool::new(Dialer::new());
    let (conn, mut peer) = got(&pool, &host);
    peer.send(b"unread");
    eventually("data", || conn.stats().waiting == 6);
    drop(conn);
    let (mut conn, mut peer) = got(&pool, &host);
    peer.send(b"half");
    assert_eq!(block_on(conn.reader().peek(4)).unwrap(), b"half");
    drop(conn);
    let (mut conn, mut peer) = got(&pool, &host);
    conn.writer().put_str("unsent");
    drop(conn);
    assert_eq!(
        peer.receive_all().unwrap(),
        b"unsent",
        "output is sent before the close"
    );
    let (mut conn, _peer) = got(&pool, &host);
    conn.writer().shutdown();
    drop(conn);
    let (mut conn, _peer) = got(&pool, &host);
    conn.discard();
    drop(conn);
    let (conn, _peer) = got(&pool, &host);
    conn.abort();
    drop(conn);
    let (conn, _peer) = got(&pool, &host);
    let panicking = std::thread::spawn(move || {
        let _conn = conn;
        panic!("a user that panics, on purpose");
    });
    assert!(panicking.join().is_err());
    let stats = checked(pool.stats_all());
    assert_eq!((stats.created, stats.reused, stats.idle), (7, 0, 0));
    let why = stats.discarded;
    assert_eq!((why.unread, why.unsent, why.half_closed), (2, 1, 1));
    assert_eq!((why.by_user, why.closed), (2, 1));
    let (mut conn, _peer) = got(&pool, &host);
    conn.discard();
    conn.keep();
    drop(conn);
    assert_eq!(checked(pool.stats_all()).idle, 1);
}

#[test]
fn a_late_answer_does_not_reach_the_next_user() {
    let host = Host::new();
    let pool = ConnPool::new(Dialer::new());
    let (conn, mut peer) = got(&pool, &host);
    let handle = conn.handle();
    drop(conn);
    assert_eq!(pool.stats(host.addr).idle, 1);
    peer.send(b"late");
    eventually("data", || {
        handle.stats().is_some_and(|stats| stats.waiting == 4)
    });
    let (_conn, _peer) = got(&pool, &host);
    let stats = checked(pool.stats(host.addr));
    assert_eq!(
        (stats.created, stats.reused, stats.discarded.unread),
        (2, 0, 1)
    );
}

#[test]
fn a_connection_closed_by_its_server_is_not_reused_before_the_poller_reads() {
    let host = Host::new();
    let pool = ConnPool::new(Dialer::new());
    let (at, using) = (host.addr, pool.clone());
    let (sender, receiver) = channel();
    let (release, gone) = channel();
    let (sender, gone) = (Mutex::new(sender), Mutex::new(gone));
    let server = Server::start_as_given(EventLoop::builder().pollers(1).on_connection(
        async move |_conn: Connection| {
            let conn = using.get(at).await?;
            let handle = conn.handle();
            drop(conn);
            sender.lock().unwrap().send(())?;
            // Blocks the poller, which is also the poller of the idle connection.
            gone.lock().unwrap().recv_timeout(LIMIT)?;
            while handle.liveness() != Liveness::Closed {
                std::thread::yield_now();
            }
            assert_eq!(using.stats(at).idle, 1);
            let conn = using.get(at).await?;
            assert_eq!(conn.liveness(), Liveness::Alive);
            sender.lock().unwrap().send(())?;
            Ok(())
        },
    ));
    let _peer = server.connect();
    let first = host.accept();
    receiver.recv_timeout(LIMIT).unwrap();
    drop(first);
    release.send(()).unwrap();
    let _second = host.accept();
    receiver.recv_timeout(LIMIT).unwrap();
    eventually("the return to the pool", || pool.stats(at).idle == 1);
    let stats = checked(pool.stats(at));
    assert_eq!(
        (stats.created, stats.reused, stats.discarded.closed),
        (2, 0, 1)
    );
}

#[test]
fn a_detached_connection_frees_its_slot() {
    let host = Host::new();
    let pool = pool_with(ConnPoolOptions::default().max_connections(1));
    let (conn, mut peer) = got(&pool, &host);
    let mut conn: Connection = conn.detach();
    let (_conn, _peer) = got(&pool, &host);
    peer.send(b"still");
    assert_eq!(block_on(conn.reader().next(5)).unwrap(), b"still");
    let stats = checked(pool.stats_all());
    assert_eq!((stats.created, stats.detached, stats.in_use), (2, 1, 1));
    assert_eq!(
        pool.stats(host.addr).created,
        1,
        "the address was removed in between"
    );
}

#[test]
fn options_set_by_one_user_are_reset_for_the_next() {
    let host = Host::new();
    let pool = ConnPool::new(Dialer::new());
    let (conn, mut peer) = got(&pool, &host);
    let before = conn.timeouts();
    let other = before.read(Duration::from_secs(7));
    conn.set_timeouts(other).unwrap();
    conn.pause_reads();
    drop(conn);
    let mut conn = block_on(pool.get(host.addr)).unwrap();
    assert_eq!(conn.timeouts(), before);
    peer.send(b"?");
    assert_eq!(block_on(conn.reader().read_u8()).unwrap(), b'?');
    assert_eq!(checked(pool.stats(host.addr)).reused, 1);
}

#[test]
fn a_failed_dial_keeps_its_errno_and_leaks_nothing() {
    let addr = Host::new().addr;
    let pool = pool_with(ConnPoolOptions::default().max_connections(1));
    for _ in 0..3 {
        let error = block_on(pool.get(addr)).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(111), "{error:?}");
    }
    assert_eq!(pool.stats(addr), ConnPoolStats::default());
    assert_eq!(checked(pool.stats_all()).failed, 3);
    assert!(format!("{pool:?}").contains("addresses: 0"), "{pool:?}");
}

#[test]
fn an_invalid_option_is_rejected_with_the_field_name() {
    let options = ConnPoolOptions::default().max_age(Duration::ZERO);
    let refused = ConnPool::with_options(Dialer::new(), options).unwrap_err();
    assert_eq!(invalid_option(&refused).unwrap().0, "max_age");
    let pool = ConnPool::new(Dialer::new());
    let error = block_on(pool.get(Addr::Unnamed)).unwrap_err();
    assert_eq!(invalid_option(&error).unwrap().0, "addr");
}

#[test]
fn get_blocking_works_on_a_thread_and_fails_on_a_poller() {
    let server = Server::rpc();
    let pool = Arc::new(ConnPool::new(Dialer::new()));
    let mut conn = pool.get_blocking(server.addr).unwrap();
    block_on(call(&mut conn, b"one")).unwrap();
    conn.recycle();
    let using = Arc::clone(&pool);
    let at = server.addr;
    on_a_poller(move || {
        let error = using.get_blocking(at).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::WouldBlock);
        assert!(matches!(error.netpoll_kind(), Some(Kind::BlockingOnPoller)));
        std::future::ready(())
    });
    assert_eq!(checked(pool.stats_all()).created, 1);
}

#[test]
fn a_closed_pool_returns_an_error_and_keeps_no_connection() {
    let host = Host::new();
    let pool = ConnPool::new(Dialer::new());
    let (out, mut out_peer) = got(&pool, &host);
    let (idle, mut idle_peer) = got(&pool, &host);
    drop(idle);
    pool.clone().close();
    assert_eq!(idle_peer.receive_all().unwrap(), b"");
    let error = block_on(pool.get(host.addr)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotConnected);
    assert!(matches!(error.netpoll_kind(), Some(Kind::PoolClosed)));
    assert_eq!(out.liveness(), Liveness::Alive);
    drop(out);
    assert_eq!(out_peer.receive_all().unwrap(), b"");
    let stats = checked(pool.stats_all());
    assert_eq!((stats.created, stats.discarded.pool_closed), (2, 2));
}

#[test]
fn dropping_the_last_clone_closes_the_pool() {
    let host = Host::new();
    let pool = ConnPool::new(Dialer::new());
    let (out, mut out_peer) = got(&pool, &host);
    let (idle, mut idle_peer) = got(&pool, &host);
    drop(idle);
    drop(pool.clone());
    assert_eq!(pool.stats_all().idle, 1);
    drop(pool);
    assert_eq!(idle_peer.receive_all().unwrap(), b"");
    drop(out);
    assert_eq!(out_peer.receive_all().unwrap(), b"");
}
