// SPDX-License-Identifier: MIT OR Apache-2.0
//! A warmed-up server allocates nothing for a request.
//!
//! The counter counts the whole process. So each test runs in a process of its own, and its client,
//! which has blocking sockets and buffers of the right size, does not allocate while the counter
//! runs. The counter is `stats_alloc`, the smallest crate that counts all threads: the system's
//! allocator behind a few counters, without dependencies.

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

/// The number of counted requests.
const COUNTED: usize = 10_000;

/// The number of tries. In the first, pools and queues grow to their size. Later a read may end
/// within a frame for the first time, and take memory that the pool has from then on.
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
            // Two segments need a queue on the heap: the queue itself and its contents.
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

/// Answers with the same frame, its length included.
async fn forward(conn: &mut Connection) -> Result<(), BoxError> {
    let (mut reader, mut writer) = conn.split();
    let mut length = [0; 4];
    length.copy_from_slice(reader.peek(4).await?);
    let frame = reader.split_to(4 + u32::from_be_bytes(length) as usize);
    writer.append(frame.await?);
    Ok(())
}

/// Answers with the same body behind a new length.
async fn reframe(conn: &mut Connection) -> Result<(), BoxError> {
    let (mut reader, mut writer) = conn.split();
    let length = reader.read_u32().await?;
    writer.put_u32(length);
    writer.append(reader.split_to(length as usize).await?);
    Ok(())
}

/// Copies the body into a `Vec`, which the counter must count.
async fn copy(conn: &mut Connection) -> Result<(), BoxError> {
    let (mut reader, mut writer) = conn.split();
    let length = reader.read_u32().await?;
    let body = reader.read_vec(length as usize).await?;
    writer.put_u32(length);
    writer.put_slice(&body);
    Ok(())
}

/// Returns the number of allocations so far, on all threads.
fn allocations() -> usize {
    let stats = ALLOCATOR.stats();
    stats.allocations + stats.reallocations
}

/// Sends the same bytes over each of its connections, and waits for the answers.
struct Client {
    connections: Vec<TcpStream>,
    /// The requests that it sends over a connection at once.
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

    /// Returns the fewest allocations in [`COUNTED`] requests over [`TRIES`] tries; stops at zero.
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

    /// Sends at least this many requests and checks that each answer is the request.
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
