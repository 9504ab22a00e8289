// SPDX-License-Identifier: MIT OR Apache-2.0
//! A server that a line on its standard input ends in order: what was accepted is served, idle
//! connections are closed, and after ten seconds the rest is cut.
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
        let cut = handle.shutdown(Duration::from_secs(10)).wait();
        println!("{cut} had to be cut");
        std::io::Result::Ok(())
    });

    event_loop.run()?;
    keyboard.join().unwrap_or(Ok(()))
}
