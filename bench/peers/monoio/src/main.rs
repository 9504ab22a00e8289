// SPDX-License-Identifier: MIT OR Apache-2.0
//! A server with monoio: one runtime a thread, on io_uring where the kernel supports it (otherwise
//! on epoll, which it reports on stderr), a task for each connection, and buffers that a read takes
//! and returns, as in its examples `echo` and `proxy`.
//!
//! Optimizations beyond the examples: buffers of 64 KiB, space for the rest of a frame whose length
//! is known, and one `write_all` for the responses to one read.
#![forbid(unsafe_code)]

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use monoio::buf::{IoBuf, IoBufMut};
use monoio::io::{AsyncReadRent, AsyncWriteRent, AsyncWriteRentExt, Splitable};
use monoio::net::{TcpListener, TcpStream};
use monoio::{FusionDriver, RuntimeBuilder};
use peer_options::{BUFFER, Calls, Kind, NoMore, Options, listening_on, unable};

fn main() {
    let kinds = [Kind::Echo, Kind::Rpc, Kind::Heavy, Kind::Proxy];
    let options = Options::<NoMore>::parse_for(&kinds);
    options.only_one_thread("a runtime of monoio is one thread's");
    if !monoio::utils::detect_uring() {
        eprintln!("monoio runs on epoll: there is no io_uring here");
    }
    let runtime = RuntimeBuilder::<FusionDriver>::new().enable_timer().build();
    let mut runtime = runtime.unwrap_or_else(|error| unable("start monoio", error));
    runtime.block_on(accept(options.addr, options.kind, options.to));
}

async fn accept(addr: SocketAddr, kind: Kind, to: Option<SocketAddr>) {
    let listener = TcpListener::bind(addr);
    let listener = listener.unwrap_or_else(|error| unable("listen", error));
    let bound = listener.local_addr();
    listening_on(bound.unwrap_or_else(|error| unable("learn the address", error)));
    loop {
        match listener.accept().await {
            // The end of a connection is not an error of the server.
            Ok((stream, _)) => drop(monoio::spawn(serve(stream, kind, to))),
            // Probably out of descriptors; closing connections frees some.
            Err(_) => monoio::time::sleep(Duration::from_millis(10)).await,
        }
    }
}

async fn serve(stream: TcpStream, kind: Kind, to: Option<SocketAddr>) -> io::Result<()> {
    stream.set_nodelay(true)?;
    match (kind, to) {
        (Kind::Echo, _) => {
            let (from, back) = stream.into_split();
            pass(from, back).await
        }
        (Kind::Proxy, Some(to)) => proxy(stream, to).await,
        _ => rpc(stream, Calls::of(kind)).await,
    }
}

async fn rpc(mut stream: TcpStream, mut calls: Calls) -> io::Result<()> {
    let mut input = Vec::with_capacity(BUFFER);
    let mut answers = Vec::with_capacity(BUFFER);
    loop {
        input.reserve(Calls::missing(&input).max(BUFFER / 2));
        let unread = input.len();
        let (count, back) = stream.read(input.slice_mut(unread..)).await;
        input = back.into_inner();
        if count? == 0 {
            return Ok(());
        }
        let taken = calls.answer(&input, &mut answers)?;
        input.drain(..taken);
        let (sent, back) = stream.write_all(answers).await;
        sent?;
        answers = back;
        answers.clear();
    }
}

/// Forwards all bytes and then the end of the stream.
async fn pass(mut from: impl AsyncReadRent, mut to: impl AsyncWriteRent) -> io::Result<()> {
    let mut buffer = Vec::with_capacity(BUFFER);
    loop {
        let (count, back) = from.read(buffer).await;
        let count = count?;
        if count == 0 {
            return to.shutdown().await;
        }
        let (sent, back) = to.write_all(back.slice(..count)).await;
        sent?;
        buffer = back.into_inner();
    }
}

async fn proxy(client: TcpStream, to: SocketAddr) -> io::Result<()> {
    let server = TcpStream::connect_addr(to).await?;
    server.set_nodelay(true)?;
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    let answers = monoio::spawn(pass(from_server, to_client));
    pass(from_client, to_server).await?;
    answers.await
}
