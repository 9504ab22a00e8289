// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which connection a client's calls go by, and how it comes to another.
//!
//! Nothing dials in the background: the call that finds no connection dials, in its own task, and
//! the others that come meanwhile wait behind it in the order in which they came. If that call is
//! dropped, the next one dials. A dial that has failed is not repeated before its back-off is over.

use std::fmt;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::time::Instant;

use super::lane::Lane;
use super::message::CallCodec;
use super::options::Backoff;
use crate::connection::Connection;
use crate::dialer::Dialer;
use crate::dialer::target::ToTarget;
use crate::error::CloseReason;
use crate::foreign::Deferred;
use crate::permits::Permits;
use crate::sync::{Arc, Mutex, lock};

/// The way to a server.
#[derive(Debug)]
pub(super) struct Route<F> {
    state: Mutex<State<F>>,
    /// Who dials, where anybody does.
    dials: Option<Dials>,
}

#[derive(Debug)]
struct State<F> {
    lane: Option<Arc<Lane<F>>>,
    /// Connections so far.
    made: u64,
    failed: Option<Failed>,
}

/// The dials that have failed since one succeeded.
#[derive(Debug)]
struct Failed {
    times: u32,
    why: Arc<io::Error>,
    not_before: Instant,
}

/// Dials the server once.
type Dial = dyn Fn() -> Pin<Box<dyn Future<Output = io::Result<Connection>> + Send>> + Send + Sync;

struct Dials {
    dial: Box<Dial>,
    /// One at a time.
    one: Arc<Permits>,
}

impl fmt::Debug for Dials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dials")
            .field("one", &self.one)
            .finish_non_exhaustive()
    }
}

impl<F: Send + 'static> Route<F> {
    /// By this connection, and when that has ended by none.
    pub(super) fn only(lane: Arc<Lane<F>>) -> Self {
        Self {
            state: Mutex::new(State {
                lane: Some(lane),
                made: 1,
                failed: None,
            }),
            dials: None,
        }
    }

    /// By a connection to `target`, made when one is needed. A name is resolved for each.
    pub(super) fn dialing<T>(dialer: Dialer, target: T) -> Self
    where
        T: ToTarget + Send + Sync + 'static,
    {
        let target = Arc::new(target);
        let dial = Box::new(move || {
            let (dialer, target) = (dialer.clone(), Arc::clone(&target));
            let dialed: Pin<Box<dyn Future<Output = _> + Send>> =
                Box::pin(async move { dialer.dial(&*target).await });
            dialed
        });
        Self {
            state: Mutex::new(State {
                lane: None,
                made: 0,
                failed: None,
            }),
            dials: Some(Dials {
                dial,
                one: Permits::new(1),
            }),
        }
    }

    /// Whether it makes another connection when one has ended.
    pub(super) fn dials(&self) -> bool {
        self.dials.is_some()
    }

    /// The last connection there was. It may be over.
    pub(super) fn current(&self) -> Option<Arc<Lane<F>>> {
        lock(&self.state).lane.clone()
    }

    /// Connections so far.
    pub(super) fn made(&self) -> u64 {
        lock(&self.state).made
    }

    /// A connection that takes calls: another's that has just been made, or a new one.
    pub(super) async fn open<C: CallCodec<Frame = F>>(
        &self,
        codec: &Arc<C>,
        backoff: &Backoff,
    ) -> io::Result<Arc<Lane<F>>> {
        let Some(dials) = &self.dials else {
            let closing = self.current().and_then(|lane| lane.closing());
            return Err(closing.unwrap_or(CloseReason::Forgotten).to_error());
        };
        let _alone = dials.one.acquire().await;
        if let Some(lane) = self.current()
            && lane.closing().is_none()
        {
            return Ok(lane);
        }
        self.may_dial()?;
        match (dials.dial)().await {
            Ok(conn) => {
                let before = self.current().map_or(0, |lane| lane.begun());
                let lane = Lane::open(conn, codec, before);
                let mut state = lock(&self.state);
                let failed = Deferred::from(state.failed.take());
                state.made += 1;
                let before = state.lane.replace(Arc::clone(&lane));
                drop(state);
                drop((before, failed));
                Ok(lane)
            }
            Err(error) => Err(self.note_failure(error, backoff)),
        }
    }

    /// Whether the back-off of the last failure is over.
    fn may_dial(&self) -> io::Result<()> {
        match &lock(&self.state).failed {
            Some(failed) if Instant::now() < failed.not_before => Err(again(&failed.why)),
            _ => Ok(()),
        }
    }

    fn note_failure(&self, error: io::Error, backoff: &Backoff) -> io::Error {
        let mut state = lock(&self.state);
        let times = state.failed.as_ref().map_or(0, |failed| failed.times);
        let times = times.saturating_add(1);
        let why = Arc::new(error);
        let before = Deferred::from(state.failed.replace(Failed {
            times,
            why: Arc::clone(&why),
            not_before: Instant::now() + backoff.after(times),
        }));
        drop(state);
        // Of a resolver of the user's own.
        drop(before);
        again(&why)
    }
}

/// The same error once more.
fn again(error: &Arc<io::Error>) -> io::Error {
    match error.raw_os_error() {
        Some(errno) => io::Error::from_raw_os_error(errno),
        None => io::Error::new(error.kind(), Arc::clone(error)),
    }
}
