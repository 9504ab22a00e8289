// SPDX-License-Identifier: MIT OR Apache-2.0
//! Multiplexing: many concurrent requests on one connection.
//!
//! On the client's side, a [`Client`] sends the calls of any number of tasks through the
//! connection's [`WriteQueue`], and matches the answers, which may arrive in any order, by id. On
//! the server's side, [`serve`] runs each request as a task of its own and sends each answer once
//! it is ready. A [`Codec`] defines the framing. A codec whose frames have ids is a [`CallCodec`];
//! [`Numbered`] makes one of any other codec.
//!
//! | for | use |
//! |---|---|
//! | a handler that needs its request only | [`serve`] |
//! | a handler that knows its connection: the peer, its state, a way to push | [`serve_with`], [`Server`] |
//! | requests that compute or block | [`serve_on`], [`Server::serve_on`] |
//! | calls | [`Client::new`], [`Client::dialing`] |
//! | calls, and messages that the server sends without a call | [`Client::builder`] |
//!
//! ```
//! use netpoll::codec::LengthField;
//! use netpoll::mux::{self, Client, Message, Numbered};
//! use netpoll::{Dialer, EventLoop, Listener};
//!
//! # async fn example() -> std::io::Result<()> {
//! let listener = Listener::bind("127.0.0.1:0")?;
//! let addr = listener.local_addr()?;
//! let server = EventLoop::builder()
//!     .on_connection(mux::serve(Numbered::new(LengthField::new()), async |request: Message| {
//!         Ok(request) // its id is the answer's
//!     }))
//!     .listen(listener)
//!     .build()?;
//! # let handle = server.handle();
//! let thread = std::thread::spawn(move || server.run());
//!
//! let conn = Dialer::new().dial(addr).await?;
//! let client = Client::new(conn, Numbered::new(LengthField::new()));
//! let answer = client.call(Message::new(b"hello")).await?;
//! assert_eq!(answer.body.len(), 5);
//! # drop(client);
//! # handle.shutdown(std::time::Duration::from_secs(1)).await;
//! # thread.join().unwrap()
//! # }
//! # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(example()).unwrap();
//! ```
//!
//! # Messages without a call
//!
//! A server pushes through the [`ServerConnection`] of a handler, also after the handler has
//! returned. A push has an id of its own, [`CallCodec::push_id`], so a client does not take it for
//! an answer. Every other message without a call is a late or duplicate answer: a client drops and
//! [counts](ClientStats::unmatched_answers) it.
//!
//! ```
//! use netpoll::codec::LengthField;
//! use netpoll::mux::{self, Client, Message, Numbered, ServerConnection};
//! use netpoll::{Dialer, EventLoop, Listener};
//!
//! # async fn example() -> std::io::Result<()> {
//! let codec = || Numbered::new(LengthField::new());
//! let subscribe = async |request: Message, conn: &ServerConnection<Message>| {
//!     conn.push(Message::new(b"news")).await?;
//!     Ok(request)
//! };
//! let listener = Listener::bind("127.0.0.1:0")?;
//! let addr = listener.local_addr()?;
//! let server = EventLoop::builder()
//!     .on_connection(mux::serve_with(codec(), subscribe))
//!     .listen(listener)
//!     .build()?;
//! # let handle = server.handle();
//! let thread = std::thread::spawn(move || server.run());
//!
//! let (pushed, pushes) = std::sync::mpsc::channel();
//! let client = Client::builder(codec())
//!     .on_push(move |message: Message| drop(pushed.send(message.body.len())))
//!     .dialing(Dialer::new(), addr)?;
//! client.call(Message::new(b"subscribe")).await?;
//! assert_eq!(pushes.recv(), Ok(4));
//! # drop(client);
//! # handle.shutdown(std::time::Duration::from_secs(1)).await;
//! # thread.join().unwrap()
//! # }
//! # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(example()).unwrap();
//! ```

mod call_table;
mod client;
mod client_builder;
mod client_connection;
mod client_stats;
mod connector;
mod executor_server;
mod message;
mod options;
mod request_drain;
mod server;
mod server_builder;
mod server_connection;
mod unsent_request;

pub use crate::codec::{Codec, Need};
pub use crate::connection::write_queue::{SendError, WriteQueue};
pub use client::Client;
pub use client_builder::ClientBuilder;
pub use client_stats::ClientStats;
pub use executor_server::serve_on;
pub use message::{CallCodec, Message, Numbered};
pub use options::{Backoff, ClientOptions};
pub use server::{serve, serve_within};
pub use server_builder::{Server, serve_with};
pub use server_connection::ServerConnection;
