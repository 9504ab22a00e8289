// SPDX-License-Identifier: MIT OR Apache-2.0
//! [`Intake`]: the requests of a connection until the peer ends its stream, or the connection drains.
//!
//! A connection that drains is read to the end of what its peer had sent by then. A request that is there
//! whole is taken; so is one of which a part is there, when its rest has come. The next one is not, also
//! where it comes along with that rest: a peer that never stops sending would keep the server for ever.

use std::future::Future;
use std::io;
use std::task::{Context, Poll};

use crate::connection::Connection;
use crate::connection::link::Link;
use crate::sync::Arc;

/// Says when there are no more requests.
#[derive(Debug)]
pub(super) struct Intake {
    link: Arc<Link>,
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
            link: Arc::clone(conn.link()),
            takes: Takes::All,
        }
    }

    /// Whether there are no more requests.
    pub(super) fn has_ended(&self) -> bool {
        self.takes == Takes::Nothing
    }

    /// The next request, which `frame` reads; `None` if there is none.
    pub(super) fn poll_next<F>(
        &mut self,
        frame: std::pin::Pin<&mut impl Future<Output = io::Result<Option<F>>>>,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<Option<F>>> {
        if self.has_ended() {
            return Poll::Ready(Ok(None));
        }
        let polled = frame.poll(context);
        match &polled {
            Poll::Pending if self.link.is_drained() => self.takes = Takes::Last,
            Poll::Ready(Ok(Some(_))) if self.takes == Takes::Last => self.takes = Takes::Nothing,
            Poll::Ready(Ok(None)) => self.takes = Takes::Nothing,
            Poll::Ready(Err(error)) if self.link.has_drained_for(error) => {
                self.takes = Takes::Nothing;
                return Poll::Ready(Ok(None));
            }
            Poll::Pending | Poll::Ready(_) => {}
        }
        polled
    }
}
