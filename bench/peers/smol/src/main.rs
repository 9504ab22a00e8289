// SPDX-License-Identifier: MIT OR Apache-2.0
//! A server with smol: an executor and a task for each connection, as in its examples `tcp-server`
//! and `simple-server`. With one thread, the executor is a `LocalExecutor`, whose tasks need no
//! locks.
//!
//! Optimizations beyond the examples: reused buffers of 64 KiB, and one `write_all` for the
//! responses to one read.
#![forbid(unsafe_code)]

use std::net::SocketAddr;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use peer_options::{BUFFER, Calls, Input, Kind, NoMore, Options, listening_on, unable};
use smol::io::{self, AsyncReadExt, AsyncWriteExt};
use smol::net::{TcpListener, TcpStream};
use smol::{Executor, LocalExecutor, Task, Timer, future};

fn main() {
    let kinds = [Kind::Echo, Kind::Rpc, Kind::Heavy, Kind::Proxy];
    let options = Options::<NoMore>::parse_for(&kinds);
    let threads = options.threads.get();
    let listener = smol::block_on(TcpListener::bind(options.addr));
    let listener = listener.unwrap_or_else(|error| unable("listen", error));
    let bound = listener.local_addr();
    listening_on(bound.unwrap_or_else(|error| unable("learn the address", error)));
    if threads == 1 {
        let executor = LocalExecutor::new();
        let spawn = |stream| executor.spawn(serve(stream, options.kind, options.to));
        smol::block_on(executor.run(accept(listener, spawn)));
        return;
    }
    let executor = Arc::new(Executor::new());
    for _ in 1..threads {
        let executor = Arc::clone(&executor);
        thread::spawn(move || smol::block_on(executor.run(future::pending::<()>())));
    }
    let spawn = |stream| executor.spawn(serve(stream, options.kind, options.to));
    smol::block_on(executor.run(accept(listener, spawn)));
}

async fn accept(listener: TcpListener, spawn: impl Fn(TcpStream) -> Task<io::Result<()>>) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => spawn(stream).detach(),
            // Probably out of descriptors; closing connections frees some.
            Err(_) => drop(Timer::after(Duration::from_millis(10)).await),
        }
    }
}

async fn serve(stream: TcpStream, kind: Kind, to: Option<SocketAddr>) -> io::Result<()> {
    stream.set_nodelay(true)?;
    match (kind, to) {
        (Kind::Echo, _) => pass(stream.clone(), stream).await,
        (Kind::Proxy, Some(to)) => proxy(stream, to).await,
        _ => rpc(stream, Calls::of(kind)).await,
    }
}

async fn rpc(mut stream: TcpStream, mut calls: Calls) -> io::Result<()> {
    let mut input = Input::default();
    let mut answers = Vec::with_capacity(BUFFER);
    loop {
        match stream.read(input.room()).await? {
            0 => return Ok(()),
            count => input.came(count),
        }
        let taken = calls.answer(input.unread(), &mut answers)?;
        input.take(taken);
        stream.write_all(&answers).await?;
        answers.clear();
    }
}

/// Forwards all bytes and then the end of the stream.
async fn pass(mut from: TcpStream, mut to: TcpStream) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER];
    loop {
        match from.read(&mut buffer).await? {
            0 => return to.close().await,
            count => to.write_all(&buffer[..count]).await?,
        }
    }
}

async fn proxy(client: TcpStream, to: SocketAddr) -> io::Result<()> {
    let server = TcpStream::connect(to).await?;
    server.set_nodelay(true)?;
    let there = pass(client.clone(), server.clone());
    future::try_zip(there, pass(server, client)).await?;
    Ok(())
}
