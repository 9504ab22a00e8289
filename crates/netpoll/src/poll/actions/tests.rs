// SPDX-License-Identifier: MIT OR Apache-2.0
//! The actions of sources, applied by a poller.

use super::*;
use crate::poll::source::{Outgoing, ShutdownRequest, SourceContext};
use netpoll_sys::{Readiness, socket};
use std::cell::RefCell;
use std::fs::File;
use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::rc::Rc;
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(60);

/// The output of a source, and the calls it received.
#[derive(Default)]
struct ScriptedState {
    output: Outgoing,
    calls: Vec<String>,
    /// Returned once from `on_notify` and from `on_input_end`; without one, the source waits.
    on_notify: Option<NextAction>,
    on_input_end: Option<NextAction>,
}

/// How a source is registered with epoll.
#[derive(Clone, Copy, PartialEq, Eq)]
enum WatchMode {
    Level,
    Edge,
    /// Edge-triggered, and the source reports that no event will follow.
    EdgeWithoutEvents,
}

struct Scripted {
    fd: OwnedFd,
    watch_mode: WatchMode,
    script: Rc<RefCell<ScriptedState>>,
}

impl Scripted {
    fn record(&self, what: impl Into<String>) -> NextAction {
        self.script.borrow_mut().calls.push(what.into());
        NextAction::Wait(Interest::READABLE)
    }
}

impl Source for Scripted {
    fn fd(&self) -> Option<BorrowedFd<'_>> {
        Some(self.fd.as_fd())
    }

    fn short_read_empties(&self) -> bool {
        self.watch_mode != WatchMode::Level
    }

    fn has_no_more_events(&self) -> bool {
        self.watch_mode == WatchMode::EdgeWithoutEvents
    }

    fn on_register(&mut self, _context: &mut SourceContext) -> NextAction {
        NextAction::Wait(Interest::READABLE)
    }

    fn on_input_end(&mut self, _end: EndOfInput, _context: &mut SourceContext) -> NextAction {
        let wait = self.record("ended");
        self.script.borrow_mut().on_input_end.take().unwrap_or(wait)
    }

    fn outgoing(&mut self) -> Option<Outgoing> {
        let output = std::mem::take(&mut self.script.borrow_mut().output);
        (!output.is_empty()).then_some(output)
    }

    fn on_sent(
        &mut self,
        rest: Outgoing,
        result: io::Result<usize>,
        _context: &mut SourceContext,
    ) -> NextAction {
        let outcome = match (&result, rest.is_empty()) {
            (Err(_), _) => "failed",
            (Ok(_), true) => "sent",
            (Ok(_), false) => "blocked",
        };
        if result.is_ok() {
            self.script.borrow_mut().output.prepend(rest);
        }
        self.record(outcome)
    }

    fn on_ready(&mut self, _readiness: Readiness, _context: &mut SourceContext) -> NextAction {
        self.record("ready")
    }

    fn on_notify(&mut self, _context: &mut SourceContext) -> NextAction {
        let next = self.script.borrow_mut().on_notify.take();
        next.unwrap_or(NextAction::Wait(Interest::READABLE))
    }

    fn on_yield(&mut self, _context: &mut SourceContext) -> NextAction {
        self.record("again")
    }

    fn on_shutdown(
        &mut self,
        _request: ShutdownRequest,
        _context: &mut SourceContext,
    ) -> NextAction {
        NextAction::Remove
    }
}

impl Drop for Scripted {
    fn drop(&mut self) {
        self.record("dropped");
    }
}

/// A poller that the test runs, its one source, and the record of that source's calls.
struct ActionFixture {
    poller: Poller,
    token: Token,
    script: Rc<RefCell<ScriptedState>>,
}

impl ActionFixture {
    fn new(fd: impl Into<OwnedFd>) -> Self {
        Self::of(fd.into(), WatchMode::Level)
    }

    fn of(fd: OwnedFd, watch_mode: WatchMode) -> Self {
        let mut poller = Poller::for_test();
        let script = Rc::<RefCell<ScriptedState>>::default();
        let token = poller.insert_source(Scripted {
            fd,
            watch_mode,
            script: Rc::clone(&script),
        });
        Self {
            poller,
            token,
            script,
        }
    }

    /// Creates a source watched as `watch_mode` says, with its peer and a duplicate of its
    /// descriptor.
    fn with_duplicate(watch_mode: WatchMode) -> (Self, UnixStream, OwnedFd) {
        let (ours, theirs) = socket::pair().unwrap();
        let kept = ours.try_clone().unwrap();
        (Self::of(ours, watch_mode), UnixStream::from(theirs), kept)
    }

