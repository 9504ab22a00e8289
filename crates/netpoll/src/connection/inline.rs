// SPDX-License-Identifier: MIT OR Apache-2.0
//! Calls that are carried out on the connection's poller.
//!
//! The future of a call is pinned in a [`Slot`], polled there by the session, and replaced in place
//! by the next burst's. Slots are recycled per poller, so an idle connection has no future and a
//! busy one allocates none. The future need not be `Send`.

use std::cell::RefCell;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use super::Connection;
use super::burst::{Finished, Shared, Stage};
use super::calling::{Caller, Lost};
use super::link::Link;
use crate::guard::{Panicked, guard};
use crate::sync::Arc;

/// The most slots a poller keeps that nobody uses.
const SPARE: usize = 64;

/// Calls handlers of type `H` on the poller's thread, with the futures `F` that `make` makes.
pub(crate) struct Inline<H, M, F> {
    pub(crate) handlers: Shared<H>,
    pub(crate) make: M,
    pub(crate) spare: Rc<SpareSlots<F>>,
}

impl<H, M, F> Caller for Inline<H, M, F>
where
    H: 'static,
    M: Fn(Shared<H>, Connection, Stage) -> F + 'static,
    F: Future<Output = Finished> + 'static,
{
    type Call = Slot<F>;

    const ELSEWHERE: bool = false;

    #[inline]
    fn begin(&self, connection: Connection, stage: Stage) -> Result<Slot<F>, Panicked> {
        let mut slot = self.spare.take();
        let handlers = Rc::clone(&self.handlers);
        guard(|| slot.set(Some((self.make)(handlers, connection, stage))))?;
        Ok(slot)
    }

    #[inline]
    fn poll(&self, slot: &mut Slot<F>, context: &mut Context<'_>) -> Poll<Result<Finished, Lost>> {
        let Some(future) = slot.as_mut().as_pin_mut() else {
            return Poll::Pending;
        };
        match guard(|| future.poll(context)) {
            Ok(Poll::Pending) => Poll::Pending,
            Ok(Poll::Ready(finished)) => Poll::Ready(Ok(finished)),
            Err(Panicked) => Poll::Ready(Err(Lost::Panicked)),
        }
    }

    fn is_at_work(&self, _slot: &Slot<F>) -> bool {
        false
    }

    fn wakers_kept(&self, _slot: &Slot<F>, link: &Arc<Link>, limits: u32) -> usize {
        // A waker is a count of the link. The others are the session's, its waker's, and that of
        // whoever holds the connection.
        Arc::strong_count(link).saturating_sub(3 + limits as usize)
    }

    fn call_off(&self, _slot: &Slot<F>) -> bool {
        false
    }

    #[inline]
    fn end(&self, slot: Slot<F>) {
        self.spare.give_back(slot);
    }

    /// The future stays where it is until the next takes its place: it is one of ours, and has let go of
    /// all it held when it returned.
    #[inline]
    fn finish(&self, slot: Slot<F>) {
        self.spare.keep(slot);
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
    /// A slot in which nothing is under way. Allocates if none is spare.
    #[inline]
    fn take(&self) -> Slot<F> {
        self.slots
            .borrow_mut()
            .pop()
            .unwrap_or_else(|| Box::pin(None))
    }

    /// Empties a slot and keeps it. What is in it is user code, and may panic when dropped.
    #[inline]
    fn give_back(&self, mut slot: Slot<F>) {
        if guard(|| slot.set(None)).is_err() {
            // Half dropped: nothing to keep.
            return;
        }
        self.keep(slot);
    }

    #[inline]
    fn keep(&self, slot: Slot<F>) {
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
