// SPDX-License-Identifier: MIT OR Apache-2.0
//! [`Intake`]: the requests of a connection until the peer ends its stream, or the connection drains.
//!
//! A connection that drains is read to the end of what its peer had sent by then. A request that is there
//! whole is taken; so is one of which a part is there, when its rest has come. The next one is not, also
//! where it comes along with that rest: a peer that never stops sending would keep the server for ever.

use std::io;
use std::sync::Weak;
use std::task::Poll;

use crate::connection::Connection;
use crate::connection::link::Link;
use crate::sync::Arc;

/// Says when there are no more requests.
#[derive(Debug)]
pub(super) struct Intake {
    /// Weakly, so that it is no holder of the connection beside the handler's.
    link: Weak<Link>,
    takes: Takes,
}

/// What is still taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Takes {
    All,
    /// The request that is waited for.
    Last,
    Nothing,
}

impl Intake {
    pub(super) fn of(conn: &Connection) -> Self {
        Self {
            link: Arc::downgrade(conn.link()),
            takes: Takes::All,
        }
    }

    /// Whether there are no more requests.
    pub(super) fn has_ended(&self) -> bool {
        self.takes == Takes::Nothing
    }

    /// What a poll for the next request comes to; `None` if there is none.
    pub(super) fn take<F>(
        &mut self,
        polled: Poll<io::Result<Option<F>>>,
    ) -> Poll<io::Result<Option<F>>> {
        match &polled {
            Poll::Pending if self.is_drained() => self.takes = Takes::Last,
            Poll::Ready(Ok(Some(_))) if self.takes == Takes::Last => self.takes = Takes::Nothing,
            Poll::Ready(Ok(None)) => self.takes = Takes::Nothing,
            Poll::Ready(Err(error)) if self.has_drained_for(error) => {
                self.takes = Takes::Nothing;
                return Poll::Ready(Ok(None));
            }
            Poll::Pending | Poll::Ready(_) => {}
        }
        polled
    }

    fn is_drained(&self) -> bool {
        self.link.upgrade().is_some_and(|link| link.is_drained())
    }

    fn has_drained_for(&self, error: &io::Error) -> bool {
        let link = self.link.upgrade();
        link.is_some_and(|link| link.has_drained_for(error))
    }
}