    /// Removes the source.
    fn remove_source(&mut self) {
        self.script.borrow_mut().on_notify = Some(NextAction::Remove);
        self.wake();
    }

    /// Creates a source whose peer reads without blocking.
    fn with_peer() -> (Self, UnixStream) {
        let (ours, theirs) = socket::pair().unwrap();
        (Self::new(ours), UnixStream::from(theirs))
    }

    /// Queues `bytes` bytes of output and runs the source.
    fn send(&mut self, bytes: usize) {
        self.script.borrow_mut().output.put_slice(&vec![1; bytes]);
        self.wake();
    }

    fn wake(&mut self) {
        self.poller
            .call(self.token, |source, context| source.on_notify(context));
    }

    fn run_once(&mut self) {
        self.poller.run_ready();
    }

    /// Returns whether the kernel has an event.
    fn has_kernel_events(&mut self) -> bool {
        self.poller.driver.wait(Some(Duration::ZERO)).unwrap() > 0
    }

    /// Returns the calls since the last `take_calls`.
    fn take_calls(&self) -> Vec<String> {
        std::mem::take(&mut self.script.borrow_mut().calls)
    }

    /// Returns the registered interest, and whether the last send was partial.
    fn watch(&mut self) -> (Option<Interest>, bool) {
        let watch = self.poller.interest_of(self.token);
        (watch.interest, watch.is_blocked())
    }
}

/// Reads all that the socket has for `peer`, and returns its length.
fn read_all(peer: &mut UnixStream) -> usize {
    let (mut all, mut bytes) = (0, vec![0; 1 << 20]);
    while let Ok(count @ 1..) = peer.read(&mut bytes) {
        all += count;
    }
    all
}

#[test]
fn blocked_output_is_sent_again_only_when_the_socket_is_writable() {
    const BOTH: Interest = Interest::READABLE.union(Interest::WRITABLE);
    let (mut fixture, mut peer) = ActionFixture::with_peer();
    assert_eq!(fixture.watch(), (Some(Interest::READABLE), false));
    fixture.send(8 << 20);
    assert_eq!(fixture.take_calls(), ["blocked"]);
    assert_eq!(fixture.watch(), (Some(BOTH), true));
    for _ in 0..3 {
        fixture.send(1);
        assert_eq!(fixture.take_calls(), [""; 0], "on_sent is not called");
        assert_eq!(fixture.watch(), (Some(BOTH), true));
    }
    peer.write_all(b"x").unwrap();
    fixture.run_once();
    assert_eq!(fixture.take_calls(), ["ready"], "readable, not writable");
    assert_eq!(fixture.watch(), (Some(BOTH), true));

    let mut received = 0;
    for _ in 0..10_000 {
        if !fixture.watch().1 {
            break;
        }
        received += read_all(&mut peer);
        fixture.run_once();
    }
    received += read_all(&mut peer);
    assert_eq!(received, (8 << 20) + 3);
    assert_eq!(fixture.watch(), (Some(Interest::READABLE), false));
    assert_eq!(
        fixture.take_calls().last().map(String::as_str),
        Some("sent")
    );
}

#[test]
fn blocked_output_fails_when_the_peer_is_gone() {
    let (mut fixture, peer) = ActionFixture::with_peer();
    fixture.send(8 << 20);
    assert_eq!(fixture.take_calls(), ["blocked"]);
    // The socket is not writable: the bytes sent before still fill its buffer.
    peer.shutdown(Shutdown::Both).unwrap();
    fixture.run_once();
    assert_eq!(fixture.take_calls(), ["ready", "failed"]);
}

#[test]
fn a_failed_epoll_registration_ends_the_input() {
    // epoll does not support this file.
    let mut fixture = ActionFixture::new(File::open("/dev/null").unwrap());
    assert_eq!(fixture.take_calls(), ["ended"]);
    assert_eq!(fixture.watch(), (None, false));
    fixture.wake();
    assert_eq!(
        fixture.take_calls(),
        ["ended"],
        "registration is tried again"
    );
    fixture.script.borrow_mut().on_input_end = Some(NextAction::Yield(Interest::READABLE));
    fixture.wake();
    fixture.poller.process_events(0);
    assert_eq!(fixture.take_calls(), ["ended", "again", "ended"]);
    fixture.script.borrow_mut().on_input_end = Some(NextAction::Remove);
    fixture.wake();
    assert_eq!(fixture.take_calls(), ["ended", "dropped"]);
    assert!(fixture.poller.registry.tokens().is_empty());
}

