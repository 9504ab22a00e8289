// SPDX-License-Identifier: MIT OR Apache-2.0
//! [`UserFuture`]: a user's future inside one of ours.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use crate::guard::guard;

/// Awaits a user's future that the caller has pinned: `UserFuture::new(pin!(Some(future))).await`.
///
/// A future that panics in its poll is dropped while that panic unwinds our future. If its drop
/// panicked as well, the process would abort; so that drop is guarded. A drop that panics at
/// another time is one panic, which reaches the caller like that of a poll.
#[derive(Debug)]
pub(crate) struct UserFuture<'a, F>(Pin<&'a mut Option<F>>);

impl<'a, F: Future> UserFuture<'a, F> {
    /// Awaits the future in `place`.
    #[inline]
    pub(crate) fn new(place: Pin<&'a mut Option<F>>) -> Self {
        Self(place)
    }
}

impl<F: Future> Future for UserFuture<'_, F> {
    type Output = F::Output;

    #[inline]
    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        let Some(future) = self.0.as_mut().as_pin_mut() else {
            return Poll::Pending;
        };
        let output = std::task::ready!(future.poll(context));
        self.0.set(None);
        Poll::Ready(output)
    }
}

impl<F> Drop for UserFuture<'_, F> {
    #[inline]
    fn drop(&mut self) {
        if self.0.is_some() {
            empty_while_panicking(self.0.as_mut());
        }
    }
}

/// Drops a user's future in `place`, guarded, if the thread panics. Else it stays, and its owner
/// drops it.
#[cold]
pub(crate) fn empty_while_panicking<F>(mut place: Pin<&mut Option<F>>) {
    if std::thread::panicking() {
        let _panicked = guard(|| place.set(None)).is_err();
    }
}

#[cfg(all(test, not(any(netpoll_loom, netpoll_shuttle))))]
mod tests {
    use super::*;
    use std::pin::pin;
    use std::task::Waker;

    /// Panics in its poll and in its drop.
    struct PanicsTwice;

    impl Future for PanicsTwice {
        type Output = ();

        fn poll(self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<()> {
            panic!("polled");
        }
    }

    impl Drop for PanicsTwice {
        fn drop(&mut self) {
            panic!("dropped");
        }
    }

    #[test]
    fn a_future_that_panics_in_poll_and_drop_panics_once() {
        let awaits = || async { UserFuture::new(pin!(Some(PanicsTwice))).await };
        let polled = guard(|| {
            let mut context = Context::from_waker(Waker::noop());
            pin!(awaits()).poll(&mut context).is_ready()
        });
        assert!(polled.is_err());
        // If it was never polled, it panics once, and the caller gets that panic.
        assert!(
            guard(|| drop(awaits())).is_ok(),
            "the future was not created"
        );
        assert!(guard(|| drop(UserFuture::new(pin!(Some(PanicsTwice))))).is_err());
    }

    #[test]
    fn a_completed_future_is_dropped_at_once_and_its_panic_reaches_the_caller() {
        struct Done;
        impl Future for Done {
            type Output = ();
            fn poll(self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<()> {
                Poll::Ready(())
            }
        }
        impl Drop for Done {
            fn drop(&mut self) {
                panic!("dropped");
            }
        }
        let polled = guard(|| {
            let mut context = Context::from_waker(Waker::noop());
            let mut place = pin!(Some(Done));
            let mut awaits = UserFuture::new(place.as_mut());
            Pin::new(&mut awaits).poll(&mut context).is_ready()
        });
        assert!(polled.is_err());
    }
}
