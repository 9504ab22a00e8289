// SPDX-License-Identifier: MIT OR Apache-2.0
//! States in which a connection or a listener can make no progress, and their cost in processor
//! time.
//!
//! Readiness is level-triggered where input stays unread: a poller that watches an event without
//! acting on it gets the event again and again. Hang-ups and errors are reported to every poller
//! that watches the socket at all. Each state here makes a careless server spin. The server is a
//! process of its own with ten connections in the state, and the test measures the processor time
//! of all its threads.

#[expect(dead_code, reason = "other scenes take longer")]
#[path = "support/scene.rs"]
mod scene;
#[expect(
    dead_code,
    unused_imports,
    unused_macros,
    reason = "the behaviour tests use the rest"
)]
#[path = "support/support.rs"]
mod support;

use std::fs;
use std::future::pending;
use std::io::ErrorKind;
use std::net::{Shutdown, TcpListener};
use std::path::PathBuf;
use std::thread::sleep;
use std::time::{Duration, Instant};

use netpoll::{BoxError, Builder, Connection, EventLoop};
use socket2::SockRef;

use scene::Scene;
use support::{Apart, Peer, bytes, eventually, rpc};

/// The number of connections in a state at once.
const CONNECTIONS: usize = 10;

/// The time for work in progress to settle, and the time of the measurement.
const SETTLE: Duration = Duration::from_millis(500);
const MEASURED: Duration = Duration::from_secs(3);

/// The largest allowed share of a processor.
const SHARE: f64 = 0.005;

/// More descriptors than the test needs, and fewer.
const ENOUGH: u32 = 1000;
const FEW: u32 = 64;

/// More than the input that waits for a handler, and less than that plus the kernel's buffers.
const PAUSES: usize = 100 << 10;

/// More than the kernel's buffers hold.
const ANSWER: usize = 8 << 20;

/// A state, and how a server enters it.
struct State {
    scene: &'static str,
    test: &'static str,
    descriptors: u32,
    builder: fn() -> Builder,
    /// Brings one connection into the state; returns a peer that has to stay open.
    arrange: fn(Peer) -> Option<Peer>,
    connections: usize,
    /// The fewest connections that the server still holds in the state.
    held: usize,
}

impl State {
    fn new(
        scene: &'static str,
        test: &'static str,
        builder: fn() -> Builder,
        arrange: fn(Peer) -> Option<Peer>,
    ) -> Self {
        Self {
            scene,
            test,
            descriptors: ENOUGH,
            builder,
            arrange,
            connections: CONNECTIONS,
            held: CONNECTIONS,
        }
    }

    fn measure(self) {
        let Some(server) = Apart::start(self.descriptors, self.test, self.builder) else {
            return;
        };
        let scene = Scene::begin(self.scene, "0.5 % of a core");
        let listeners = sockets_of(&server);
        let arrange = |_| (self.arrange)(Peer::connect(server.addr));
        let peers: Vec<Option<Peer>> = (0..self.connections).map(arrange).collect();
        let held = || sockets_of(&server) - listeners;
        eventually("the state", || held() >= self.held);
        sleep(SETTLE);
        let holds = held();
        let (began, used) = (Instant::now(), server.processor_time());
        sleep(MEASURED);
        let used = server.processor_time() - used;
        let share = used.as_secs_f64() / began.elapsed().as_secs_f64();
        let stays = holds >= self.held && held() == holds;
        drop(peers);
        let measured = format!("{:.3} % of a core, {holds} held", share * 100.0);
        scene.judge(measured, share <= SHARE && stays);
    }
}

/// Returns the number of open sockets of a server.
fn sockets_of(server: &Apart) -> usize {
    let open = fs::read_dir(format!("/proc/{}/fd", server.id())).expect("procfs");
    // A descriptor that is closed meanwhile has no target.
    let targets = open.filter_map(|entry| fs::read_link(entry.expect("procfs").path()).ok());
    let is_socket = |target: &PathBuf| target.to_string_lossy().starts_with("socket:");
    targets.filter(is_socket).count()
}

