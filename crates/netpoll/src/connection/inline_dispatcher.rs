// SPDX-License-Identifier: MIT OR Apache-2.0
//! Calls that run on the connection's poller.
//!
//! The engine pins the future of a call in a [`FutureSlot`] and polls it there. The future of the
//! next request batch replaces it in place. Each poller recycles its slots, so an idle connection
//! has no future and a busy one allocates none. The future need not be `Send`.

use std::cell::RefCell;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use super::Connection;
use super::dispatcher::{CallFailure, Dispatcher};
use super::request_batch::{CallOutcome, HandlerStage, SharedHandlers};
use super::shared::Shared;
use crate::guard::{CaughtPanic, guard};
use crate::sync::Arc;

/// The maximum number of unused slots that a poller keeps.
const MAX_SPARE: usize = 64;

/// Calls handlers of type `H` on the poller's thread, with futures `F` that `make` creates.
pub(crate) struct InlineDispatcher<H, M, F> {
    pub(crate) handlers: SharedHandlers<H>,
    pub(crate) make: M,
    pub(crate) spare: Rc<FutureSlotPool<F>>,
}

impl<H, M, F> Dispatcher for InlineDispatcher<H, M, F>
where
    H: 'static,
    M: Fn(SharedHandlers<H>, Connection, HandlerStage) -> F + 'static,
    F: Future<Output = CallOutcome> + 'static,
{
    type Call = FutureSlot<F>;

    const OFFLOADED: bool = false;

    #[inline]
    fn begin(
        &self,
        connection: Connection,
        stage: HandlerStage,
    ) -> Result<FutureSlot<F>, CaughtPanic> {
        let mut slot = self.spare.take();
        let handlers = Rc::clone(&self.handlers);
        guard(|| slot.set(Some((self.make)(handlers, connection, stage))))?;
        Ok(slot)
    }

    #[inline]
    fn poll(
        &self,
        slot: &mut FutureSlot<F>,
        context: &mut Context<'_>,
    ) -> Poll<Result<CallOutcome, CallFailure>> {
        let Some(future) = slot.as_mut().as_pin_mut() else {
            return Poll::Pending;
        };
        match guard(|| future.poll(context)) {
            Ok(Poll::Pending) => Poll::Pending,
            Ok(Poll::Ready(outcome)) => Poll::Ready(Ok(outcome)),
            Err(CaughtPanic) => Poll::Ready(Err(CallFailure::Panicked)),
        }
    }

    fn is_polling(&self, _slot: &FutureSlot<F>) -> bool {
        false
    }

    fn external_wakers(&self, _slot: &FutureSlot<F>, shared: &Arc<Shared>, limits: u32) -> usize {
        // Every waker holds one count of the shared state. The other three counts are those of the
        // engine, of its own waker and of the holder of the connection.
        Arc::strong_count(shared).saturating_sub(3 + limits as usize)
    }

    fn cancel(&self, _slot: &FutureSlot<F>) -> bool {
        false
    }

    #[inline]
    fn release(&self, slot: FutureSlot<F>) {
        self.spare.recycle(slot);
    }

    /// Keeps the future in place until the next replaces it. Its type is ours, and it released all
    /// it held when it returned.
    #[inline]
    fn release_finished(&self, slot: FutureSlot<F>) {
        self.spare.keep(slot);
    }
}

/// Pinned memory for a future of one type, reused for many futures.
pub(crate) type FutureSlot<F> = Pin<Box<Option<F>>>;

/// The unused slots of one poller.
#[derive(Debug)]
pub(crate) struct FutureSlotPool<F> {
    slots: RefCell<Vec<FutureSlot<F>>>,
}

impl<F> Default for FutureSlotPool<F> {
    fn default() -> Self {
        Self {
            slots: RefCell::default(),
        }
    }
}

impl<F: Future> FutureSlotPool<F> {
    /// Returns an empty slot. Allocates if none is spare.
    #[inline]
    fn take(&self) -> FutureSlot<F> {
        self.slots
            .borrow_mut()
            .pop()
            .unwrap_or_else(|| Box::pin(None))
    }

    /// Empties a slot and keeps it. The content is user code and may panic when dropped.
    #[inline]
    fn recycle(&self, mut slot: FutureSlot<F>) {
        if guard(|| slot.set(None)).is_err() {
            // The slot is half dropped and cannot be reused.
            return;
        }
        self.keep(slot);
    }

    #[inline]
    fn keep(&self, slot: FutureSlot<F>) {
        let mut slots = self.slots.borrow_mut();
        if slots.len() < MAX_SPARE {
            slots.push(slot);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn future_slots_are_reused_and_bounded() {
        let spare: FutureSlotPool<std::future::Ready<()>> = FutureSlotPool::default();
        let mut slot = spare.take();
        slot.set(Some(std::future::ready(())));
        let address = std::ptr::from_ref(&*slot);
        spare.recycle(slot);
        let again = spare.take();
        assert!(std::ptr::eq(&*again, address));
        assert!(again.is_none());
        (0..2 * MAX_SPARE).for_each(|_| spare.recycle(Box::pin(None)));
        assert_eq!(spare.slots.borrow().len(), MAX_SPARE);
    }
}
