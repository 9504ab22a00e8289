// SPDX-License-Identifier: MIT OR Apache-2.0
//! The client of a run. It speaks `rpc`: a 4-byte length and that many bytes, and the same back. It
//! waits for the server to listen, does the run, and ends the server with its shutdown signal. The
//! server's count depends on nothing but the client's actions and their order.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddrV4, TcpStream};
use std::process::Command;
use std::time::{Duration, Instant};

use crate::run::{Connections, Run};

/// Does `run` and then ends the server.
///
/// # Errors
///
/// No server within the time limit, a response that differs from its request, or a socket error.
pub fn drive(run: &Run) -> io::Result<()> {
    let first = connect_in_time(run.addr());
    let driven = first.and_then(|first| requests(run, first));
    // A server that failed its client is ended, too.
    let ended = end_server(run.addr());
    driven.and(ended)
}

fn requests(run: &Run, first: TcpStream) -> io::Result<()> {
    let mut batch = Batch::of(run);
    match run.over {
        Connections::InTurn(count) => {
            let others = (1..count).map(|_| connect(run.addr()));
            let mut streams = vec![first];
            streams.extend(others.collect::<io::Result<Vec<_>>>()?);
            for turn in 0..run.batches {
                batch.ask(&mut streams[turn % count])?;
            }
            streams.into_iter().try_for_each(end)
        }
        Connections::EachItsOwn => {
            let mut next = Some(first);
            for _ in 0..run.batches {
                let mut stream = next.take().map_or_else(|| connect(run.addr()), Ok)?;
                batch.ask(&mut stream)?;
                end(stream)?;
            }
            Ok(())
        }
    }
}

/// The bytes to send at once, and a buffer for the response.
struct Batch {
    requests: Vec<u8>,
    answers: Vec<u8>,
}

impl Batch {
    fn of(run: &Run) -> Self {
        let body = (0..run.size).map(|index| index as u8);
        let length = (run.size as u32).to_be_bytes();
        let frame: Vec<u8> = length.into_iter().chain(body).collect();
        let requests = frame.repeat(run.depth);
        Self {
            answers: vec![0; requests.len()],
            requests,
        }
    }

    fn ask(&mut self, stream: &mut TcpStream) -> io::Result<()> {
        stream.write_all(&self.requests)?;
        self.answers.fill(0);
        stream.read_exact(&mut self.answers)?;
        if self.answers == self.requests {
            return Ok(());
        }
        Err(io::Error::other("an answer is not what was sent"))
    }
}

fn connect(addr: SocketAddrV4) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(addr)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    Ok(stream)
}

/// Connects to a server that may not listen yet.
fn connect_in_time(addr: SocketAddrV4) -> io::Result<TcpStream> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match connect(addr) {
            Err(error) if Instant::now() < deadline => {
                if error.kind() != io::ErrorKind::ConnectionRefused {
                    return Err(error);
                }
                std::thread::sleep(Duration::from_millis(10));
            }
            done => return done,
        }
    }
}

/// Closes gracefully: our side first, then the server's.
fn end(mut stream: TcpStream) -> io::Result<()> {
    stream.shutdown(Shutdown::Write)?;
    match stream.read(&mut [0])? {
        0 => Ok(()),
        _ => Err(io::Error::other("received a response without a request")),
    }
}

/// Ends the process that listens on `addr`. It is found by its command line: the runner started it,
/// so its process id is not known here.
fn end_server(addr: SocketAddrV4) -> io::Result<()> {
    let addr = addr.to_string();
    for entry in std::fs::read_dir("/proc")? {
        let entry = entry?;
        // A process may be gone by now, and an entry that is no process has no command line.
        let command = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let mut words = command.split(|byte| *byte == 0);
        if words.any(|word| word == addr.as_bytes()) {
            let pid = entry.file_name();
            // The shell's builtin: there may be no such program.
            let mut kill = Command::new("sh");
            kill.args(["-c", "kill -TERM $0"]).arg(pid);
            return match kill.status()?.success() {
                true => Ok(()),
                false => Err(io::Error::other("the server could not be ended")),
            };
        }
    }
    Err(io::Error::other("the server is gone already"))
}

/// Longer than a server needs to start on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);
