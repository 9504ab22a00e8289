// SPDX-License-Identifier: MIT OR Apache-2.0
//! A graceful shutdown, started by a line on standard input: the server answers requests in
//! progress and closes idle connections. After ten seconds it aborts the connections that are left.
//!
//! `cargo run --release -p netpoll-examples --example graceful_shutdown`
#![forbid(unsafe_code)]

use std::time::Duration;

use netpoll::{Connection, EventLoop, Listener};

fn main() -> std::io::Result<()> {
    let event_loop = EventLoop::builder()
        .on_request(async |conn: &mut Connection| {
            let (mut reader, mut writer) = conn.split();
            let line = reader.until(b'\n', 4096).await?;
            writer.put_slice(line);
            Ok(())
        })
        .listen(Listener::bind("127.0.0.1:8084")?)
        .build()?;

    let handle = event_loop.handle();
    let keyboard = std::thread::spawn(move || {
        println!("press enter to shut down");
        let mut line = String::new();
        std::io::stdin().read_line(&mut line)?;
        println!("{} connections are open", handle.connections());
        let aborted = handle.shutdown(Duration::from_secs(10)).wait();
        println!("{aborted} connections were aborted");
        std::io::Result::Ok(())
    });

    event_loop.run()?;
    keyboard.join().unwrap_or(Ok(()))
}