/// A server whose closes wait longer than the measurement.
fn server() -> Builder {
    EventLoop::builder()
        .pollers(1)
        .linger(Duration::from_secs(60))
}

/// A handler that neither reads nor returns.
fn pends() -> Builder {
    server().on_request(async |_: &mut Connection| pending().await)
}

/// A handler that returns without reading its input.
fn leaves() -> Builder {
    server().on_request(async |conn: &mut Connection| {
        conn.reader().available();
        Ok(())
    })
}

/// A handler that answers a byte with more than the kernel's buffers hold.
fn answers() -> Builder {
    server().on_request(async |conn: &mut Connection| answer(conn).await)
}

/// As [`answers`], and then closes.
fn answers_and_closes() -> Builder {
    server().on_request(async |conn: &mut Connection| {
        answer(conn).await?;
        conn.close();
        Ok(())
    })
}

/// As [`answers`], but does not return.
fn answers_and_pends() -> Builder {
    server().on_request(async |conn: &mut Connection| {
        answer(conn).await?;
        pending().await
    })
}

async fn answer(conn: &mut Connection) -> Result<(), BoxError> {
    conn.reader().skip(1).await?;
    conn.writer().put_slice(&bytes(ANSWER, 1));
    Ok(())
}

/// A handler that reads its input, sends a byte and closes.
fn closes() -> Builder {
    server().on_request(async |conn: &mut Connection| {
        conn.reader().chunk().await?;
        conn.writer().put_u8(b'!');
        conn.close();
        Ok(())
    })
}

/// A handler that closes and does not return.
fn closes_and_pends() -> Builder {
    server().on_request(async |conn: &mut Connection| {
        conn.close();
        pending().await
    })
}

/// A second listener, which the handler shuts down, so that accepting fails from then on.
fn breaks_a_listener() -> Builder {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let same = listener.try_clone().expect("a descriptor");
    let handler = async move |conn: &mut Connection| {
        conn.reader().skip(1).await?;
        SockRef::from(&same).shutdown(Shutdown::Both)?;
        conn.writer().put_u8(b'!');
        Ok(())
    };
    server().listen(listener).on_request(handler)
}

/// Sends until the server has accepted nothing for a while.
fn fill(peer: &mut Peer) {
    peer.stream.set_nonblocking(true).expect("an open socket");
    let mut last = Instant::now();
    while last.elapsed() < Duration::from_millis(50) {
        match peer.stream.send(&[7; 64 << 10]) {
            Ok(_) => last = Instant::now(),
            Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
        }
    }
}

#[test]
#[ignore = "a hostile scene, for ci/hostile"]
fn stuck_reset_that_is_not_read() {
    let arrange = |mut peer: Peer| {
        fill(&mut peer);
        peer.reset();
        None
    };
    let test = "stuck_reset_that_is_not_read";
    State::new("stuck: a reset that is not read", test, pends, arrange).measure();
}

#[test]
#[ignore = "a hostile scene, for ci/hostile"]
fn stuck_reset_with_unsent_output() {
    let arrange = |mut peer: Peer| {
        peer.send(b"?");
        peer.receive(1);
        peer.reset();
        None
    };
    let test = "stuck_reset_with_unsent_output";
    let scene = "stuck: a reset with output unsent, the handler at work";
    State::new(scene, test, answers_and_pends, arrange).measure();
}

#[test]
#[ignore = "a hostile scene, for ci/hostile"]
fn stuck_hang_up_while_the_handler_works() {
    let arrange = |mut peer: Peer| {
        peer.send(b"?");
        assert_eq!(peer.receive_all().expect("an end"), b"");
        peer.finish();
        Some(peer)
    };
    let test = "stuck_hang_up_while_the_handler_works";
    let scene = "stuck: hung up on both sides, the handler at work";
    State::new(scene, test, closes_and_pends, arrange).measure();
}

