// SPDX-License-Identifier: MIT OR Apache-2.0
//! A network framework for RPC on Linux: a few pollers drive many connections, received bytes are
//! stored in linked, reference-counted blocks, and handlers read and write without copies.
//!
//! A server:
//!
//! ```no_run
//! use netpoll::{Connection, EventLoop};
//!
//! fn main() -> std::io::Result<()> {
//!     EventLoop::builder()
//!         .on_request(async |conn: &mut Connection| {
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
//! A client:
//!
//! ```no_run
//! # async fn example() -> std::io::Result<()> {
//! let mut conn = netpoll::Dialer::new().dial("127.0.0.1:8080").await?;
//! let (mut reader, mut writer) = conn.split();
//! writer.put_u32(5);
//! writer.put_str("hello");
//! writer.flush().await?;
//! let len = reader.read_u32().await?;
//! println!("{:?}", reader.next(len as usize).await?);
//! # Ok(()) }
//! ```
//!
//! # Modules
//!
//! The root exports the names that a first server and a first client write: the types to serve and
//! to dial, the connection and its two sides, and the types in the signatures of handlers. All else
//! is in the module of its subject.
//!
//! | module | contents |
//! |---|---|
//! | [`event_loop`] | serving: builder, handle, shutdown, balance of connections over pollers |
//! | [`listener`], [`dialer`], [`addr`] | accepted and dialed connections, over TCP and Unix sockets |
//! | [`connection`] | owned halves, handles for other threads, [`WriteQueue`](connection::WriteQueue) |
//! | [`buffer`] | [`LinkBuffer`](buffer::LinkBuffer), and the same reader over any blocking stream |
//! | [`codec`], [`mux`] | frames, and many concurrent requests on one connection |
//! | [`pool`] | dialed connections that are reused and bounded |
//! | [`runner`], [`task`] | handlers on threads or executors, and futures on pollers |
//! | [`time`] | sleeps and timeouts, driven by the timers of a poller |
//! | [`options`], [`tcp`] | limits of size, memory and time, each with a default; socket options |
//! | [`error`] | one enum for all errors, and why a connection ended |
//! | [`stats`], [`event`] | counters, always on, and events that are worth a line in a log |
//!
//! # Threads
//!
//! Each poller has one thread. Handlers run on the poller of their connection unless the builder
//! places them [elsewhere](runner). A connection has one owner at a time, so the types that users see
//! take no locks. Every wait is a future that needs only a `Waker`. Dropping such a future loses no byte.
//!
//! # Features
//!
//! No feature is on by default.
//!
//! | feature | adds |
//! |---|---|
//! | `tokio` | tokio's `AsyncRead`, `AsyncBufRead` and `AsyncWrite` for connections and their halves; [`Runner::tokio`](Runner::Spawn), and `Builder::enter_tokio` for handlers that await tokio's timers and sockets |
//! | `futures-io` | the same three traits of `futures-io`, which the futures crates use |
//! | `hyper` | `hyper::rt::{Read, Write}` for connections and their halves; `netpoll::hyper`: its timer and executors on pollers |
//! | `metrics` | `LoopStats::record`, which passes every count to a recorder of the `metrics` crate |
//! | `signals` | `Builder::shutdown_on_signals`, which drains the loop on SIGTERM and SIGINT |
//! | `tower` | `tower_service::Service` for [`mux::Client`] |
//! | `tracing` | a span for each connection, entered around its handler, and log lines for the events that no [`Builder::on_event`] sink receives |
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
pub mod addr;
mod admission;
mod block_on;
mod budget;
pub mod buffer;
pub mod codec;
mod compat;
pub mod connection;
pub mod dialer;
pub mod error;
pub mod event;
pub mod event_loop;
mod fairness;
mod foreign;
mod guard;
pub mod listener;
#[cfg(all(test, any(netpoll_loom, netpoll_shuttle)))]
mod models;
pub mod mux;
pub mod options;
mod per_thread;
mod poll;
pub mod pool;
pub mod runner;
mod semaphore;
pub mod stats;
mod sync;
pub mod task;
pub mod tcp;
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

pub use addr::Addr;
#[cfg(feature = "hyper")]
pub use compat::hyper;
pub use connection::{Connection, Reader, Writer};
pub use dialer::Dialer;
pub use error::{BoxError, CloseReason, ErrorExt};
pub use event_loop::{Builder, EventLoop, Handler, LoopHandle, Shutdown};
pub use listener::Listener;
pub use runner::Runner;
pub use task::spawn;
