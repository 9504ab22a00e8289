// SPDX-License-Identifier: MIT OR Apache-2.0
//! A network framework for RPC: a few pollers drive many connections, received bytes are stored in
//! linked, reference-counted blocks, and user code works with a [`Connection`] that has a
//! [`Reader`] and a [`Writer`].
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
//! The main types:
//!
//! | | |
//! |---|---|
//! | [`EventLoop`], [`Builder`], [`LoopHandle`] | serve listeners, shut down in order |
//! | [`Listener`], [`Dialer`], [`Addr`] | accepted and dialed connections, over TCP and Unix sockets |
//! | [`ConnPool`], [`Pooled`] | dialed connections that are reused and bounded |
//! | [`Connection`], [`Reader`], [`Writer`] | the interface of handlers |
//! | [`LinkBuffer`] | the buffer behind all of them |
//! | [`codec`], [`mux`], [`WriteQueue`] | frames, and many concurrent requests on one connection |
//! | [`BufStream`] | the same reader and writer over a file, a pipe or any blocking stream |
//! | [`ConnOptions`], [`Timeouts`], [`Budget`] | limits, each with a default |
//! | [`CloseReason`] | why a connection ended |
//! | [`spawn`] | runs a future on a poller |
//! | [`time`] | sleeps and timeouts, driven by the timers of a poller |
//! | [`LoopStats`], [`ConnStats`] | counters, always on |
//!
//! # Threads
//!
//! Each poller has one thread. Handlers run on the poller of their connection unless a [`Runner`]
//! places them elsewhere. A connection has one owner at a time, so the types that users see take no
//! locks. Every wait is a future that needs only a `Waker`. Dropping such a future loses no byte.
//!
//! # Features
//!
//! No feature is on by default.
//!
//! - `tokio`: adds [`Runner::tokio`](Runner::Spawn), and `Builder::enter_tokio` for handlers that
//!   await tokio's timers and sockets.
//! - `metrics`: adds `LoopStats::record`, which passes every count to a recorder of the `metrics`
//!   crate.
//! - `tower`: implements `tower_service::Service` for [`mux::Client`].
//! - `tracing`: opens a span for each connection, entered around its handler, and logs the events
//!   that no [`Builder::on_event`] sink receives.
//!
//! # Platforms
//!
//! Linux. The pollers use `epoll`.

#![forbid(unsafe_code)]
// docs.rs builds with a nightly toolchain: there, each item names the feature that it needs.
#![cfg_attr(docsrs, feature(doc_cfg))]
// The unit tests call any waker they like.
#![cfg_attr(not(test), warn(clippy::disallowed_methods))]

mod active_timeouts;
mod addr;
mod admission;
mod block_on;
mod budget;
pub mod codec;
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

/// Compiles the program of the README.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

/// The code of the guide compiles and runs.
#[cfg(doctest)]
mod guide {
    #[doc = include_str!("../docs/guide/getting-started.md")]
    struct GettingStarted;

    #[doc = include_str!("../docs/guide/handlers.md")]
    struct Handlers;

    #[doc = include_str!("../docs/guide/reading-and-writing.md")]
    struct ReadingAndWriting;

    #[doc = include_str!("../docs/guide/clients.md")]
    struct Clients;

    #[doc = include_str!("../docs/guide/timeouts-and-limits.md")]
    struct TimeoutsAndLimits;

    #[doc = include_str!("../docs/guide/shutdown-and-restart.md")]
    struct ShutdownAndRestart;

    #[doc = include_str!("../docs/guide/observability.md")]
    struct Observability;

    #[doc = include_str!("../docs/guide/from-go-netpoll.md")]
    struct FromGoNetpoll;

    #[cfg(feature = "tokio")]
    #[doc = include_str!("../docs/guide/from-tokio.md")]
    struct FromTokio;
}

// The public interface:
pub use addr::{Addr, InvalidUnixName, ParseAddrError, ToAddrs, UnixAddr};
pub use admission::AcceptStats;
pub use budget::Budget;
pub use connection::Connection;
pub use connection::attachment::NotAttached;
pub use connection::blocking_stream::BlockingStream;
pub use connection::framed::Framed;
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
