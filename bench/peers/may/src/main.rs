// SPDX-License-Identifier: MIT OR Apache-2.0
//! A server with may: a coroutine with a stack of its own for each connection, and calls that look as
//! if they blocked, as its example `echo` has it.
//!
//! What a knowing user does beyond that: buffers of 64 KiB that are used again, and one `write_all` for
//! all that one read brought.
//!
//! `go!` is a call of an unsafe function (a coroutine must neither overflow its stack nor use what
//! belongs to a thread), so unsafe code is not forbidden here. The stacks are 32 KiB; what is on them
//! are a few frames of this file and of the library.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::time::Duration;

use may::net::{TcpListener, TcpStream};
use may::{coroutine, go};
use peer_options::{BUFFER, Calls, Input, Kind, NoMore, Options, listening_on, unable};

/// In words of the machine.
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
    // What ends it is a signal.
    go!(move || accept(&listener, kind, to)).join().ok();
}

fn accept(listener: &TcpListener, kind: Kind, to: Option<SocketAddr>) {
    loop {
        match listener.accept() {
            // How a connection ends is between it and its peer.
            Ok((stream, _)) => drop(go!(move || serve(stream, kind, to).ok())),
            // Out of descriptors, most likely. Some come back.
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

/// Passes on all that comes, and then its end.
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
