// SPDX-License-Identifier: MIT OR Apache-2.0
//! A server that has warmed up allocates nothing for a request.
//!
//! What is counted is the whole process, so each test has one for itself, and the client in it
//! allocates nothing either while there is counting: it has blocking sockets, and buffers of the
//! size that is needed. The counter is `stats_alloc`, the least that sees all threads: the
//! system's allocator behind a few counters, and no dependencies.

#[expect(
    dead_code,
    unused_imports,
    unused_macros,
    reason = "the behaviour tests use the rest"
)]
#[path = "support/support.rs"]
mod support;

use std::alloc::System;
use std::io::{Read, Write};
use std::net::TcpStream;

use netpoll::{BoxError, Connection, EventLoop};
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};

use support::{Server, alone, bytes, frame, rpc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// How many requests are counted.
const COUNTED: usize = 10_000;

/// How often they are. The first time, pools and queues grow to what is needed; later a read may
/// end within a frame where none did before, and take memory that the pool has from then on.
const TRIES: usize = 10;

#[test]
fn one_request_at_a_time_allocates_nothing() {
    alone("one_request_at_a_time_allocates_nothing", || {
        let server = Server::start_unobserved(EventLoop::builder().pollers(1).on_request(rpc));
        assert_eq!(Client::connect(&server, 1, 1, 128).allocations(), 0);
    });
}

#[test]
fn pipelined_requests_allocate_nothing() {
    alone("pipelined_requests_allocate_nothing", || {
        let server = Server::start_unobserved(EventLoop::builder().pollers(1).on_request(rpc));
        assert_eq!(Client::connect(&server, 1, 64, 128).allocations(), 0);
    });
}

#[test]
fn large_requests_allocate_nothing() {
    alone("large_requests_allocate_nothing", || {
        let server = Server::start_unobserved(EventLoop::builder().pollers(1).on_request(rpc));
        assert_eq!(Client::connect(&server, 1, 1, 64 << 10).allocations(), 0);
    });
}

#[test]
fn requests_over_many_connections_allocate_nothing() {
    alone("requests_over_many_connections_allocate_nothing", || {
        let server = Server::start_unobserved(EventLoop::builder().pollers(1).on_request(rpc));
        assert_eq!(Client::connect(&server, 16, 4, 128).allocations(), 0);
    });
}

#[test]
fn forwarded_frames_allocate_nothing() {
    alone("forwarded_frames_allocate_nothing", || {
        let server = Server::start_unobserved(EventLoop::builder().pollers(1).on_request(forward));
        assert_eq!(Client::connect(&server, 1, 1, 1024).allocations(), 0);
    });
}

#[test]
fn forwarded_pipelined_frames_allocate_nothing() {
    alone("forwarded_pipelined_frames_allocate_nothing", || {
        let server = Server::start_unobserved(EventLoop::builder().pollers(1).on_request(forward));
        assert_eq!(Client::connect(&server, 1, 64, 128).allocations(), 0);
    });
}

#[test]
fn forwarded_large_frames_allocate_nothing() {
    alone("forwarded_large_frames_allocate_nothing", || {
        let server = Server::start_unobserved(EventLoop::builder().pollers(1).on_request(forward));
        assert_eq!(Client::connect(&server, 1, 1, 64 << 10).allocations(), 0);
    });
}

#[test]
fn body_with_a_new_length_allocates_only_its_segment_queue() {
    alone(
        "body_with_a_new_length_allocates_only_its_segment_queue",
        || {
            let server =
                Server::start_unobserved(EventLoop::builder().pollers(1).on_request(reframe));
            // Two segments are a queue on the heap: its place, and what is in it.
            assert!(Client::connect(&server, 1, 1, 1024).allocations() <= 2 * COUNTED);
        },
    );
}

#[test]
fn handler_allocation_is_counted() {
    alone("handler_allocation_is_counted", || {
        let server = Server::start_unobserved(EventLoop::builder().pollers(1).on_request(copy));
        assert!(Client::connect(&server, 1, 1, 128).allocations() >= COUNTED);
    });
}

/// The frame as it is, its length included.
async fn forward(conn: &mut Connection) -> Result<(), BoxError> {
    let (mut reader, mut writer) = conn.split();
    let mut length = [0; 4];
    length.copy_from_slice(reader.peek(4).await?);
    let frame = reader.split_to(4 + u32::from_be_bytes(length) as usize);
    writer.append(frame.await?);
    Ok(())
}

/// The body as it is, behind a length of its own.
async fn reframe(conn: &mut Connection) -> Result<(), BoxError> {
    let (mut reader, mut writer) = conn.split();
    let length = reader.read_u32().await?;
    writer.put_u32(length);
    writer.append(reader.split_to(length as usize).await?);
    Ok(())
}

/// The body by way of a `Vec`: what the counter must see.
async fn copy(conn: &mut Connection) -> Result<(), BoxError> {
    let (mut reader, mut writer) = conn.split();
    let length = reader.read_u32().await?;
    let body = reader.read_vec(length as usize).await?;
    writer.put_u32(length);
    writer.put_slice(&body);
    Ok(())
}

/// How often memory was asked for so far, by whichever thread.
fn allocations() -> usize {
    let stats = ALLOCATOR.stats();
    stats.allocations + stats.reallocations
}

/// Sends the same to each of its connections, and waits for it to come back.
struct Client {
    connections: Vec<TcpStream>,
    /// How many requests it sends to a connection at once.
    depth: usize,
    requests: Vec<u8>,
    answers: Vec<u8>,
}

impl Client {
    fn connect(server: &Server, connections: usize, depth: usize, body: usize) -> Self {
        let requests = frame(&bytes(body, 7)).repeat(depth);
        Self {
            connections: (0..connections)
                .map(|_| TcpStream::from(server.connect().stream))
                .collect(),
            depth,
            answers: vec![0; requests.len()],
            requests,
        }
    }

    /// The fewest allocations in [`COUNTED`] requests, of [`TRIES`] or until there are none.
    fn allocations(&mut self) -> usize {
        let mut fewest = usize::MAX;
        for _ in 0..TRIES {
            let before = allocations();
            self.request(COUNTED);
            fewest = fewest.min(allocations() - before);
            if fewest == 0 {
                break;
            }
        }
        fewest
    }

    /// At least so many requests, each answered with itself.
    fn request(&mut self, requests: usize) {
        for _ in 0..requests.div_ceil(self.connections.len() * self.depth) {
            for connection in &mut self.connections {
                connection
                    .write_all(&self.requests)
                    .expect("a server that reads");
            }
            for connection in &mut self.connections {
                let answered = connection.read_exact(&mut self.answers);
                answered.expect("an answer in time");
                assert!(self.answers == self.requests, "the answer is the request");
            }
        }
    }
}
