// SPDX-License-Identifier: MIT OR Apache-2.0
//! One connection, from its first byte to its end.
//!
//! hyper serves it. [`drive`] polls hyper, and decides when the connection takes no more requests:
//! the server drains, or the peer has sent none for too long. hyper then ends it in order.

use std::error::Error;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll};

use hyper::server::conn::{http1, http2};
use hyper::{Request, Response};
use netpoll::hyper::{LocalExecutor, Timer};
use netpoll::{BoxError, Connection};
use tower_service::Service;

use crate::activity::{Activity, Phase};
use crate::body::Body;
use crate::conn_info::ConnInfo;
use crate::io::ObservedIo;
use crate::phase_clock::PhaseClock;
use crate::protocol::{Protocol, detect, wait_for_first_byte};
use crate::request_service::RequestService;
use crate::settings::{
    CONNECTION_WINDOW, MAX_HEAD, MAX_HEADER_LIST, MAX_PENDING_RESETS, MAX_STREAMS, PING_INTERVAL,
    PING_TIMEOUT, STREAM_WINDOW, Settings,
};

/// The service of an HTTP connection: hyper's for its version.
type HttpService<S> = RequestService<S>;

/// Serves a connection to its end.
///
/// # Errors
///
/// Those of the service and of its bodies. What the peer does wrong is no error.
pub(crate) async fn serve<S, B>(
    mut conn: Connection,
    make_service: impl FnOnce(&ConnInfo) -> S,
    settings: Settings,
) -> Result<(), BoxError>
where
    S: Service<Request<Body>, Response = Response<B>> + Clone + 'static,
    S::Error: Into<BoxError>,
    B: http_body::Body + 'static,
    B::Error: Into<BoxError>,
{
    // From here on a drain leaves the input as it is.
    let mut draining = conn.draining();
    let first = wait_for_first_byte(&mut conn, &mut draining).await;
    let Ok(true) = first else { return Ok(()) };
    let Ok(Some(protocol)) = detect(&mut conn, settings.head_timeout).await else {
        return Ok(());
    };
    let info = ConnInfo::new(&conn);
    let activity = Rc::<Activity>::default();
    let service = HttpService {
        service: make_service(&info),
        info,
        settings,
        activity: Rc::clone(&activity),
    };
    let io = ObservedIo {
        conn,
        activity: Rc::clone(&activity),
    };
    let handle = io.conn.handle();
    let clock = PhaseClock::new(&settings);
    let served = match protocol {
        Protocol::Http1 => {
            let connection = http1().serve_connection(io, service);
            drive(connection, &activity, clock, draining).await
        }
        Protocol::Http2 => {
            let executor = LocalExecutor::default();
            let connection = http2(executor.clone()).serve_connection(io, service);
            let driven = drive(connection, &activity, clock, draining);
            executor.run(driven).await
        }
    };
    match served {
        // The peer is too slow for an orderly end.
        Ok(DriveEnd::TimedOut) => {
            handle.abort();
            Ok(())
        }
        // hyper's text does not name the cause, which is what a log line needs.
        Err(error) if error.is_user() => Err(match error.source() {
            Some(source) => format!("{error}: {source}").into(),
            None => error.into(),
        }),
        Ok(DriveEnd::Served) | Err(_) => Ok(()),
    }
}

fn http1() -> http1::Builder {
    let mut builder = http1::Builder::new();
    builder.max_buf_size(MAX_HEAD);
    builder
}

fn http2(executor: LocalExecutor) -> http2::Builder<LocalExecutor> {
    let mut builder = http2::Builder::new(executor);
    builder
        .timer(Timer)
        .max_concurrent_streams(MAX_STREAMS)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_header_list_size(MAX_HEADER_LIST)
        .max_pending_accept_reset_streams(MAX_PENDING_RESETS)
        .keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_TIMEOUT);
    builder
}

/// A connection of hyper, of either version.
trait HttpConnection: Future<Output = hyper::Result<()>> {
    /// Whether input without a request in flight is a part of a head.
    const HAS_HEADS: bool;

