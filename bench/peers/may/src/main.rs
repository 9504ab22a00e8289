// SPDX-License-Identifier: MIT OR Apache-2.0
//! A server with may: a coroutine with its own stack for each connection, and calls that appear to
//! block, as in its example `echo`.
//!
//! Optimizations beyond the example: reused buffers of 64 KiB, and one `write_all` for the
//! responses to one read.
//!
//! `go!` calls an unsafe function (a coroutine must neither overflow its stack nor use
//! thread-locals), so unsafe code is not forbidden here. The stacks are 32 KiB; they hold a few
//! frames of this file and of the library.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::time::Duration;

use may::net::{TcpListener, TcpStream};
use may::{coroutine, go};
use peer_options::{BUFFER, Calls, Input, Kind, NoMore, Options, listening_on, unable};

/// In machine words.
const STACK: usize = 4 << 10;

fn main() {
    let kinds = [Kind::Echo, Kind::Rpc, Kind::Heavy, Kind::Proxy];
    let options = Options::<NoMore>::parse_for(&kinds);
    may::config()
        .set_workers(options.threads.get())
        .set_stack_size(STACK);
    let listener = TcpListener::bind(options.addr);
    let listener = listener.unwrap_or_else(|error| unable("listen", error));
    let bound = listener.local_addr();
    listening_on(bound.unwrap_or_else(|error| unable("learn the address", error)));
    let (kind, to) = (options.kind, options.to);
    // A signal ends the process.
    go!(move || accept(&listener, kind, to)).join().ok();
}

fn accept(listener: &TcpListener, kind: Kind, to: Option<SocketAddr>) {
    loop {
        match listener.accept() {
            // The end of a connection is not an error of the server.
            Ok((stream, _)) => drop(go!(move || serve(stream, kind, to).ok())),
            // Probably out of descriptors; closing connections frees some.
            Err(_) => coroutine::sleep(Duration::from_millis(10)),
        }
    }
}

fn serve(stream: TcpStream, kind: Kind, to: Option<SocketAddr>) -> io::Result<()> {
    stream.set_nodelay(true)?;
    match (kind, to) {
        (Kind::Echo, _) => echo(stream),
        (Kind::Proxy, Some(to)) => proxy(stream, to),
        _ => rpc(stream, Calls::of(kind)),
    }
}

fn echo(mut stream: TcpStream) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER];
    loop {
        match stream.read(&mut buffer)? {
            0 => return Ok(()),
            count => stream.write_all(&buffer[..count])?,
        }
    }
}

fn rpc(mut stream: TcpStream, mut calls: Calls) -> io::Result<()> {
    let mut input = Input::default();
    let mut answers = Vec::with_capacity(BUFFER);
    loop {
        match stream.read(input.room())? {
            0 => return Ok(()),
            count => input.came(count),
        }
        let taken = calls.answer(input.unread(), &mut answers)?;
        input.take(taken);
        stream.write_all(&answers)?;
        answers.clear();
    }
}

/// Forwards all bytes and then the end of the stream.
fn pass(mut from: TcpStream, mut to: TcpStream) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER];
    loop {
        match from.read(&mut buffer)? {
            0 => return to.shutdown(Shutdown::Write),
            count => to.write_all(&buffer[..count])?,
        }
    }
}

fn proxy(client: TcpStream, to: SocketAddr) -> io::Result<()> {
    let server = TcpStream::connect(to)?;
    server.set_nodelay(true)?;
    let (from, back) = (server.try_clone()?, client.try_clone()?);
    let answers = go!(move || pass(from, back));
    pass(client, server)?;
    answers.join().unwrap_or(Ok(()))
}
