// SPDX-License-Identifier: MIT OR Apache-2.0
//! Connects to one of several addresses: starts the attempts that [`HappyEyeballs`] plans.
//!
//! The race is polled with the dial's future, and reads the clock only there. Each attempt has the
//! deadline itself. The timer here is for the start of the next attempt only, so there is none once
//! all have started.

use std::future::{Future, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Instant;

use super::Dialer;
use super::attempt::DialFuture;
use super::happy_eyeballs::{EyeballsStep, HappyEyeballs};
use crate::addr::Addr;
use crate::connection::Connection;
use crate::error::ErrorKind;
use crate::time::{Sleep, sleep_until};

/// The attempts of one dial. Dropping an attempt abandons it.
struct Race<'a> {
    dialer: &'a Dialer,
    plan: HappyEyeballs,
    deadline: Option<Instant>,
    /// In the order in which they started.
    attempts: Vec<DialFuture>,
    /// The timer for the next attempt, and its time.
    delay: Option<(Instant, Sleep)>,
}

/// Returns the connection of the first attempt that succeeds.
pub(super) async fn race(
    dialer: &Dialer,
    addrs: Vec<SocketAddr>,
    deadline: Option<Instant>,
) -> io::Result<Connection> {
    let plan = HappyEyeballs::new(addrs, deadline).ok_or(ErrorKind::NoAddress)?;
    let mut race = Race {
        dialer,
        plan,
        deadline,
        attempts: Vec::new(),
        delay: None,
    };
    poll_fn(|context| race.poll(context)).await
}

impl Race<'_> {
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<io::Result<Connection>> {
        loop {
            if let Some(connection) = self.poll_attempts(context) {
                return Poll::Ready(Ok(connection));
            }
            match self.plan.next_step(Instant::now()) {
                EyeballsStep::Connect(addr) => {
                    match self.dialer.start_attempt(Addr::Tcp(addr), self.deadline) {
                        Ok(attempt) => self.attempts.push(attempt),
                        Err(error) => self.plan.attempt_failed(error),
                    }
                }
                EyeballsStep::Wait(until) => {
                    if self.poll_delay(until, context) {
                        return Poll::Pending;
                    }
                }
                EyeballsStep::Failed(error) => return Poll::Ready(Err(error)),
            }
        }
    }

    /// Polls the attempts. Returns the first connection and reports failures to the plan.
    fn poll_attempts(&mut self, context: &mut Context<'_>) -> Option<Connection> {
        let mut index = 0;
        while let Some(attempt) = self.attempts.get_mut(index) {
            match Pin::new(attempt).poll(context) {
                Poll::Ready(Ok(connection)) => return Some(connection),
                Poll::Ready(Err(error)) => {
                    drop(self.attempts.remove(index));
                    self.plan.attempt_failed(error);
                }
                Poll::Pending => index += 1,
            }
        }
        None
    }

    /// Returns whether the race has to wait: until `until`, or, with `None`, for an attempt.
    /// Registers the waker.
    fn poll_delay(&mut self, until: Option<Instant>, context: &mut Context<'_>) -> bool {
        let Some(until) = until else {
            self.delay = None;
            return true;
        };
        let pause = match &mut self.delay {
            Some((at, pause)) if *at == until => pause,
            other => &mut other.insert((until, sleep_until(until))).1,
        };
        Pin::new(pause).poll(context).is_pending()
    }
}
