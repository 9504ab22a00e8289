// SPDX-License-Identifier: MIT OR Apache-2.0
//! The spans and events that a `tracing` subscriber receives. The program has one subscriber, since
//! pollers are threads of their own; each test looks for the peer of its own connection.

#[expect(
    dead_code,
    unused_imports,
    unused_macros,
    reason = "the behaviour tests use the rest"
)]
#[path = "support/support.rs"]
mod support;

use std::cell::RefCell;
use std::fmt::{Debug, Write};
use std::sync::{Mutex, MutexGuard, OnceLock};
use std::time::Duration;

use netpoll::{Addr, BoxError, Connection, EventLoop, Listener, Runner};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

use support::{LIMIT, Peer, Server, bound, eventually};

/// The received events, one line each: the level, the span, and the fields.
static LINES: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// The fields of each span, indexed by its id minus one.
static SPANS: Mutex<Vec<String>> = Mutex::new(Vec::new());

thread_local! {
    static ENTERED: RefCell<Vec<u64>> = const { RefCell::new(Vec::new()) };
}

struct Seen;

/// Fields as text.
#[derive(Default)]
struct Text(String);

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        write!(self.0, " {}={value:?}", field.name()).expect("a string");
    }
}

fn locked<T>(mutex: &'static Mutex<T>) -> MutexGuard<'static, T> {
    mutex.lock().expect("no panic under it")
}

impl Subscriber for Seen {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target().starts_with("netpoll") || metadata.target().starts_with("tracing")
    }

    fn new_span(&self, span: &Attributes<'_>) -> Id {
        let mut text = Text::default();
        span.record(&mut text);
        let mut spans = locked(&SPANS);
        spans.push(format!("{}:{}", span.metadata().name(), text.0));
        Id::from_u64(spans.len() as u64)
    }

    fn record(&self, _span: &Id, _values: &Record<'_>) {}

    fn record_follows_from(&self, _span: &Id, _follows: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut text = Text::default();
        event.record(&mut text);
        let entered = || ENTERED.with_borrow(|entered| entered.last().copied());
        let parent = event.parent().map(Id::into_u64).or_else(entered);
        let within = parent.map_or(String::new(), |id| locked(&SPANS)[id as usize - 1].clone());
        let level = event.metadata().level();
        locked(&LINES).push(format!("{level} [{within}]{}", text.0));
    }

    fn enter(&self, span: &Id) {
        ENTERED.with_borrow_mut(|entered| entered.push(span.into_u64()));
    }

    fn exit(&self, span: &Id) {
        ENTERED.with_borrow_mut(|entered| {
            assert_eq!(entered.pop(), Some(span.into_u64()), "exits mirror enters");
        });
    }
}

/// Installs the subscriber.
fn watch() {
    static ONCE: OnceLock<()> = OnceLock::new();
    ONCE.get_or_init(|| tracing::subscriber::set_global_default(Seen).expect("the first"));
}

/// Returns the lines within the span of the connection from `peer`.
fn lines_of(peer: Addr) -> Vec<String> {
    let about = format!("peer={peer} ");
    let lines = locked(&LINES);
    lines
        .iter()
        .filter(|line| line.contains(&about))
        .cloned()
        .collect()
}

async fn logs(conn: &mut Connection) -> Result<(), BoxError> {
    let (mut reader, mut writer) = conn.split();
    let first = reader.read_u8().await?;
    tracing::info!(first, "the first half");
    let second = reader.read_u8().await?;
    tracing::info!(second, "the other half");
    writer.put_u8(second);
    Ok(())
}

/// The lines of a conversation of two bytes with `logs`, from the peer's address to ours.
fn expected(peer: Addr, local: Addr) -> [String; 4] {
    let span = format!("[connection: peer={peer} local={local}]");
    [
        format!("DEBUG {span} message=open"),
        format!("INFO {span} message=the first half first=1"),
        format!("INFO {span} message=the other half second=2"),
        format!("DEBUG {span} message=close reason=the peer ended its stream"),
    ]
}

fn converse(peer: &mut Peer) {
    peer.send(&[1]);
    eventually("the first event", || lines_of(peer.addr()).len() == 2);
    peer.send(&[2]);
    assert_eq!(peer.receive(1), [2]);
}

#[test]
fn handler_events_are_inside_the_span_of_their_connection() {
    watch();
    let server = Server::start_as_given(EventLoop::builder().pollers(1).on_request(logs));
    let mut peer = server.connect();
    let mut other = server.connect();
    converse(&mut peer);
    converse(&mut other);
    let addrs = [peer.addr(), other.addr()];
    drop((peer, other));
    server.ending();
    server.ending();
    for addr in addrs {
        assert_eq!(lines_of(addr), expected(addr, server.addr));
    }
}

#[test]
fn handler_events_are_inside_the_span_on_any_thread() {
    watch();
    let listener = Listener::bind("127.0.0.1:0").expect("a free port");
    let addr = bound(&listener);
    let builder = EventLoop::builder_on(Runner::Threads(2)).pollers(1);
    let builder = builder.on_request(logs).listen(listener);
    let running = builder.build().expect("a loop");
    let handle = running.handle();
    let thread = std::thread::spawn(move || running.run());
    let mut peer = Peer::connect(addr);
    let from = peer.addr();
    converse(&mut peer);
    drop(peer);
    eventually("a close", || handle.stats().closed.total() == 1);
    assert_eq!(handle.shutdown(LIMIT).wait(), 0);
    thread.join().expect("no panic").expect("a loop that ends");
    assert_eq!(lines_of(from), expected(from, addr));
}

#[test]
fn events_without_a_sink_are_logged_as_warnings() {
    watch();
    let builder = EventLoop::builder().pollers(1).on_request(logs);
    let server = Server::start_unobserved(builder.on_disconnect(|_, _| panic!("on_disconnect")));
    let mut peer = server.connect();
    // After a handler has returned, its span is exited.
    converse(&mut peer);
    let line = format!("WARN [] message=on_disconnect panicked ({})", peer.addr());
    drop(peer);
    eventually("a warning", || locked(&LINES).contains(&line));
}

#[test]
fn a_failed_connection_of_a_loop_without_a_sink_is_logged_as_a_warning() {
    watch();
    let failing = async |_: &mut Connection| Err(BoxError::from("no such user"));
    let builder = EventLoop::builder().pollers(1).on_request(failing);
    let server = Server::start_unobserved(builder);
    let mut peer = server.connect();
    peer.send(&[1]);
    assert_eq!(peer.receive_all().expect("an end"), b"");
    let about = format!(" no such user ({}); connection closed", peer.addr());
    eventually("a warning", || {
        let lines = locked(&LINES);
        let mut lines = lines.iter();
        lines.any(|line| {
            line.starts_with("WARN [] message=netpoll: handler failed") && line.contains(&about)
        })
    });
}

#[test]
fn events_with_a_sink_are_not_logged() {
    watch();
    let builder = EventLoop::builder()
        .pollers(1)
        .on_request(async |_: &mut Connection| Ok(()));
    let builder = builder
        .slow_handler(Duration::from_secs(9))
        .on_event(|_| {});
    let server = Server::start_unobserved(builder.on_disconnect(|_, _| panic!("on_disconnect")));
    let peer = server.connect();
    let about = peer.addr().to_string();
    drop(peer);
    eventually("the end", || {
        server.handle.stats().connections == 0 && server.handle.stats().closed.total() == 1
    });
    let warned = |line: &String| line.starts_with("WARN") && line.contains(&about);
    assert!(!locked(&LINES).iter().any(warned));
}
