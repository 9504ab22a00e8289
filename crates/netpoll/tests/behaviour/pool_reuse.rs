// SPDX-License-Identifier: MIT OR Apache-2.0
//! A pooled connection is reused only if no answer to its last user can reach the next one.

use std::io::{self, Read, Write};
use std::pin::pin;
use std::time::Duration;

use bytes::Bytes;
use netpoll::pool::{ConnPool, ConnPoolOptions, ConnPoolStats, Pooled};
use netpoll::time::{sleep, timeout};
use netpoll::{Connection, Dialer};

use super::pool::{checked, got, pool_with};
use crate::support::{
    Host, Peer, Server, block_on, bytes, call, eventually, in_each_executor, poll_once, rpc,
};

/// Runs `used` with a connection of a new pool and returns the counts of the pool afterwards.
fn after(used: impl FnOnce(Pooled, &mut Peer)) -> ConnPoolStats {
    let host = Host::new();
    let pool = ConnPool::new(Dialer::new());
    let (conn, mut peer) = got(&pool, &host);
    used(conn, &mut peer);
    checked(pool.stats_all())
}

/// Fails unless the connection was closed because it was not recycled.
#[track_caller]
fn is_not_recycled(stats: ConnPoolStats) {
    assert_eq!((stats.idle, stats.discarded.not_recycled), (0, 1));
}

/// Sends one byte and reads an answer of two bytes.
async fn ping(conn: &mut Connection) -> io::Result<()> {
    conn.writer().put_str("?");
    conn.writer().flush().await?;
    conn.reader().skip(2).await
}

#[test]
fn the_answer_of_a_cancelled_call_does_not_reach_the_next_user() {
    const CALLS: u8 = 20;
    let handler = handler!([], |conn| {
        conn.reader().wait(5).await?;
        if conn.reader().peek(5).await?[4] == b's' {
            sleep(Duration::from_secs(2)).await;
        }
        rpc(conn).await
    });
    let server = Server::start(crate::support::builder().pollers(1), handler);
    let addr = server.addr;
    in_each_executor(move || async move {
        let pool = pool_with(ConnPoolOptions::default().max_connections(1));
        for number in 0..CALLS {
            let mut conn = pool.get(addr).await.unwrap();
            let slow = [b's', number];
            let cancelled = timeout(Duration::from_millis(1), call(&mut conn, &slow)).await;
            drop((cancelled, conn));
            let mut conn = pool.get(addr).await.unwrap();
            call(&mut conn, &[b'f', number]).await.unwrap();
            conn.recycle();
        }
        // The statistics of an address end with its last connection.
        let stats = checked(pool.stats_all());
        assert_eq!(stats.discarded.not_recycled, u64::from(CALLS));
        assert_eq!(stats.idle, 1);
    });
}

#[test]
fn a_used_connection_that_is_dropped_is_closed_at_every_stage_of_an_exchange() {
    is_not_recycled(after(|mut conn, _| {
        // The request is sent, and the read of the answer is dropped.
        conn.writer().put_str("?");
        block_on(conn.writer().flush()).unwrap();
        let mut reader = conn.reader();
        assert!(poll_once(pin!(reader.read_u8()).as_mut()).is_pending());
    }));
    is_not_recycled(after(|mut conn, _| {
        // The whole call is dropped.
        assert!(poll_once(pin!(ping(&mut conn)).as_mut()).is_pending());
        eventually("the request", || conn.writer().unsent() == 0);
    }));
    is_not_recycled(after(|mut conn, peer| {
        // Only the first half of the answer is received and read.
        peer.send(b"!");
        conn.writer().put_str("?");
        block_on(conn.writer().flush()).unwrap();
        assert_eq!(block_on(conn.reader().read_u8()).unwrap(), b'!');
    }));
    is_not_recycled(after(|mut conn, peer| {
        // One of two answers is read.
        conn.writer().put_str("??");
        block_on(conn.writer().flush()).unwrap();
        peer.send(b"!!");
        block_on(conn.reader().skip(2)).unwrap();
    }));
    is_not_recycled(after(|mut conn, peer| {
        // No request was sent, but bytes were read.
        peer.send(b"!!");
        block_on(conn.reader().skip(2)).unwrap();
    }));
    is_not_recycled(after(|mut conn, _| {
        // The connection is used through its halves.
        let (mut reader, mut writer) = conn.split();
        writer.put_u32(7);
        block_on(writer.flush()).unwrap();
        assert!(poll_once(pin!(reader.wait(4)).as_mut()).is_pending());
    }));
    is_not_recycled(after(|conn, peer| {
        // Output is pushed through a handle.
        conn.handle().push(Bytes::from_static(b"??")).unwrap();
        assert_eq!(peer.receive(2), b"??");
        eventually("sent", || conn.handle().stats().unwrap().sent == 2);
    }));
    is_not_recycled(after(|mut conn, peer| {
        // The connection is used as a blocking stream.
        let mut stream = conn.blocking();
        stream.write_all(b"??").unwrap();
        stream.flush().unwrap();
        peer.send(b"!");
        stream.read_exact(&mut [0]).unwrap();
    }));
}

