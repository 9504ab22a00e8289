// SPDX-License-Identifier: MIT OR Apache-2.0
//! The wait queue of a pool: first in, first out, bounded, and safe to cancel.

use std::future::{Future, poll_fn};
use std::io::ErrorKind;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Poll;
use std::time::{Duration, Instant};

use netpoll::Connection;
use netpoll::error::{ErrorExt, ErrorKind as Kind};
use netpoll::pool::{ConnPool, ConnPoolOptions, Pooled};

use super::pool::{checked, got, pool_with};
use crate::support::{Host, Server, block_on, call, eventually, in_each_executor, poll_once, rpc};

/// Returns the connection of a future that must be ready.
fn ready(polled: Poll<std::io::Result<Pooled>>) -> Pooled {
    match polled {
        Poll::Ready(got) => got.expect("a connection"),
        Poll::Pending => panic!("pending"),
    }
}

#[test]
fn waiting_callers_are_served_in_order_and_a_late_caller_does_not_overtake() {
    let host = Host::new();
    let pool = pool_with(ConnPoolOptions::default().max_connections(1));
    let (out, _peer) = got(&pool, &host);
    let mut queue: Vec<_> = (0..4).map(|_| Box::pin(pool.get(host.addr))).collect();
    for waiting in &mut queue {
        assert!(poll_once(waiting.as_mut()).is_pending());
    }
    assert_eq!(pool.stats(host.addr).waiting, 4);
    let mut out = out;
    while !queue.is_empty() {
        drop(out);
        let mut late = pin!(pool.get(host.addr));
        assert!(poll_once(late.as_mut()).is_pending());
        for waiting in queue.iter_mut().skip(1).rev() {
            assert!(poll_once(waiting.as_mut()).is_pending());
        }
        let mut first = queue.remove(0);
        out = ready(poll_once(first.as_mut()));
    }
    drop(out);
    let stats = checked(pool.stats(host.addr));
    assert_eq!((stats.created, stats.reused, stats.waiting), (1, 4, 0));
}

#[test]
fn a_full_wait_queue_rejects_at_once_and_accepts_again_after_one_leaves() {
    let host = Host::new();
    let pool = pool_with(ConnPoolOptions::default().max_connections(2).max_waiting(2));
    let out = [(); 2].map(|()| got(&pool, &host));
    let mut queue: Vec<_> = (0..2).map(|_| Box::pin(pool.get(host.addr))).collect();
    for waiting in &mut queue {
        assert!(poll_once(waiting.as_mut()).is_pending());
    }
    let error = block_on(pool.get(host.addr)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ResourceBusy);
    assert!(matches!(
        error.netpoll_kind(),
        Some(Kind::PoolFull {
            connections: 2,
            waiting: 2,
            ..
        })
    ));
    queue.pop();
    let mut next = pin!(pool.get(host.addr));
    assert!(poll_once(next.as_mut()).is_pending());
    let stats = checked(pool.stats(host.addr));
    assert_eq!((stats.rejected, stats.waiting, stats.in_use), (1, 2, 2));
    drop(out);
}

#[test]
fn a_caller_past_wait_timeout_gets_pool_timed_out_in_every_executor() {
    let host = Host::new();
    let after = Duration::from_millis(50);
    let pool = pool_with(
        ConnPoolOptions::default()
            .max_connections(1)
            .wait_timeout(after),
    );
    let (out, _peer) = got(&pool, &host);
    let (using, addr) = (pool.clone(), host.addr);
    in_each_executor(move || {
        let pool = using.clone();
        async move {
            let begun = Instant::now();
            let error = pool.get(addr).await.unwrap_err();
            assert!(begun.elapsed() >= after);
            assert_eq!(error.kind(), ErrorKind::TimedOut);
            let why = error.netpoll_kind();
            assert!(matches!(why, Some(Kind::PoolTimedOut { after: limit, .. }) if limit == after));
            assert_eq!(pool.stats(addr).waiting, 0);
        }
    });
    drop(out);
    assert_eq!(
        checked(pool.stats(addr)).timed_out,
        3,
        "once in each executor"
    );
    assert!(block_on(pool.get(addr)).is_ok());
}

#[test]
fn a_caller_dropped_after_its_grant_passes_the_connection_on() {
    let host = Host::new();
    let pool = pool_with(ConnPoolOptions::default().max_connections(1));
    let (out, _peer) = got(&pool, &host);
    let mut queue: Vec<_> = (0..3).map(|_| Box::pin(pool.get(host.addr))).collect();
    for waiting in &mut queue {
        assert!(poll_once(waiting.as_mut()).is_pending());
    }
    let mut last = queue.pop().unwrap();
    drop(out);
    // The grant passes from the first to the second and on.
    drop(queue.remove(0));
    drop(queue);
    drop(ready(poll_once(last.as_mut())));
    let stats = checked(pool.stats(host.addr));
    assert_eq!((stats.idle, stats.waiting, stats.in_use), (1, 0, 0));
}

