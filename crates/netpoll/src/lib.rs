// SPDX-License-Identifier: MIT OR Apache-2.0
//! A network framework for RPC: a few pollers drive many connections, bytes land in chains of
//! counted blocks, and user code sees a [`Connection`] with a [`Reader`] and a [`Writer`].
//!
//! ```no_run
//! fn main() -> std::io::Result<()> {
//!     netpoll::EventLoop::builder()
//!         .on_request(async |conn: &mut netpoll::Connection| {
//!             let (mut reader, mut writer) = conn.split();
//!             let len = reader.read_u32().await?;
//!             let body = reader.next(len as usize).await?;
//!             writer.put_slices(&[&len.to_be_bytes(), body]);
//!             Ok(())
//!         })
//!         .serve("127.0.0.1:8080")
//! }
//! ```
//!
//! What there is, and where it is made:
//!
//! | | |
//! |---|---|
//! | [`EventLoop`], [`Builder`], [`LoopHandle`] | serve listeners, shut down in order |
//! | [`Listener`], [`Dialer`], [`Addr`] | connections of others, connections to others, over TCP and Unix sockets |
//! | [`ConnPool`], [`Pooled`] | connections to others that are used again, and bounded |
//! | [`Connection`], [`Reader`], [`Writer`] | what handlers work with |
//! | [`LinkBuffer`] | the memory of it all |
//! | [`codec`] | how frames lie in a stream |
//! | [`BufStream`] | the same reading and writing over a file, a pipe, any blocking stream |
//! | [`ConnOptions`], [`Timeouts`], [`Budget`] | the bounds, each with a default |
//! | [`CloseReason`] | how a connection ended |
//! | [`codec`], [`mux`], [`WriteQueue`] | frames, and many requests at once on one connection |
//! | [`spawn`] | futures that a poller runs |
//! | [`time`] | sleeping and giving up, with the timers of a poller |
//! | [`LoopStats`], [`ConnStats`] | what has been done so far, counted always |
//!
//! # Threads
//!
//! One thread per poller; handlers run on their connection's poller unless they are told to run
//! elsewhere ([`Runner`]). A connection has one owner at a time, so nothing a user sees is locked.
//! Every wait is a future that needs nothing but a `Waker`, and no byte is lost by dropping one.
//!
//! # Features
//!
//! `tokio`: [`Runner::tokio`](Runner::Spawn), and `Builder::enter_tokio` for handlers that await
//! what is tokio's. `metrics`: [`LoopStats`] has a method `record`, which gives every count to a
//! recorder of the `metrics` crate. `tower`: [`mux::Client`] is a `tower_service::Service`. `tracing`: a span for each connection, entered around its
//! handler, and the events that [`Builder::on_event`] has not taken. None is on by default.
//!
//! # Platforms
//!
//! Linux. The kernel is reached through `epoll`.

#![forbid(unsafe_code)]
// Its tests wake what they like.
#![cfg_attr(not(test), warn(clippy::disallowed_methods))]

mod active_timeouts;
mod addr;
mod admission;
mod block_on;
mod budget;
pub mod codec;
#[cfg(any(feature = "metrics", feature = "tokio", feature = "tower"))]
mod compat;
mod connection;
mod dialer;
mod error;
mod event;
mod event_loop;
mod fairness;
mod foreign;
mod guard;
mod listener;
#[cfg(all(test, any(netpoll_loom, netpoll_shuttle)))]
mod models;
pub mod mux;
mod options;
mod per_thread;
mod poll;
mod pool;
mod runner;
mod semaphore;
mod stats;
mod sync;
mod task;
mod thread_hook;
pub mod time;
mod timeouts;
mod timestamp;
mod trace;
mod tracker;

/// The README's program compiles.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

/// What the page for newcomers from Go shows runs.
#[cfg(doctest)]
#[doc = include_str!("../docs/from-go-netpoll.md")]
struct FromGoNetpoll;

// The public interface is:
pub use addr::{Addr, InvalidUnixName, ParseAddrError, ToAddrs, UnixAddr};
pub use admission::AcceptStats;
pub use budget::Budget;
pub use connection::Connection;
pub use connection::attachment::NotAttached;
pub use connection::blocking_stream::BlockingStream;
pub use connection::halves::{OwnedReader, OwnedWriter};
pub use connection::handle::ConnectionHandle;
pub use connection::handler::{Handler, HandlerFn};
pub use connection::liveness::Liveness;
pub use connection::reader::Reader;
pub use connection::write_queue::{SendError, WriteQueue};
pub use connection::writer::Writer;
pub use dialer::Dialer;
pub use dialer::resolver::{Resolve, ResolverStalled, Resolving};
pub use dialer::target::ToTarget;
pub use error::{
    BlockingOnPoller, BoxError, CloseReason, Closed, InvalidConfig, Limit, NoAddress,
    NotEnoughData, NotRunning, OutOfRange, TimedOut, Timeout, TooLarge, UnexpectedEof,
    WriteAfterShutdown, WriteOverrun,
};
pub use event::{AcceptPauseReason, Callback, CallbackLocation, Event, MemoryLimit, PollerFailure};
pub use event_loop::builder::Builder;
pub use event_loop::control::Shutdown;
pub use event_loop::{EventLoop, LoopHandle};
pub use listener::Listener;
pub use listener::filter::{Accept, ConnInfo};
pub use listener::unix_path::{PathTaken, TakenBy};
pub use netpoll_buffer::{BufStream, LinkBuffer, Pool, PoolStats, Reservation, StreamReader};
pub use netpoll_sys::options::Keepalive;
pub use netpoll_sys::socket::{Ipv6Mode, ListenOptions};
pub use netpoll_sys::{PeerCredentials, TcpInfo, TcpState};
pub use options::ConnOptions;
pub use poll::balance::{Balance, PollerLoad};
pub use pool::{
    ConnPool, ConnPoolOptions, ConnPoolStats, DiscardedStats, PoolClosed, PoolFull, PoolTimedOut,
    Pooled,
};
pub use runner::{Runner, Spawn};
pub use stats::{ClosedStats, ConnStats, LoopStats, PollerStats};
pub use task::{JoinHandle, spawn};
pub use timeouts::{MinRate, Timeouts};
