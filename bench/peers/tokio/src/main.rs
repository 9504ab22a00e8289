// SPDX-License-Identifier: MIT OR Apache-2.0
//! A server with tokio, after the tutorial's chapters "I/O" (the echo server) and "Framing" (a
//! `BytesMut` that `read_buf` fills and frames are split from).
//!
//! Optimizations beyond the tutorial: buffers of 64 KiB; space for the rest of a frame whose length
//! is known, so that a large frame arrives in few reads; one `write_all` for the responses to one
//! read. On the multi-threaded runtime, the listener is a task: `block_on` runs outside of the
//! workers, and each connection would have to move to one first.
//!
//! `mux` follows the tutorial's chapter "Channels", `proxy` the documentation of
//! `copy_bidirectional`, also with buffers of 64 KiB (the default is 8 KiB).
#![forbid(unsafe_code)]

mod mux;

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::{Buf, BytesMut};
use clap::{Args, ValueEnum};
use peer_options::{BUFFER, Calls, Kind, Options, listening_on, unable};
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional_with_sizes};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::{Builder, Runtime};

#[derive(Args)]
struct Extra {
    /// The runtime of tokio.
    #[arg(long, default_value = "current-thread")]
    flavor: Flavor,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Flavor {
    CurrentThread,
    MultiThread,
}

fn main() {
    let kinds = [Kind::Echo, Kind::Rpc, Kind::Mux, Kind::Heavy, Kind::Proxy];
    let options = Options::<Extra>::parse_for(&kinds);
    let runtime = runtime(&options).unwrap_or_else(|error| unable("start tokio", error));
    runtime.block_on(async {
        let listener = TcpListener::bind(options.addr).await;
        let listener = listener.unwrap_or_else(|error| unable("listen", error));
        let bound = listener.local_addr();
        listening_on(bound.unwrap_or_else(|error| unable("learn the address", error)));
        tokio::spawn(accept(listener, options.kind, options.to))
            .await
            .ok();
    });
}

fn runtime(options: &Options<Extra>) -> io::Result<Runtime> {
    let mut builder = match options.extra.flavor {
        Flavor::CurrentThread => {
            options.only_one_thread("a current-thread runtime has one");
            Builder::new_current_thread()
        }
        Flavor::MultiThread => Builder::new_multi_thread(),
    };
    builder
        .worker_threads(options.threads.get())
        .enable_all()
        .build()
}

async fn accept(listener: TcpListener, kind: Kind, to: Option<SocketAddr>) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                // The end of a connection is not an error of the server.
                tokio::spawn(async move { serve(stream, kind, to).await.ok() });
            }
            // Probably out of descriptors; closing connections frees some.
            Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
        }
    }
}

async fn serve(stream: TcpStream, kind: Kind, to: Option<SocketAddr>) -> io::Result<()> {
    stream.set_nodelay(true)?;
    match (kind, to) {
        (Kind::Echo, _) => echo(stream).await,
        (Kind::Mux, _) => mux::serve(stream).await,
        (Kind::Proxy, Some(to)) => proxy(stream, to).await,
        _ => rpc(stream, Calls::of(kind)).await,
    }
}

async fn echo(mut stream: TcpStream) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER];
    loop {
        match stream.read(&mut buffer).await? {
            0 => return Ok(()),
            n => stream.write_all(&buffer[..n]).await?,
        }
    }
}

async fn rpc(mut stream: TcpStream, mut calls: Calls) -> io::Result<()> {
    let mut input = BytesMut::with_capacity(BUFFER);
    let mut answers = Vec::with_capacity(BUFFER);
    loop {
        // Restarts at the front if everything has been answered.
        input.reserve(Calls::missing(&input).max(BUFFER));
        if stream.read_buf(&mut input).await? == 0 {
            return Ok(());
        }
        let taken = calls.answer(&input, &mut answers)?;
        input.advance(taken);
        stream.write_all(&answers).await?;
        answers.clear();
    }
}

async fn proxy(mut client: TcpStream, to: SocketAddr) -> io::Result<()> {
    let mut server = TcpStream::connect(to).await?;
    server.set_nodelay(true)?;
    copy_bidirectional_with_sizes(&mut client, &mut server, BUFFER, BUFFER).await?;
    Ok(())
}