#[test]
fn a_get_dropped_at_any_await_leaks_nothing() {
    let server = Server::rpc();
    let pool = pool_with(ConnPoolOptions::default().max_connections(1).max_idle(0));
    for round in 0..300 {
        let held = (round % 2 == 0).then(|| block_on(pool.get(server.addr)).unwrap());
        {
            let mut cancelled = pin!(pool.get(server.addr));
            let mut polls = 0..round % 5;
            let mut held = held;
            while polls.next().is_some() && poll_once(cancelled.as_mut()).is_pending() {
                held = None;
                if round % 3 == 0 {
                    std::thread::yield_now();
                }
            }
            drop(held);
        }
        let stats = pool.stats_all();
        let left = (stats.waiting, stats.dialing, stats.in_use, stats.idle);
        assert_eq!(left, (0, 0, 0, 0), "after {round}");
    }
    let mut conn = block_on(pool.get(server.addr)).unwrap();
    block_on(call(&mut conn, b"last")).unwrap();
    checked(pool.stats_all());
    drop(conn);
    eventually("the close of all connections", || {
        server.handle.connections() == 0
    });
}

#[test]
fn callers_waiting_when_the_pool_closes_get_pool_closed() {
    let host = Host::new();
    let pool = pool_with(ConnPoolOptions::default().max_connections(1));
    let (out, _peer) = got(&pool, &host);
    let addr = host.addr;
    let waiting: Vec<_> = (0..3)
        .map(|_| {
            let pool = pool.clone();
            std::thread::spawn(move || pool.get_blocking(addr).map(drop))
        })
        .collect();
    eventually("three waiting callers", || pool.stats(addr).waiting == 3);
    pool.close();
    for thread in waiting {
        let error = thread.join().unwrap().unwrap_err();
        assert!(matches!(error.netpoll_kind(), Some(Kind::PoolClosed)));
    }
    assert_eq!(pool.stats(addr).in_use, 1);
    drop(out);
    assert_eq!(checked(pool.stats_all()).discarded.pool_closed, 1);
}

/// Waits until all of `futures` complete.
async fn all<F: Future>(futures: impl Iterator<Item = F>) {
    let mut futures: Vec<_> = futures.map(Box::pin).collect();
    poll_fn(|context| {
        futures.retain_mut(|future| future.as_mut().poll(context).is_pending());
        if futures.is_empty() {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    })
    .await;
}

/// An rpc server, and the peak number of connections that it served at once.
fn counting() -> (Server, Arc<AtomicUsize>) {
    let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::<AtomicUsize>::default());
    let peak = Arc::clone(&most);
    let handler = whole!([now, peak], |mut conn| {
        peak.fetch_max(now.fetch_add(1, Ordering::Relaxed) + 1, Ordering::Relaxed);
        while conn.reader().wait(1).await.is_ok() {
            rpc(&mut conn).await?;
        }
        now.fetch_sub(1, Ordering::Relaxed);
        Ok(())
    });
    (
        Server::start(crate::support::builder().pollers(1), handler),
        most,
    )
}

/// Makes two calls, each over a connection of `pool`.
async fn calls(pool: &ConnPool, server: &Server) {
    for _ in 0..2 {
        let mut conn = pool.get(server.addr).await.expect("a connection");
        call(&mut conn, b"body").await.expect("an answer");
        conn.recycle();
    }
}

#[test]
fn a_thousand_callers_share_eight_connections() {
    let (server, most) = counting();
    let pool = pool_with(
        ConnPoolOptions::default()
            .max_connections(8)
            .max_waiting(1000),
    );
    block_on(all((0..1000).map(|_| calls(&pool, &server))));
    let stats = checked(pool.stats(server.addr));
    assert_eq!((stats.created, stats.idle, stats.in_use), (8, 8, 0));
    assert_eq!((stats.reused, stats.waiting), (1992, 0));
    assert!(most.load(Ordering::Relaxed) <= 8);
}

#[test]
fn threads_share_a_few_connections() {
    let server = Server::rpc();
    let addr = server.addr;
    let pool = pool_with(ConnPoolOptions::default().max_connections(3).max_idle(1));
    let threads: Vec<_> = (0..16)
        .map(|_| {
            let pool = pool.clone();
            std::thread::spawn(move || {
                for _ in 0..50 {
                    let mut conn = pool.get_blocking(addr).unwrap();
                    assert!(pool.stats(addr).in_use <= 3);
                    let used: &mut Connection = &mut conn;
                    block_on(call(used, b"body")).unwrap();
                    conn.recycle();
                }
            })
        })
        .collect();
    threads
        .into_iter()
        .for_each(|thread| thread.join().unwrap());
    let stats = checked(pool.stats(addr));
    assert_eq!((stats.idle, stats.in_use, stats.waiting), (1, 0, 0));
    assert_eq!(stats.created + stats.reused, 16 * 50);
}
