// SPDX-License-Identifier: MIT OR Apache-2.0
//! Handlers of a mux server that know their connection, pushes, and answers that are errors.

#[path = "mux_api/handlers.rs"]
mod handlers;
#[path = "mux_api/pushes.rs"]
mod pushes;
#[allow(dead_code, reason = "other test programs use the rest")]
#[path = "support/waiting.rs"]
mod waiting;

use std::future::Future;
use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::task::{Context, Waker};
use std::thread::JoinHandle;
use std::time::Duration;

use netpoll::buffer::LinkBuffer;
use netpoll::codec::{Codec, LengthField, Need};
use netpoll::error::ErrorKind as NetpollKind;
use netpoll::event_loop::HandlerKind;
use netpoll::mux::{self, CallCodec, Client, ClientOptions, Message, Numbered, Server};
use netpoll::options::ConnOptions;
use netpoll::runner::Spawn;
use netpoll::time::sleep;
use netpoll::{
    Addr, BoxError, Builder, CloseReason, Connection, Dialer, ErrorExt, EventLoop, Listener,
    LoopHandle, Runner,
};

use waiting::{block_on, eventually};

type ServerConnection<S = ()> = mux::ServerConnection<Message, S>;
type Frames = Numbered<LengthField>;

/// After this time a wait fails its test. No test passes because of it.
const LIMIT: Duration = Duration::from_secs(60);

fn codec() -> Frames {
    Numbered::new(LengthField::new())
}

fn text(message: Message) -> String {
    let mut body = message.body;
    let length = body.len();
    body.read_string(length).expect("text")
}

/// A loop on a thread of its own.
struct Running {
    addr: Addr,
    handle: LoopHandle,
    thread: Option<JoinHandle<()>>,
}

impl Running {
    fn start<K: HandlerKind>(builder: Builder<K>) -> Self {
        Self::start_on(Listener::bind("127.0.0.1:0").expect("a free port"), builder)
    }

    fn start_on<K: HandlerKind>(listener: Listener, builder: Builder<K>) -> Self {
        let addr = listener.local_addr().expect("an address");
        let server = builder
            .pollers(1)
            .listen(listener)
            .build()
            .expect("valid options");
        let handle = server.handle();
        let thread = std::thread::spawn(move || server.run().expect("a loop"));
        Self {
            addr,
            handle,
            thread: Some(thread),
        }
    }

    fn client(&self) -> Client<Frames> {
        Client::dialing(Dialer::new(), self.addr, codec(), ClientOptions::default())
            .expect("valid options")
    }

    /// Returns a client and the texts of its pushes, each with its id.
    fn subscriber(&self) -> (Client<Frames>, Receiver<(u64, String)>) {
        let (pushed, pushes) = channel();
        let client = Client::builder(codec())
            .on_push(move |message: Message| drop(pushed.send((message.id, text(message)))))
            .dialing(Dialer::new(), self.addr)
            .expect("valid options");
        (client, pushes)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        block_on(self.handle.shutdown(Duration::ZERO));
        let ended = self.thread.take().map(JoinHandle::join);
        assert!(ended.is_some_and(|ended| ended.is_ok()) || std::thread::panicking());
    }
}

fn call(client: &Client<Frames>, body: &str) -> io::Result<String> {
    block_on(client.call(Message::new(body.as_bytes()))).map(text)
}

/// Answers `request` with `body`.
fn reply(request: &Message, body: String) -> Result<Message, BoxError> {
    Ok(Message::of(request.id, body.into_bytes().into()))
}

/// Runs each task on a thread of its own.
struct Threads;

impl Spawn for Threads {
    fn spawn(&self, task: Pin<Box<dyn Future<Output = ()> + Send>>) {
        std::thread::spawn(move || block_on(task));
    }
}

/// Bodies that start with `!` are the texts of errors.
struct WithErrors(Frames);

impl Codec for WithErrors {
    type Frame = Message;

    fn measure(&self, input: &LinkBuffer) -> io::Result<Need> {
        self.0.measure(input)
    }

    fn decode(&self, bytes: LinkBuffer) -> io::Result<Message> {
        self.0.decode(bytes)
    }

    fn encode(&self, message: Message, output: &mut LinkBuffer) -> io::Result<()> {
        self.0.encode(message, output)
    }
}

impl CallCodec for WithErrors {
    fn id(&self, message: &Message) -> u64 {
        message.id
    }

    fn set_id(&self, message: &mut Message, id: u64) {
        message.id = id;
    }

    fn error_answer(&self, id: u64, error: &BoxError) -> Option<Message> {
        let text = error.to_string();
        let answer = Message::of(id, format!("!{text}").into_bytes().into());
        (text != "fatal").then_some(answer)
    }
}
