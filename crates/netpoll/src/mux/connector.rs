// SPDX-License-Identifier: MIT OR Apache-2.0
//! Provides the connection for a client's calls.
//!
//! No task dials in the background. A call that finds no connection dials, in its own task, and
//! later calls queue behind it. If that call is dropped, the next one dials. After a failed dial no
//! call dials until the back-off is over.

use std::fmt;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::time::Instant;

use super::client_builder::Protocol;
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

/// Provides connections to one server.
#[derive(Debug)]
pub(super) struct Connector<F> {
    state: Mutex<ConnectorState<F>>,
    /// Dials further connections, if the client was created with a dialer.
    redialer: Option<Redialer>,
}

#[derive(Debug)]
struct ConnectorState<F> {
    connection: Option<Arc<ClientConnection<F>>>,
    /// The number of connections so far.
    dialed: u64,
    failures: Option<DialFailures>,
}

/// The consecutive failures since the last successful dial.
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
    /// Has one permit: one dial at a time.
    semaphore: Arc<Semaphore>,
}

impl fmt::Debug for Redialer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Redialer")
            .field("semaphore", &self.semaphore)
            .finish_non_exhaustive()
    }
}

impl<F: Send + 'static> Connector<F> {
    /// Uses this connection only.
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

    /// Dials `target` on demand. A name is resolved for each dial.
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

    /// Returns whether another connection is opened when one has ended.
    pub(super) fn can_redial(&self) -> bool {
        self.redialer.is_some()
    }

    /// Returns the last connection. It may have ended.
    pub(super) fn current(&self) -> Option<Arc<ClientConnection<F>>> {
        lock(&self.state).connection.clone()
    }

    /// Returns the number of connections so far.
    pub(super) fn dialed(&self) -> u64 {
        lock(&self.state).dialed
    }

    /// Returns a connection that accepts calls: one that another call has just opened, or a new
    /// one.
    pub(super) async fn connect<C: CallCodec<Frame = F>>(
        &self,
        protocol: &Arc<Protocol<C>>,
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
                let connection = ClientConnection::open(conn, protocol, before);
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

    /// Returns the last dial's error while its back-off is not over.
    fn check_backoff(&self) -> io::Result<()> {
        match &lock(&self.state).failures {
            Some(failed) if Instant::now() < failed.retry_at => Err(copy_error(&failed.error)),
            _ => Ok(()),
        }
    }

    fn record_failure(&self, error: io::Error, backoff: &Backoff) -> io::Error {
        let mut state = lock(&self.state);
        let count = state.failures.as_ref().map_or(0, |failed| failed.count);
        let count = count.saturating_add(1);
        let error = Arc::new(error);
        let before = DeferredDrop::from(state.failures.replace(DialFailures {
            count,
            error: Arc::clone(&error),
            retry_at: Instant::now() + backoff.delay_after(count),
        }));
        drop(state);
        // The old error may come from a user's resolver, so it is dropped after the lock.
        drop(before);
        copy_error(&error)
    }
}

/// Returns a copy of an error: by its errno, or wrapping the shared one.
fn copy_error(error: &Arc<io::Error>) -> io::Error {
    match error.raw_os_error() {
        Some(errno) => io::Error::from_raw_os_error(errno),
        None => io::Error::new(error.kind(), Arc::clone(error)),
    }
}