    fn graceful_shutdown(self: Pin<&mut Self>);
}

impl<S, B> HttpConnection for http1::Connection<ObservedIo, HttpService<S>>
where
    S: Service<Request<Body>, Response = Response<B>> + Clone + 'static,
    S::Error: Into<BoxError>,
    B: http_body::Body + 'static,
    B::Error: Into<BoxError>,
{
    const HAS_HEADS: bool = true;

    fn graceful_shutdown(self: Pin<&mut Self>) {
        self.graceful_shutdown();
    }
}

impl<S, B> HttpConnection for http2::Connection<ObservedIo, HttpService<S>, LocalExecutor>
where
    S: Service<Request<Body>, Response = Response<B>> + Clone + 'static,
    S::Error: Into<BoxError>,
    B: http_body::Body + 'static,
    B::Error: Into<BoxError>,
{
    const HAS_HEADS: bool = false;

    fn graceful_shutdown(self: Pin<&mut Self>) {
        self.graceful_shutdown();
    }
}

/// How the serving of a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum DriveEnd {
    /// hyper has ended it.
    Served,
    /// The peer neither sent a head in time nor ended the connection.
    TimedOut,
}

/// Polls a connection of hyper to its end.
async fn drive<C: HttpConnection>(
    connection: C,
    activity: &Activity,
    clock: PhaseClock,
    draining: impl Future<Output = ()> + Unpin,
) -> hyper::Result<DriveEnd> {
    let mut connection = pin!(connection);
    let mut driver = Driver {
        clock,
        draining,
        drain: DrainStep::Open,
    };
    poll_fn(|context| driver.poll(connection.as_mut(), activity, context)).await
}

/// How far a connection has come on its way to take no more requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum DrainStep {
    Open,
    /// The poller reads what the kernel holds before the next poll.
    Receiving,
    /// The head that has begun to arrive is awaited.
    AwaitingHead,
    /// hyper ends the connection.
    Closing,
}

struct Driver<D> {
    clock: PhaseClock,
    draining: D,
    drain: DrainStep,
}

impl<D: Future<Output = ()> + Unpin> Driver<D> {
    fn poll<C: HttpConnection>(
        &mut self,
        mut connection: Pin<&mut C>,
        activity: &Activity,
        context: &mut Context<'_>,
    ) -> Poll<hyper::Result<DriveEnd>> {
        loop {
            if let Poll::Ready(ended) = connection.as_mut().poll(context) {
                return Poll::Ready(ended.map(|()| DriveEnd::Served));
            }
            if !C::HAS_HEADS {
                activity.discard_input();
            }
            if self.advance_drain::<C>(activity, context) {
                connection.as_mut().graceful_shutdown();
                continue;
            }
            match self.clock.poll(activity, context) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Phase::Idle) if self.drain != DrainStep::Closing => {
                    self.close(activity);
                    connection.as_mut().graceful_shutdown();
                }
                Poll::Ready(_) => return Poll::Ready(Ok(DriveEnd::TimedOut)),
            }
        }
    }

    fn close(&mut self, activity: &Activity) {
        activity.set_closing();
        self.drain = DrainStep::Closing;
        self.clock.restart();
    }

    /// Returns whether hyper should now end the connection.
    fn advance_drain<C: HttpConnection>(
        &mut self,
        activity: &Activity,
        context: &mut Context<'_>,
    ) -> bool {
        match self.drain {
            DrainStep::Open => {
                if Pin::new(&mut self.draining).poll(context).is_pending() {
                    return false;
                }
                // Answers from now on say that no request may follow.
                activity.set_closing();
                self.drain = DrainStep::Receiving;
                context.waker().wake_by_ref();
                false
            }
            DrainStep::Receiving | DrainStep::AwaitingHead => {
                if activity.phase() == Phase::Head {
                    self.drain = DrainStep::AwaitingHead;
                    return false;
                }
                self.close(activity);
                true
            }
            DrainStep::Closing => false,
        }
    }
}
