// SPDX-License-Identifier: MIT OR Apache-2.0
//! A proxy. One poller drives both sides of a connection pair, and no byte is copied. When one side
//! ends its stream, or the proxy shuts down, the proxy forwards the end, and the responses still
//! arrive. A direction that is then silent for 30 s is closed.
//!
//! `cargo run --release -p netpoll-examples --example tcp_proxy -- 127.0.0.1:8081`. Without an
//! address it starts its own server, sends a request through the proxy, and ends.
#![forbid(unsafe_code)]

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};

use netpoll::connection::{OwnedReader, OwnedWriter};
use netpoll::error::ErrorExt;
use netpoll::{Addr, BoxError, Connection, Dialer, EventLoop, Listener, Reader, Writer};

fn main() -> Result<(), BoxError> {
    if let Some(upstream) = std::env::args().nth(1) {
        return Ok(proxy(upstream.parse()?, Listener::bind("127.0.0.1:8083")?)?.run()?);
    }
    let (echo, front) = ("127.0.0.1:0", "127.0.0.1:0");
    let (echo, front) = (Listener::bind(echo)?, Listener::bind(front)?);
    let (upstream, addr) = (echo.local_addr()?, front.local_addr()?);
    let server = EventLoop::builder().on_connection(async |mut conn: Connection| {
        let (reader, writer) = conn.split();
        Ok(forward(reader, writer).await?)
    });
    let (server, proxy) = (server.listen(echo).build()?, proxy(upstream, front)?);
    std::thread::spawn(move || server.run());
    std::thread::spawn(move || proxy.run());
    let mut stream = TcpStream::connect(addr.to_string())?;
    stream.write_all(b"one request")?;
    stream.shutdown(Shutdown::Write)?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    println!("received after our end of the stream: {answer}");
    Ok(())
}

fn proxy(upstream: Addr, listener: Listener) -> std::io::Result<EventLoop> {
    let proxy = EventLoop::builder().on_connection(async move |client: Connection| {
        let server = Dialer::new().dial(upstream).await?;
        let (from_client, to_client) = client.into_split();
        let (from_server, to_server) = server.into_split();
        let answers = netpoll::spawn(relay(from_server, to_client))?;
        relay(from_client, to_server).await?;
        Ok(answers.await??)
    });
    proxy.listen(listener).build()
}

/// Forwards one direction to its end, and the end of the stream after it. If one side fails, both
/// are aborted.
async fn relay(mut from: OwnedReader, mut to: OwnedWriter) -> std::io::Result<()> {
    let moved = forward(from.reader(), to.writer()).await;
    let end = to.handle();
    if moved.is_err() {
        from.handle().abort();
        end.abort();
    } else if let (Some(stats), Some(timeouts)) = (end.stats(), end.timeouts()) {
        let idle = stats.idle + std::time::Duration::from_secs(30);
        end.set_timeouts(timeouts.idle(idle))?;
    }
    moved
}

/// Forwards bytes at the pace of the receiver.
async fn forward(mut from: Reader<'_>, mut to: Writer<'_>) -> std::io::Result<()> {
    // The connection reads no more: the event loop shuts down, or a timeout has passed. A reset is
    // another error.
    while let Some(bytes) = match from.chunk().await {
        Err(error) if error.close_reason().is_some() => None,
        chunk => chunk?,
    } {
        to.append(bytes);
        to.writable().await?;
    }
    to.shutdown();
    to.flush().await
}
