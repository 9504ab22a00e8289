// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which connection a client's calls go by, and how it comes to another.
//!
//! Nothing dials in the background: the call that finds no connection dials, in its own task, and
//! the others that come meanwhile wait behind it in the order in which they came. If that call is
//! dropped, the next one dials. A dial that has failed is not repeated before its back-off is over.

use std::fmt;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::time::Instant;

use super::client_connection::ClientConnection;
use super::message::CallCodec;
use super::options::Backoff;
use crate::connection::Connection;
use crate::dialer::Dialer;
use crate::dialer::target::ToTarget;
use crate::error::CloseReason;
use crate::foreign::DeferredDrop;
use crate::semaphore::Semaphore;
use crate::sync::{Arc, Mutex, lock};

/// The way to a server.
#[derive(Debug)]
pub(super) struct Connector<F> {
    state: Mutex<ConnectorState<F>>,
    /// Who dials, where anybody does.
    redialer: Option<Redialer>,
}

#[derive(Debug)]
struct ConnectorState<F> {
    connection: Option<Arc<ClientConnection<F>>>,
    /// Connections so far.
    dialed: u64,
    failures: Option<DialFailures>,
}

/// The dials that have failed since one succeeded.
#[derive(Debug)]
struct DialFailures {
    count: u32,
    error: Arc<io::Error>,
    retry_at: Instant,
}

/// Dials the server once.
type DialFn =
    dyn Fn() -> Pin<Box<dyn Future<Output = io::Result<Connection>> + Send>> + Send + Sync;

struct Redialer {
    dial: Box<DialFn>,
    /// One at a time.
    semaphore: Arc<Semaphore>,
}

impl fmt::Debug for Redialer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dials")
            .field("one", &self.semaphore)
            .finish_non_exhaustive()
    }
}

impl<F: Send + 'static> Connector<F> {
    /// By this connection, and when that has ended by none.
    pub(super) fn fixed(connection: Arc<ClientConnection<F>>) -> Self {
        Self {
            state: Mutex::new(ConnectorState {
                connection: Some(connection),
                dialed: 1,
                failures: None,
            }),
            redialer: None,
        }
    }

    /// By a connection to `target`, made when one is needed. A name is resolved for each.
    pub(super) fn dialing<T>(dialer: Dialer, target: T) -> Self
    where
        T: ToTarget + Send + Sync + 'static,
    {
        let target = Arc::new(target);
        let dial = Box::new(move || {
            let (dialer, target) = (dialer.clone(), Arc::clone(&target));
            let dialed: Pin<Box<dyn Future<Output = _> + Send>> =
                Box::pin(async move { dialer.dial(&*target).await });
            dialed
        });
        Self {
            state: Mutex::new(ConnectorState {
                connection: None,
                dialed: 0,
                failures: None,
            }),
            redialer: Some(Redialer {
                dial,
                semaphore: Semaphore::new(1),
            }),
        }
    }

    /// Whether it makes another connection when one has ended.
    pub(super) fn can_redial(&self) -> bool {
        self.redialer.is_some()
    }

    /// The last connection there was. It may be over.
    pub(super) fn current(&self) -> Option<Arc<ClientConnection<F>>> {
        lock(&self.state).connection.clone()
    }

    /// Connections so far.
    pub(super) fn dialed(&self) -> u64 {
        lock(&self.state).dialed
    }

    /// A connection that takes calls: another's that has just been made, or a new one.
    pub(super) async fn connect<C: CallCodec<Frame = F>>(
        &self,
        codec: &Arc<C>,
        backoff: &Backoff,
    ) -> io::Result<Arc<ClientConnection<F>>> {
        let Some(redialer) = &self.redialer else {
            let closing = self
                .current()
                .and_then(|connection| connection.close_reason());
            return Err(closing.unwrap_or(CloseReason::Forgotten).to_error());
        };
        let _permit = redialer.semaphore.acquire().await;
        if let Some(connection) = self.current()
            && connection.close_reason().is_none()
        {
            return Ok(connection);
        }
        self.check_backoff()?;
        match (redialer.dial)().await {
            Ok(conn) => {
                let before = self.current().map_or(0, |connection| connection.started());
                let connection = ClientConnection::open(conn, codec, before);
                let mut state = lock(&self.state);
                let failed = DeferredDrop::from(state.failures.take());
                state.dialed += 1;
                let before = state.connection.replace(Arc::clone(&connection));
                drop(state);
                drop((before, failed));
                Ok(connection)
            }
            Err(error) => Err(self.record_failure(error, backoff)),
        }
    }

    /// Whether the back-off of the last failure is over.
    fn check_backoff(&self) -> io::Result<()> {
        match &lock(&self.state).failures {
            Some(failed) if Instant::now() < failed.retry_at => Err(copy_error(&failed.error)),
            _ => Ok(()),
        }
    }

    fn record_failure(&self, error: io::Error, backoff: &Backoff) -> io::Error {
        let mut state = lock(&self.state);
        let times = state.failures.as_ref().map_or(0, |failed| failed.count);
        let times = times.saturating_add(1);
        let why = Arc::new(error);
        let before = DeferredDrop::from(state.failures.replace(DialFailures {
            count: times,
            error: Arc::clone(&why),
            retry_at: Instant::now() + backoff.delay_after(times),
        }));
        drop(state);
        // Of a resolver of the user's own.
        drop(before);
        copy_error(&why)
    }
}

/// The same error once more.
fn copy_error(error: &Arc<io::Error>) -> io::Error {
    match error.raw_os_error() {
        Some(errno) => io::Error::from_raw_os_error(errno),
        None => io::Error::new(error.kind(), Arc::clone(error)),
    }
}
