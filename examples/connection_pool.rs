// SPDX-License-Identifier: MIT OR Apache-2.0
//! Ten threads share three client connections: a server, a hundred calls through a connection pool,
//! and the pool's statistics.
//!
//! `cargo run --release -p netpoll-examples --example connection_pool` needs no other program.
#![forbid(unsafe_code)]

use std::io::{BufRead, Write};
use std::time::Duration;

use netpoll::pool::{ConnPool, ConnPoolOptions};
use netpoll::{Addr, Connection, Dialer, EventLoop, Listener};

/// Answers each line with the same line.
async fn echo(conn: &mut Connection) -> Result<(), netpoll::BoxError> {
    let (mut reader, mut writer) = conn.split();
    let line = reader.until(b'\n', 1024).await?;
    writer.put_slice(line);
    Ok(())
}

/// Makes ten calls, each on a free connection of the pool.
fn calls(pool: &ConnPool, addr: Addr) -> std::io::Result<()> {
    for number in 0..10 {
        let mut conn = pool.get_blocking(addr)?;
        let mut stream = conn.blocking();
        writeln!(stream, "call {number}")?;
        let mut answer = String::new();
        stream.read_line(&mut answer)?;
        assert_eq!(answer, format!("call {number}\n"));
        // A connection is not recycled after an error: it is dropped and so closed, since a late
        // response may still arrive on it.
        conn.recycle();
    }
    Ok(())
}

fn main() -> std::io::Result<()> {
    let listener = Listener::bind("127.0.0.1:0")?;
    let addr = listener.local_addr()?;
    let server = EventLoop::builder().on_request(echo).listen(listener);
    let server = server.build()?;
    let handle = server.handle();
    let serving = std::thread::spawn(move || server.run());

    let options = ConnPoolOptions::default().max_connections(3);
    let pool = ConnPool::with_options(Dialer::new(), options)?;
    let callers: Vec<_> = (0..10)
        .map(|_| {
            let pool = pool.clone();
            std::thread::spawn(move || calls(&pool, addr))
        })
        .collect();
    for caller in callers {
        caller.join().expect("no panic")?;
    }

    let stats = pool.stats(addr);
    println!("{} connections created,", stats.created);
    println!("reused {} times, {} idle.", stats.reused, stats.idle);
    pool.close();
    let aborted = handle.shutdown(Duration::from_secs(1)).wait();
    assert_eq!(aborted, 0);
    serving.join().expect("no panic")
}
