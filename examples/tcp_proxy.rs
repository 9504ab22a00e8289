// SPDX-License-Identifier: MIT OR Apache-2.0
//! Relays between its clients and another server. Both sides of a relay are driven by one poller,
//! and no byte is copied on the way: what was received from one side is sent to the other. When one
//! side ends its stream, or the proxy shuts down, so does the relay towards the other, and the answers
//! still come back. What is silent for 30 s then is not waited for.
//!
//! `cargo run --release -p netpoll-examples --example tcp_proxy -- 127.0.0.1:8081`; without an
//! address it starts a server of its own, asks it something through the proxy, and ends.
#![forbid(unsafe_code)]

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};

use netpoll::{Addr, BoxError, Closed, Connection, Dialer, EventLoop, Listener};
use netpoll::{OwnedReader, OwnedWriter, Reader, Writer};

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
    stream.write_all(b"all that there is to say")?;
    stream.shutdown(Shutdown::Write)?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    println!("after the end of our stream came: {answer}");
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

/// Moves what comes until there is no more, and then the end of the stream. If one side fails, the
/// other is of no use.
async fn relay(mut from: OwnedReader, mut to: OwnedWriter) -> std::io::Result<()> {
    let moved = forward(from.reader(), to.writer()).await;
    let end = to.handle();
    if moved.is_err() {
        from.handle().abort();
        end.abort();
    } else if let (Some(stats), Some(mut bounds)) = (end.stats(), end.timeouts()) {
        bounds.idle = Some(stats.idle + std::time::Duration::from_secs(30));
        end.set_timeouts(bounds)?;
    }
    moved
}

/// At the pace of whoever takes it.
async fn forward(mut from: Reader<'_>, mut to: Writer<'_>) -> std::io::Result<()> {
    // This side takes no more: the loop shuts down, or a time is up. A reset has another error.
    let is_closed = |e: &std::io::Error| e.get_ref().is_some_and(|why| why.is::<Closed>());
    while let Some(bytes) = match from.chunk().await {
        Err(error) if is_closed(&error) => None,
        chunk => chunk?,
    } {
        to.append(bytes);
        to.writable().await?;
    }
    to.shutdown();
    to.flush().await
}
