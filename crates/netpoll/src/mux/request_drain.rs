// SPDX-License-Identifier: MIT OR Apache-2.0
//! [`RequestDrain`]: decides which requests of a connection are still accepted, until the peer ends
//! its stream or the connection drains.
//!
//! A draining connection is read to the end of the input that its peer had sent when the drain
//! began. A request that is complete by then is accepted. So is one that is partly there, once its
//! rest arrives. The request behind it is rejected even if it arrives together with that rest:
//! otherwise a peer that never stops sending would keep the server alive.

use std::io;
use std::sync::Weak;
use std::task::Poll;

use crate::connection::Connection;
use crate::connection::shared::Shared;
use crate::sync::Arc;

/// Tracks whether a connection accepts more requests.
#[derive(Debug)]
pub(super) struct RequestDrain {
    /// Weak, so that only the handler keeps the connection alive.
    shared: Weak<Shared>,
    state: RequestDrainState,
}

/// Which requests are still accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum RequestDrainState {
    Open,
    /// Only the request that is partly there.
    LastRequest,
    Ended,
}

impl RequestDrain {
    pub(super) fn new(conn: &Connection) -> Self {
        Self {
            shared: Arc::downgrade(conn.shared()),
            state: RequestDrainState::Open,
        }
    }

    /// Returns whether no further request is accepted.
    pub(super) fn has_ended(&self) -> bool {
        self.state == RequestDrainState::Ended
    }

    /// Tracks the result of a poll for the next request and returns it, or `None` if the connection
    /// has drained.
    pub(super) fn observe<F>(
        &mut self,
        polled: Poll<io::Result<Option<F>>>,
    ) -> Poll<io::Result<Option<F>>> {
        match &polled {
            Poll::Pending if self.is_drained() => self.state = RequestDrainState::LastRequest,
            Poll::Ready(Ok(Some(_))) if self.state == RequestDrainState::LastRequest => {
                self.state = RequestDrainState::Ended
            }
            Poll::Ready(Ok(None)) => self.state = RequestDrainState::Ended,
            Poll::Ready(Err(error)) if self.has_drained_for(error) => {
                self.state = RequestDrainState::Ended;
                return Poll::Ready(Ok(None));
            }
            Poll::Pending | Poll::Ready(_) => {}
        }
        polled
    }

    fn is_drained(&self) -> bool {
        self.shared
            .upgrade()
            .is_some_and(|shared| shared.is_drained())
    }

    fn has_drained_for(&self, error: &io::Error) -> bool {
        let shared = self.shared.upgrade();
        shared.is_some_and(|shared| shared.has_drained_for(error))
    }
}
