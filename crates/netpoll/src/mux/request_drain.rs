// SPDX-License-Identifier: MIT OR Apache-2.0
//! [`RequestDrain`]: the requests of a connection until the peer ends its stream, or the connection drains.
//!
//! A connection that drains is read to the end of what its peer had sent by then. A request that is there
//! whole is taken; so is one of which a part is there, when its rest has come. The next one is not, also
//! where it comes along with that rest: a peer that never stops sending would keep the server for ever.

use std::io;
use std::sync::Weak;
use std::task::Poll;

use crate::connection::Connection;
use crate::connection::shared::Shared;
use crate::sync::Arc;

/// Says when there are no more requests.
#[derive(Debug)]
pub(super) struct RequestDrain {
    /// Weakly, so that it is no holder of the connection beside the handler's.
    shared: Weak<Shared>,
    state: RequestDrainState,
}

/// What is still taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum RequestDrainState {
    Open,
    /// The request that is waited for.
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

    /// Whether there are no more requests.
    pub(super) fn has_ended(&self) -> bool {
        self.state == RequestDrainState::Ended
    }

    /// What a poll for the next request comes to; `None` if there is none.
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
