// SPDX-License-Identifier: MIT OR Apache-2.0
//! Servers, peers and waits that the behaviour tests share.

#[path = "any_builder.rs"]
mod any_builder;
#[path = "executors.rs"]
mod executors;
#[path = "hosts.rs"]
mod hosts;
#[path = "lateness.rs"]
mod lateness;
#[path = "ledger.rs"]
mod ledger;
#[path = "peer.rs"]
mod peer;
#[path = "process.rs"]
mod process;
#[macro_use]
#[path = "serving.rs"]
mod serving;
#[path = "setting.rs"]
pub(crate) mod setting;
#[path = "tokio_here.rs"]
pub(crate) mod tokio_here;
#[path = "waiting.rs"]
mod waiting;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use netpoll::{Addr, BoxError, CloseReason, Connection, Listener, LoopHandle};

use netpoll::error::{ErrorExt, ErrorKind};

use ledger::Ledger;

pub(crate) use any_builder::{AnyBuilder, builder, local_builder};
pub(crate) use executors::{
    in_each_executor, on_a_poller, poll_times, polled, with_a_peer_in_each_executor,
};
pub(crate) use hosts::{Host, Says, Silent, says, unused_addr, unused_port};
pub(crate) use lateness::retry_if_late;
pub(crate) use peer::{Peer, pair, pair_with};
pub(crate) use process::{
    Apart, alone, alone_twice, alone_twice_with, data_segment, open_descriptors,
};
pub(crate) use serving::{AsGiven, Greeted, GreetedWhole, Protocol, Whole, handling};
pub(crate) use setting::{Kind, Runs, THREADS, kind, runs};
pub(crate) use waiting::{Gate, all, block_on, eventually, poll_once, until};

/// The time after which a wait fails its test.
pub(crate) const LIMIT: Duration = Duration::from_secs(60);

/// A loop that runs on a thread of its own until it is dropped.
pub(crate) struct Server {
    pub(crate) addr: Addr,
    pub(crate) handle: LoopHandle,
    /// The peers and reasons of closed connections, in order.
    pub(crate) endings: Receiver<(Addr, CloseReason)>,
    ledger: Arc<Ledger>,
    memory: Memory,
    thread: Option<JoinHandle<()>>,
}

/// Whether a loop's memory is free when the loop has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Memory {
    /// All of it is back in its pool.
    Home,
    /// The test keeps connections or tasks that hold some.
    Kept,
}

impl Server {
    /// Serves what `builder` describes on a free address.
    pub(crate) fn start(builder: AnyBuilder, protocol: impl Protocol) -> Self {
        Self::start_on(free_listener(), builder, protocol)
    }

    /// Serves what `builder` describes on `listener`.
    pub(crate) fn start_on(
        listener: Listener,
        builder: AnyBuilder,
        protocol: impl Protocol,
    ) -> Self {
        let (observer, endings) = close_observer();
        Self::watched(listener, builder, protocol, observer, endings)
    }

    /// As [`start`](Self::start), with an observer of the test: `endings` stays empty.
    pub(crate) fn start_observed(
        builder: AnyBuilder,
        protocol: impl Protocol,
        observer: impl Fn(&mut Connection, &CloseReason) + Send + Sync + 'static,
    ) -> Self {
        Self::watched(free_listener(), builder, protocol, observer, channel().1)
    }

    /// As [`start`](Self::start), with the handlers and the runner that `builder` has.
    pub(crate) fn start_as_given(builder: impl Into<AnyBuilder>) -> Self {
        let (observer, endings) = close_observer();
        Self::watched(free_listener(), builder.into(), AsGiven, observer, endings)
    }

    /// Serves what `builder` describes and records nothing.
    pub(crate) fn start_unobserved(builder: impl Into<AnyBuilder>) -> Self {
        Self::run(free_listener(), builder.into(), Arc::default(), channel().1)
    }

    fn watched(
        listener: Listener,
        builder: AnyBuilder,
        protocol: impl Protocol,
        observer: impl Fn(&mut Connection, &CloseReason) + Send + Sync + 'static,
        endings: Receiver<(Addr, CloseReason)>,
    ) -> Self {
        let ledger = Arc::<Ledger>::default();
        let entries = Arc::clone(&ledger);
        let builder = protocol.give(builder, &ledger);
        let builder = builder.on_disconnect(move |connection, reason| {
            entries.end(connection);
            observer(connection, reason);
        });
        Self::run(listener, builder, ledger, endings)
    }

    fn run(
        listener: Listener,
        builder: AnyBuilder,
        ledger: Arc<Ledger>,
        endings: Receiver<(Addr, CloseReason)>,
    ) -> Self {
        let addr = bound(&listener);
        let running = builder.listen(listener).build().expect("a loop");
        let handle = running.handle();
        let thread = std::thread::spawn(move || running.run().expect("a loop that runs"));
        Self {
            addr,
            handle,
            endings,
            ledger,
            memory: Memory::Home,
            thread: Some(thread),
        }
    }

    /// Serves the rpc protocol with one poller.
    pub(crate) fn rpc() -> Self {
        Self::start(builder().pollers(1), rpc)
    }

    /// Allows the test to keep memory of the loop after its end.
    pub(crate) fn of_which_some_is_kept(mut self) -> Self {
        self.memory = Memory::Kept;
        self
    }

    /// Connects a peer.
    pub(crate) fn connect(&self) -> Peer {
        Peer::connect(self.addr)
    }

