// SPDX-License-Identifier: MIT OR Apache-2.0
//! A server with compio: one runtime a thread, on io_uring where the kernel supports it, a task for
//! each connection, and buffers that a read takes and returns, as in the documentation of its `net`
//! and `io`.
//!
//! Optimizations beyond that: buffers of 64 KiB, space for the rest of a frame whose length is
//! known, and one `write_all` for the responses to one read.
#![forbid(unsafe_code)]

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use compio::BufResult;
use compio::io::{AsyncReadExt, AsyncWrite, AsyncWriteExt};
use compio::net::{TcpListener, TcpStream};
use compio::runtime::Runtime;
use peer_options::{BUFFER, Calls, Kind, NoMore, Options, listening_on, unable};

fn main() {
    let kinds = [Kind::Echo, Kind::Rpc, Kind::Heavy, Kind::Proxy];
    let options = Options::<NoMore>::parse_for(&kinds);
    options.only_one_thread("a runtime of compio is one thread's");
    let runtime = Runtime::new().unwrap_or_else(|error| unable("start compio", error));
    runtime.block_on(accept(options.addr, options.kind, options.to));
}

async fn accept(addr: SocketAddr, kind: Kind, to: Option<SocketAddr>) {
    let listener = TcpListener::bind(addr).await;
    let listener = listener.unwrap_or_else(|error| unable("listen", error));
    let bound = listener.local_addr();
    listening_on(bound.unwrap_or_else(|error| unable("learn the address", error)));
    loop {
        match listener.accept().await {
            // The end of a connection is not an error of the server.
            Ok((stream, _)) => compio::runtime::spawn(serve(stream, kind, to)).detach(),
            // Probably out of descriptors; closing connections frees some.
            Err(_) => compio::time::sleep(Duration::from_millis(10)).await,
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
    let mut input = Vec::with_capacity(BUFFER);
    let mut answers = Vec::with_capacity(BUFFER);
    loop {
        input.reserve(Calls::missing(&input).max(BUFFER / 2));
        let BufResult(count, back) = stream.append(input).await;
        input = back;
        if count? == 0 {
            return Ok(());
        }
        let taken = calls.answer(&input, &mut answers)?;
        input.drain(..taken);
        let BufResult(sent, back) = stream.write_all(answers).await;
        sent?;
        answers = back;
        answers.clear();
    }
}

/// Forwards all bytes and then the end of the stream.
async fn pass(mut from: TcpStream, mut to: TcpStream) -> io::Result<()> {
    let mut buffer = Vec::with_capacity(BUFFER);
    loop {
        buffer.clear();
        let BufResult(count, back) = from.append(buffer).await;
        if count? == 0 {
            return to.shutdown().await;
        }
        let BufResult(sent, back) = to.write_all(back).await;
        sent?;
        buffer = back;
    }
}

async fn proxy(client: TcpStream, to: SocketAddr) -> io::Result<()> {
    let server = TcpStream::connect(to).await?;
    server.set_nodelay(true)?;
    let answers = compio::runtime::spawn(pass(server.clone(), client.clone()));
    pass(client, server).await?;
    answers.await.unwrap_or(Ok(()))
}