#[test]
#[ignore = "a hostile scene, for ci/hostile"]
fn stuck_half_closed_with_a_full_send_buffer() {
    let arrange = |mut peer: Peer| {
        peer.send(b"?");
        peer.finish();
        Some(peer)
    };
    let test = "stuck_half_closed_with_a_full_send_buffer";
    let scene = "stuck: half-closed, the send buffer full";
    State::new(scene, test, answers, arrange).measure();
}

#[test]
#[ignore = "a hostile scene, for ci/hostile"]
fn stuck_half_closed_with_reads_paused() {
    let arrange = |mut peer: Peer| {
        peer.send(&[7; PAUSES]);
        peer.finish();
        Some(peer)
    };
    let test = "stuck_half_closed_with_reads_paused";
    State::new("stuck: half-closed, reads paused", test, pends, arrange).measure();
}

#[test]
#[ignore = "a hostile scene, for ci/hostile"]
fn stuck_paused_with_data() {
    let arrange = |mut peer: Peer| {
        fill(&mut peer);
        Some(peer)
    };
    let test = "stuck_paused_with_data";
    let scene = "stuck: reads paused, data in the kernel";
    State::new(scene, test, pends, arrange).measure();
}

#[test]
#[ignore = "a hostile scene, for ci/hostile"]
fn stuck_zero_window() {
    let arrange = |mut peer: Peer| {
        peer.send(b"?");
        Some(peer)
    };
    let test = "stuck_zero_window";
    State::new("stuck: a window of zero", test, answers, arrange).measure();
}

#[test]
#[ignore = "a hostile scene, for ci/hostile"]
fn stuck_input_that_the_handler_left() {
    let arrange = |mut peer: Peer| {
        peer.send(&[7; 100]);
        Some(peer)
    };
    let test = "stuck_input_that_the_handler_left";
    let scene = "stuck: input that the handler left";
    State::new(scene, test, leaves, arrange).measure();
}

#[test]
#[ignore = "a hostile scene, for ci/hostile"]
fn stuck_lingering() {
    let arrange = |mut peer: Peer| {
        peer.send(&[7; 100]);
        assert_eq!(peer.receive_all().expect("an end"), b"!");
        peer.send(b"still here");
        Some(peer)
    };
    let test = "stuck_lingering";
    let scene = "stuck: closed, the peer's end awaited";
    State::new(scene, test, closes, arrange).measure();
}

#[test]
#[ignore = "a hostile scene, for ci/hostile"]
fn stuck_closing_with_a_full_send_buffer() {
    let arrange = |mut peer: Peer| {
        peer.send(&[7; 100]);
        peer.finish();
        Some(peer)
    };
    let test = "stuck_closing_with_a_full_send_buffer";
    let scene = "stuck: closed on both sides, the send buffer full";
    State::new(scene, test, answers_and_closes, arrange).measure();
}

#[test]
#[ignore = "a hostile scene, for ci/hostile"]
fn stuck_out_of_descriptors() {
    let arrange = |mut peer: Peer| {
        peer.send(b"unanswered");
        Some(peer)
    };
    let test = "stuck_out_of_descriptors";
    let scene = "stuck: out of descriptors, a queue of dials";
    let builder = || server().on_request(rpc).max_connections(1000);
    State {
        descriptors: FEW,
        connections: 300,
        // Almost all descriptors are connections.
        held: FEW as usize - 10,
        ..State::new(scene, test, builder, arrange)
    }
    .measure();
}

#[test]
#[ignore = "a hostile scene, for ci/hostile"]
fn stuck_listener_that_fails() {
    let arrange = |mut peer: Peer| {
        peer.send(b"?");
        assert_eq!(peer.receive(1), b"!");
        Some(peer)
    };
    let test = "stuck_listener_that_fails";
    let scene = "stuck: a listener that fails";
    State {
        connections: 1,
        held: 1,
        ..State::new(scene, test, breaks_a_listener, arrange)
    }
    .measure();
}