#[test]
fn a_complete_exchange_is_not_recycled_by_drop_or_keep() {
    let exchange = |conn: &mut Pooled, peer: &mut Peer| {
        peer.send(b"!!");
        block_on(ping(conn)).unwrap();
    };
    is_not_recycled(after(|mut conn, peer| exchange(&mut conn, peer)));
    is_not_recycled(after(|mut conn, peer| {
        exchange(&mut conn, peer);
        conn.discard();
        conn.keep();
    }));
    let stats = after(|mut conn, peer| {
        conn.discard();
        exchange(&mut conn, peer);
        conn.recycle();
    });
    assert_eq!((stats.idle, stats.discarded.total()), (1, 0));
}

#[test]
fn an_error_returned_before_recycle_closes_the_connection() {
    async fn asks(mut conn: Pooled) -> io::Result<()> {
        ping(&mut conn).await?;
        if conn.reader().read_u8().await? == b'?' {
            return Err(io::ErrorKind::InvalidData.into());
        }
        conn.recycle();
        Ok(())
    }
    is_not_recycled(after(|conn, peer| {
        peer.send(b"!!?");
        assert!(block_on(asks(conn)).is_err());
    }));
    let stats = after(|conn, peer| {
        peer.send(b"!!!");
        block_on(asks(conn)).unwrap();
    });
    assert_eq!(stats.idle, 1);
}

#[test]
fn an_unused_connection_returns_to_the_pool_on_drop() {
    let stats = after(|mut conn, _| {
        assert!(poll_once(pin!(conn.reader().read_u8()).as_mut()).is_pending());
        drop(conn);
    });
    assert_eq!((stats.idle, stats.discarded.total()), (1, 0));
    let host = Host::new();
    let pool = ConnPool::new(Dialer::new());
    let (mut conn, mut peer) = got(&pool, &host);
    peer.send(b"!!");
    block_on(ping(&mut conn)).unwrap();
    conn.recycle();
    for _ in 0..3 {
        // The earlier exchange was recycled, so this use counts alone.
        drop(block_on(pool.get(host.addr)).unwrap());
    }
    assert_eq!(checked(pool.stats(host.addr)).reused, 3);
}

#[test]
fn a_recycled_connection_that_cannot_be_reused_is_closed() {
    let stats = after(|mut conn, peer| {
        peer.send(b"!!!");
        block_on(ping(&mut conn)).unwrap();
        conn.recycle();
    });
    assert_eq!((stats.idle, stats.discarded.unread), (0, 1));
    let stats = after(|mut conn, _| {
        conn.writer().put_str("?");
        conn.recycle();
    });
    assert_eq!((stats.idle, stats.discarded.unsent), (0, 1));
    let stats = after(|mut conn, _| {
        conn.writer().push(Bytes::from(bytes(8 << 20, 1)));
        assert!(poll_once(pin!(conn.writer().flush()).as_mut()).is_pending());
        conn.recycle();
    });
    assert_eq!((stats.idle, stats.discarded.unsent), (0, 1));
    let stats = after(|mut conn, _| {
        conn.writer().reserve(4).unwrap();
        conn.recycle();
    });
    assert_eq!((stats.idle, stats.discarded.unsent), (0, 1));
    let stats = after(|mut conn, _| {
        conn.writer().shutdown();
        conn.recycle();
    });
    assert_eq!((stats.idle, stats.discarded.half_closed), (0, 1));
    let stats = after(|conn, _| {
        conn.abort();
        conn.recycle();
    });
    assert_eq!((stats.idle, stats.discarded.closed), (0, 1));
}

#[test]
fn a_swapped_connection_does_not_enter_the_pool() {
    let (one, other) = (Host::new(), Host::new());
    let pool = ConnPool::new(Dialer::new());
    let (mut first, _first_peer) = got(&pool, &one);
    let (mut second, _second_peer) = got(&pool, &other);
    std::mem::swap::<Connection>(&mut first, &mut second);
    first.recycle();
    drop(second);
    let stats = checked(pool.stats_all());
    assert_eq!((stats.idle, stats.discarded.not_recycled), (0, 2));
}
