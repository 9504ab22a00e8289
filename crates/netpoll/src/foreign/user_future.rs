// SPDX-License-Identifier: MIT OR Apache-2.0
//! [`UserFuture`]: a future of the user's within one of ours.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use crate::guard::guard;

/// Awaits a future of the user's, in a place that the caller has pinned:
/// `UserFuture::new(pin!(Some(future))).await`.
///
/// A future that panics when it is polled is dropped while that panic unwinds the future of ours that
/// awaits it. If its drop panicked as well, the process would abort; so it is guarded. A drop that panics
/// otherwise is one panic, which goes to the caller as that of a poll does.
#[derive(Debug)]
pub(crate) struct UserFuture<'a, F>(Pin<&'a mut Option<F>>);

impl<'a, F: Future> UserFuture<'a, F> {
    /// The future in `place`.
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

/// Drops a future of the user's in `place`, guarded, if the thread panics. Else it stays, for its owner to
/// drop.
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

    /// Panics when it is polled, and when it is dropped.
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
    fn a_future_that_panics_in_its_poll_and_in_its_drop_is_one_panic() {
        let awaits = || async { UserFuture::new(pin!(Some(PanicsTwice))).await };
        let polled = guard(|| {
            let mut context = Context::from_waker(Waker::noop());
            pin!(awaits()).poll(&mut context).is_ready()
        });
        assert!(polled.is_err());
        // One that was never polled panics once, and the caller has it.
        assert!(guard(|| drop(awaits())).is_ok(), "it was not made");
        assert!(guard(|| drop(UserFuture::new(pin!(Some(PanicsTwice))))).is_err());
    }

    #[test]
    fn a_future_that_is_done_is_dropped_at_once_and_the_panic_of_that_is_the_callers() {
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