    /// Returns the reason of the next close.
    pub(crate) fn ending(&self) -> CloseReason {
        self.endings
            .recv_timeout(LIMIT)
            .expect("a connection that ends")
            .1
    }

    /// Takes the receiver of the close reasons, for use after the server is gone.
    pub(crate) fn take_endings(&mut self) -> Receiver<(Addr, CloseReason)> {
        std::mem::replace(&mut self.endings, channel().1)
    }

    /// Shuts down, and returns how many connections were aborted.
    pub(crate) fn shut_down(mut self, within: Duration) -> usize {
        let aborted = self.handle.shutdown(within).wait();
        self.join();
        aborted
    }

    fn join(&mut self) {
        if let Some(thread) = self.thread.take() {
            thread.join().expect("a loop that ends");
            assert_eq!(self.handle.connections(), 0, "after the end of their loop");
            if self.memory == Memory::Home {
                // Tasks of an executor may continue for a moment after their loop.
                let budget = self.handle.budget();
                eventually("every block in its pool", || budget.stats().in_use == 0);
            }
            self.ledger.close();
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.handle.shutdown(Duration::from_millis(100)));
        if !std::thread::panicking() {
            self.join();
        }
    }
}

/// Returns an observer of closes, and the receiver of what it reports.
fn close_observer() -> (
    impl Fn(&mut Connection, &CloseReason) + Send + Sync,
    Receiver<(Addr, CloseReason)>,
) {
    let (ended, endings) = channel();
    let observer = move |connection: &mut Connection, reason: &CloseReason| {
        // A test that has ended has dropped the receiver.
        let _seen = ended.send((connection.peer_addr(), reason.clone())).is_ok();
    };
    (observer, endings)
}

/// Returns a listener on a free address: a loopback port, or a path.
pub(crate) fn free_listener() -> Listener {
    match kind() {
        Kind::Tcp => Listener::bind("127.0.0.1:0").expect("a free port"),
        Kind::Unix => Listener::unix(free_path()).expect("a free path"),
    }
}

/// As [`free_listener`], for a listener that will be passed on: a name without a file.
pub(crate) fn passing_listener() -> Listener {
    match kind() {
        Kind::Tcp => free_listener(),
        Kind::Unix => Listener::abstract_name(free_name()).expect("a free name"),
    }
}

/// Returns an unused path.
pub(crate) fn free_path() -> PathBuf {
    std::env::temp_dir().join(format!("{}.sock", free_name()))
}

/// A directory that is removed at the end of its test, with its contents.
pub(crate) struct Folder(PathBuf);

impl Folder {
    pub(crate) fn new() -> Self {
        let path = std::env::temp_dir().join(free_name());
        std::fs::create_dir(&path).expect("a folder of our own");
        Self(path)
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).expect("our own folder");
    }
}

/// Returns an unused name.
pub(crate) fn free_name() -> String {
    static NAMES: AtomicUsize = AtomicUsize::new(0);
    let index = NAMES.fetch_add(1, Ordering::Relaxed);
    format!("netpoll-{}-{index}", std::process::id())
}

/// Returns a listener whose connections have small kernel buffers.
pub(crate) fn tight_listener() -> Listener {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let socket = socket2::SockRef::from(&listener);
    socket.set_send_buffer_size(16 << 10).expect("a socket");
    socket.set_recv_buffer_size(16 << 10).expect("a socket");
    listener.into()
}

/// Returns the address of `listener`.
pub(crate) fn bound(listener: &Listener) -> Addr {
    listener.local_addr().expect("a bound address")
}

/// Returns the errno of a broken connection.
pub(crate) fn errno_of(reason: &CloseReason) -> Option<i32> {
    match reason {
        CloseReason::Broken(error) => error.raw_os_error(),
        _ => None,
    }
}

/// `ECONNRESET`.
pub(crate) const RESET: i32 = 104;

/// The rpc wire: a length and a body, and the same as the answer.
pub(crate) async fn rpc(conn: &mut Connection) -> Result<(), BoxError> {
    let (mut reader, mut writer) = conn.split();
    let len = reader.read_u32().await?;
    let body = reader.next(len as usize).await?;
    writer.put_u32(len);
    writer.put_slice(body);
    Ok(())
}

/// Makes a call over a netpoll connection, and checks that the answer is the request.
pub(crate) async fn call(conn: &mut Connection, body: &[u8]) -> std::io::Result<()> {
    let (mut reader, mut writer) = conn.split();
    writer.put_slice(&frame(body));
    assert!(reader.next(body.len() + 4).await? == frame(body));
    Ok(())
}

/// A frame of the rpc wire.
pub(crate) fn frame(body: &[u8]) -> Vec<u8> {
    let mut frame = u32::try_from(body.len())
        .expect("a short body")
        .to_be_bytes()
        .to_vec();
    frame.extend_from_slice(body);
    frame
}

/// Returns `length` bytes that differ by position and by `seed`.
pub(crate) fn bytes(length: usize, seed: u8) -> Vec<u8> {
    (0..length)
        .map(|index| (index as u8).wrapping_mul(31).wrapping_add(seed))
        .collect()
}

/// Returns the option that an error names, with the description of valid values.
pub(crate) fn invalid_option(error: &std::io::Error) -> Option<(&'static str, &'static str)> {
    match error.netpoll_kind()? {
        ErrorKind::InvalidConfig {
            option, expected, ..
        } => Some((option, expected)),
        _ => None,
    }
}