#[test]
fn a_source_without_interest_gets_no_events_until_it_registers_one() {
    let (mut fixture, mut peer) = ActionFixture::with_peer();
    fixture.script.borrow_mut().on_notify = Some(NextAction::NoInterest);
    fixture.wake();
    assert_eq!(fixture.watch(), (None, false));
    peer.write_all(b"x").unwrap();
    assert!(!fixture.has_kernel_events());
    fixture.script.borrow_mut().on_notify = Some(NextAction::Unchanged);
    fixture.wake();
    assert!(!fixture.has_kernel_events(), "Unchanged keeps no interest");
    fixture.wake();
    assert_eq!(fixture.watch(), (Some(Interest::READABLE), false));
    fixture.run_once();
    assert_eq!(fixture.take_calls(), ["ready"]);
}

#[test]
fn a_removed_source_gets_no_events_while_a_duplicate_descriptor_is_open() {
    let (ours, mut theirs) = socket::pair()
        .map(|(ours, theirs)| (ours, UnixStream::from(theirs)))
        .unwrap();
    let kept = ours.try_clone().unwrap();
    let mut fixture = ActionFixture::new(ours);
    fixture.script.borrow_mut().on_notify = Some(NextAction::Remove);
    fixture.send(1);
    assert_eq!(fixture.take_calls(), ["dropped"], "nothing is sent for it");
    assert!(fixture.poller.registry.tokens().is_empty());
    theirs.write_all(b"x").unwrap();
    assert!(!fixture.has_kernel_events());
    fixture.wake();
    assert_eq!(fixture.take_calls(), [""; 0]);
    drop(kept);
}

#[test]
fn a_source_without_further_events_is_not_deregistered_and_a_late_event_is_dropped() {
    let (mut fixture, mut peer, _kept) =
        ActionFixture::with_duplicate(WatchMode::EdgeWithoutEvents);
    fixture.remove_source();
    assert_eq!(fixture.take_calls(), ["dropped"]);
    peer.write_all(b"x").unwrap();
    fixture.run_once();
    assert_eq!(fixture.take_calls(), [""; 0]);
    assert!(!fixture.has_kernel_events(), "an edge is reported once");
}

#[test]
fn an_edge_triggered_source_is_deregistered_on_removal() {
    let (mut fixture, mut peer, _kept) = ActionFixture::with_duplicate(WatchMode::Edge);
    fixture.remove_source();
    peer.write_all(b"x").unwrap();
    assert!(
        !fixture.has_kernel_events(),
        "each arrival would wake the poller for nothing"
    );
}

#[test]
fn a_level_triggered_source_is_deregistered_on_removal() {
    let (mut fixture, peer, _kept) = ActionFixture::with_duplicate(WatchMode::EdgeWithoutEvents);
    fixture.script.borrow_mut().on_notify = Some(NextAction::Wait(Interest::NONE));
    fixture.wake();
    fixture.remove_source();
    drop(peer);
    assert!(
        !fixture.has_kernel_events(),
        "EPOLLHUP would be reported without end"
    );
}

#[test]
fn removing_a_source_cancels_its_timer() {
    let (mut fixture, _peer) = ActionFixture::with_peer();
    let later = std::time::Instant::now() + LIMIT;
    fixture.poller.context.set_deadline(Some(later));
    fixture.wake();
    assert!(!fixture.poller.timers.is_empty());
    fixture.script.borrow_mut().on_notify = Some(NextAction::Remove);
    fixture.wake();
    assert!(fixture.poller.timers.is_empty());
}

#[test]
fn a_deadline_set_by_a_removed_source_is_dropped() {
    let (mut fixture, _peer) = ActionFixture::with_peer();
    let later = std::time::Instant::now() + LIMIT;
    fixture.poller.context.set_deadline(Some(later));
    fixture.script.borrow_mut().on_notify = Some(NextAction::Remove);
    fixture.wake();
    assert!(fixture.poller.context.deadline.is_none());
}

#[test]
fn a_running_source_is_not_called_and_returns_to_its_slot() {
    let (mut fixture, _peer) = ActionFixture::with_peer();
    let run = fixture.poller.registry.take_out(fixture.token).unwrap();
    fixture.wake();
    assert!(fixture.poller.registry.take_out(fixture.token).is_none());
    assert_eq!(
        fixture.take_calls(),
        [""; 0],
        "a running source is not called"
    );
    fixture.poller.apply(run, NextAction::Unchanged);
    assert_eq!(fixture.watch(), (Some(Interest::READABLE), false));
}
