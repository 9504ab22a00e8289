// SPDX-License-Identifier: MIT OR Apache-2.0
//! How user code is called: a future per burst, in a slot that is used again.
//!
//! A handler's future borrows the connection it works on, so the two must live together without
//! anybody naming the future's type. They do inside an `async fn` that owns the connection and
//! gives it back when it is done: [`burst`] for `on_request`, [`whole_life`] for `on_connection`.
//! The future of that function is pinned in a [`Slot`], polled there, and replaced in place by the
//! next burst's; slots are recycled per poller, so an idle connection has no future and a busy one
//! allocates none.
//!
//! A *burst* is the input that was there when it began. It ends when that is consumed, when a call
//! has consumed nothing, after [`CALLS`] calls or [`TIME`], or past the write mark.

use std::cell::RefCell;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::time::{Duration, Instant};

use super::Connection;
use crate::error::BoxError;
use crate::guard::guard;
use crate::sync::Arc;

/// The most calls in one burst.
const CALLS: u32 = 64;

/// The most time one burst takes.
const TIME: Duration = Duration::from_micros(200);

/// The most slots a poller keeps that nobody uses.
const SPARE: usize = 64;

/// What a burst, or a connection's whole life, came to.
pub(crate) struct Finished {
    /// The connection, unless the handler owned it.
    pub(crate) connection: Option<Connection>,
    pub(crate) verdict: Verdict,
}

/// Why a burst ended.
#[derive(Debug)]
pub(crate) enum Verdict {
    /// The input that was there is consumed.
    Spent,
    /// The last call consumed nothing: it needs more.
    Stalled,
    /// There is more, but others have waited long enough.
    Yielded,
    /// The handler failed.
    Failed(BoxError),
    /// The handler of a whole life has returned.
    Returned,
}

/// A handler, shared by a poller's connections.
pub(crate) type Shared<H> = Rc<Arc<H>>;

/// Calls `handler` until the burst is over, and gives the connection back.
pub(crate) async fn burst<H>(handler: Shared<H>, mut connection: Connection) -> Finished
where
    H: AsyncFn(&mut Connection) -> Result<(), BoxError>,
{
    let verdict = calls(&**handler, &mut connection).await;
    Finished {
        connection: Some(connection),
        verdict,
    }
}

async fn calls<H>(handler: &H, connection: &mut Connection) -> Verdict
where
    H: AsyncFn(&mut Connection) -> Result<(), BoxError>,
{
    let burst = connection.input.chain.len();
    let start = connection.input.consumed();
    let mut limit = BurstLimit::default();
    loop {
        let before = connection.input.consumed();
        if let Err(error) = handler(connection).await {
            return Verdict::Failed(error);
        }
        let now = connection.input.consumed();
        if now == before {
            return Verdict::Stalled;
        }
        if now.wrapping_sub(start) >= burst {
            return Verdict::Spent;
        }
        if limit.is_met() || connection.link.is_past_write_mark() {
            return Verdict::Yielded;
        }
    }
}

/// Calls `handler` once with the connection.
pub(crate) async fn whole_life<H>(handler: Shared<H>, connection: Connection) -> Finished
where
    H: AsyncFn(Connection) -> Result<(), BoxError>,
{
    let verdict = match handler(connection).await {
        Ok(()) => Verdict::Returned,
        Err(error) => Verdict::Failed(error),
    };
    Finished {
        connection: None,
        verdict,
    }
}

/// How far a burst has gone. The clock is read after calls 1, 2, 4, 8 …, because reading it costs
/// a third of a small request; the first call is not timed.
#[derive(Debug, Default)]
struct BurstLimit {
    calls: u32,
    start: Option<Instant>,
}

impl BurstLimit {
    /// Counts a call, and says whether it was the last.
    #[inline]
    fn is_met(&mut self) -> bool {
        self.calls += 1;
        self.calls >= CALLS || (self.calls.is_power_of_two() && self.is_late())
    }

    fn is_late(&mut self) -> bool {
        let now = Instant::now();
        now.duration_since(*self.start.get_or_insert(now)) >= TIME
    }
}

/// Room for a future of one type, used again and again.
pub(crate) type Slot<F> = Pin<Box<Option<F>>>;

/// The slots of one poller that nobody uses.
#[derive(Debug)]
pub(crate) struct SpareSlots<F> {
    slots: RefCell<Vec<Slot<F>>>,
}

impl<F> Default for SpareSlots<F> {
    fn default() -> Self {
        Self {
            slots: RefCell::default(),
        }
    }
}

impl<F: Future> SpareSlots<F> {
    /// An empty slot. Allocates if none is spare.
    #[inline]
    pub(crate) fn take(&self) -> Slot<F> {
        self.slots
            .borrow_mut()
            .pop()
            .unwrap_or_else(|| Box::pin(None))
    }

    /// Empties a slot and keeps it. What is in it is user code, and may panic when dropped.
    #[inline]
    pub(crate) fn give_back(&self, mut slot: Slot<F>) {
        if guard(|| slot.set(None)).is_err() {
            // Half dropped: nothing to keep.
            return;
        }
        let mut slots = self.slots.borrow_mut();
        if slots.len() < SPARE {
            slots.push(slot);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_ends_after_its_calls() {
        let mut limit = BurstLimit {
            start: None,
            calls: 0,
        };
        let calls = std::iter::repeat_with(|| limit.is_met())
            .take_while(|met| !met)
            .count()
            + 1;
        assert!(calls <= CALLS as usize);
    }

    #[test]
    fn a_burst_ends_when_its_time_is_up() {
        let past = Instant::now().checked_sub(TIME).unwrap();
        let mut limit = BurstLimit {
            calls: 3,
            start: Some(past),
        };
        assert!(limit.is_met(), "the clock is read after the fourth call");
        let mut limit = BurstLimit {
            calls: 4,
            start: Some(past),
        };
        assert!(!limit.is_met(), "and not after the fifth");
    }

    #[test]
    fn slots_are_used_again_and_bounded() {
        let spare: SpareSlots<std::future::Ready<()>> = SpareSlots::default();
        let mut slot = spare.take();
        slot.set(Some(std::future::ready(())));
        let address = std::ptr::from_ref(&*slot);
        spare.give_back(slot);
        let again = spare.take();
        assert!(std::ptr::eq(&*again, address));
        assert!(again.is_none());
        (0..2 * SPARE).for_each(|_| spare.give_back(Box::pin(None)));
        assert_eq!(spare.slots.borrow().len(), SPARE);
    }
}
