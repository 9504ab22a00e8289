// SPDX-License-Identifier: MIT OR Apache-2.0
//! Ten thousand calls that end at once do not delay another connection of their poller.

use std::io::{self, ErrorKind};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use netpoll::error::ErrorExt;
use netpoll::mux::{Client, ClientOptions, Message};
use netpoll::options::ConnOptions;
use netpoll::{CloseReason, Connection, Dialer};

use super::mux::codec;
use crate::support::{Peer, eventually, frame, pair, pair_with, poll_once};

const CALLS: usize = 10_000;

/// The requests of the other connection that must be served between the first and the last wake.
const ROUNDS: usize = 3;

/// The state that all wakers share.
#[derive(Default)]
struct Wakes {
    /// The number of calls that were woken.
    woken: AtomicUsize,
    /// The requests served on the other connection.
    served: Arc<AtomicUsize>,
    /// The value of `served` at the first wake.
    at_first: AtomicUsize,
}

impl Wakes {
    fn rounds(&self) -> usize {
        self.served.load(Ordering::SeqCst) - self.at_first.load(Ordering::SeqCst)
    }
}

/// The waker of one call. It sleeps until the other connection was served `ROUNDS` times.
struct SlowWaker {
    wakes: Arc<Wakes>,
    is_woken: AtomicBool,
}

impl Wake for SlowWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if self.is_woken.swap(true, Ordering::SeqCst) {
            return;
        }
        if self.wakes.woken.fetch_add(1, Ordering::SeqCst) == 0 {
            let served = self.wakes.served.load(Ordering::SeqCst);
            self.wakes.at_first.store(served, Ordering::SeqCst);
        }
        if self.wakes.rounds() < ROUNDS {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

/// Sends frames over another connection of the process's shared pollers until it is dropped.
struct Other {
    stop: Arc<AtomicBool>,
    asking: Option<JoinHandle<()>>,
}

impl Other {
    fn new(served: Arc<AtomicUsize>) -> Self {
        let (conn, mut peer) = pair();
        let serving = conn.serve(async move |conn: &mut Connection| {
            let (mut reader, mut writer) = conn.split();
            reader.skip(8).await?;
            served.fetch_add(1, Ordering::SeqCst);
            writer.put_slice(&frame(b"here"));
            Ok(())
        });
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let asking = std::thread::spawn(move || {
            while !stopped.load(Ordering::SeqCst) {
                peer.call(b"here");
            }
            drop(serving);
        });
        Self {
            stop,
            asking: Some(asking),
        }
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        let asked = self.asking.take().map(JoinHandle::join);
        assert!(matches!(asked, Some(Ok(()))) || std::thread::panicking());
    }
}

/// Starts all calls, ends them with `end` or at `deadline`, and returns their errors. Returns `None`
/// if the deadline passes before all calls have started.
fn end_at_once(deadline: Option<Instant>, end: impl FnOnce(&Peer)) -> Option<Vec<io::Error>> {
    let is_late = || deadline.is_some_and(|deadline| deadline <= Instant::now());
    let wakes = Arc::<Wakes>::default();
    let _other = Other::new(Arc::clone(&wakes.served));
    // The output buffer holds all requests, so that no call is woken for capacity.
    let bounds = ConnOptions::for_dialing().write_high(16 << 20);
    let (conn, peer) = pair_with(&Dialer::new().options(bounds));
    let options = ClientOptions::default().max_in_flight(CALLS).timeout(None);
    let client = Client::with_options(conn, codec(), options).expect("valid options");
    let call = || -> Pin<Box<dyn Future<Output = io::Result<Message>>>> {
        let client = client.clone();
        Box::pin(async move {
            match deadline {
                Some(deadline) => client.call_by(deadline, Message::new(b"?")).await,
                None => client.call(Message::new(b"?")).await,
            }
        })
    };
    let mut calls: Vec<_> = (0..CALLS)
        .map(|_| {
            let waker = Arc::new(SlowWaker {
                wakes: Arc::clone(&wakes),
                is_woken: AtomicBool::new(false),
            });
            (call(), waker)
        })
        .collect();
    for (begun, (call, waker)) in (1..).zip(&mut calls) {
        // A call may yield a few times before it starts.
        while client.stats().in_flight < begun {
            let is_pending = poll_once(call.as_mut()).is_pending();
            if is_late() {
                return None;
            }
            assert!(is_pending);
        }
        let waker = Waker::from(Arc::clone(waker));
        let polled = call.as_mut().poll(&mut Context::from_waker(&waker));
        assert!(polled.is_pending() || is_late());
    }
    let early = wakes.woken.load(Ordering::SeqCst);
    if is_late() {
        return None;
    }
    assert_eq!(early, 0);
    end(&peer);
    eventually("the wake of all calls", || {
        wakes.woken.load(Ordering::SeqCst) == CALLS
    });
    let rounds = wakes.rounds();
    assert!(rounds >= ROUNDS, "{rounds} rounds of the other connection");
    let mut context = Context::from_waker(Waker::noop());
    let outcomes = calls
        .iter_mut()
        .map(|(call, _)| match call.as_mut().poll(&mut context) {
            Poll::Ready(Err(error)) => error,
            other => panic!("{other:?}"),
        });
    Some(outcomes.collect())
}

#[test]
fn ten_thousand_calls_with_one_deadline_do_not_delay_another_connection() {
    // Doubled until all calls start before the deadline.
    let mut time = Duration::from_secs(1);
    let errors = loop {
        let deadline = Instant::now() + time;
        if let Some(errors) = end_at_once(Some(deadline), |_| ()) {
            assert!(Instant::now() >= deadline);
            break errors;
        }
        time *= 2;
    };
    assert!(
        errors
            .iter()
            .all(|error| error.kind() == ErrorKind::TimedOut)
    );
}

#[test]
fn ten_thousand_calls_that_lose_their_connection_do_not_delay_another() {
    let errors = end_at_once(None, Peer::finish).expect("no deadline");
    let is_fin = |error: &io::Error| matches!(error.close_reason(), Some(CloseReason::PeerFin));
    assert!(errors.iter().all(is_fin));
}
