// SPDX-License-Identifier: MIT OR Apache-2.0
//! hyper's executor: tasks of the poller, or tasks within the handler of a connection.

use std::cell::RefCell;
use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll};

use crate::foreign::UserFuture;
use crate::guard::guard;
use crate::task::spawn;
use crate::task::task_set::TaskSet;

/// Runs futures that are `Send` with [`netpoll::spawn`](crate::spawn): on the poller of the handler
/// that hyper runs in. They outlive the connection. If no poller can be started, which is possible
/// only outside of handlers, the future is dropped.
#[derive(Clone, Copy, Debug, Default)]
pub struct Executor;

impl<F> hyper::rt::Executor<F> for Executor
where
    F: Future + Send + 'static,
    F::Output: Send,
{
    fn execute(&self, future: F) {
        drop(spawn(future));
    }
}

/// Runs the futures of one connection within its handler: see [`run`](Self::run). They need not be
/// `Send`, take no lock, and are dropped with the handler.
///
/// A future that panics is dropped, and the others continue: hyper resets the HTTP/2 stream of such
/// a request.
///
/// ```
/// use http_body_util::Full;
/// use hyper::body::{Bytes, Incoming};
/// use hyper::service::service_fn;
/// use hyper::{Request, Response};
/// use netpoll::hyper::LocalExecutor;
/// use netpoll::{BoxError, Connection};
///
/// async fn serve(conn: Connection) -> Result<(), BoxError> {
///     let executor = LocalExecutor::default();
///     let service = service_fn(async |_request: Request<Incoming>| {
///         hyper::Result::Ok(Response::new(Full::new(Bytes::from("hello"))))
///     });
///     let connection = hyper::server::conn::http2::Builder::new(executor.clone())
///         .serve_connection(conn, service);
///     Ok(executor.run(connection).await?)
/// }
/// # let builder = netpoll::EventLoop::builder().on_connection(serve);
/// # drop(builder);
/// ```
#[derive(Clone, Default)]
pub struct LocalExecutor {
    /// Futures that are not started yet.
    queue: Rc<RefCell<Vec<GuardedTask>>>,
}

impl LocalExecutor {
    /// Runs `connection`, and with it every future that it passes to this executor or a clone.
    /// Completes with `connection`; the futures that are left are dropped then.
    ///
    /// Each future is polled only after it was woken. A future costs two allocations.
    pub async fn run<F: Future>(&self, connection: F) -> F::Output {
        let place = pin!(Some(connection));
        let mut connection = UserFuture::new(place);
        let mut tasks = TaskSet::new();
        poll_fn(|context| {
            tasks.end_round();
            let polled = Pin::new(&mut connection).poll(context);
            if polled.is_pending() {
                self.poll_tasks(&mut tasks, context);
            }
            polled
        })
        .await
    }

    /// Starts the futures of the queue, and polls those that were woken.
    fn poll_tasks(&self, tasks: &mut TaskSet<GuardedTask>, context: &Context<'_>) {
        loop {
            // Bound, so that nothing is borrowed while the futures are polled.
            let queue = std::mem::take(&mut *self.queue.borrow_mut());
            for task in queue {
                let _pending = tasks.start(task).is_pending();
            }
            while tasks.poll_next(context).is_ready() {}
            // A future may have passed on others, which need the waker that `poll_next` registers.
            if self.queue.borrow().is_empty() {
                return;
            }
        }
    }
}

impl<F> hyper::rt::Executor<F> for LocalExecutor
where
    F: Future + 'static,
{
    fn execute(&self, future: F) {
        let task = GuardedTask(Some(Box::pin(async move {
            future.await;
        })));
        self.queue.borrow_mut().push(task);
    }
}

impl fmt::Debug for LocalExecutor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocalExecutor").finish_non_exhaustive()
    }
}

/// A future whose panics end it alone.
struct GuardedTask(Option<Pin<Box<dyn Future<Output = ()>>>>);

impl GuardedTask {
    fn discard(&mut self) {
        let future = self.0.take();
        let _panicked = guard(|| drop(future)).is_err();
    }
}

impl Future for GuardedTask {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let Some(future) = &mut self.0 else {
            return Poll::Ready(());
        };
        match guard(|| future.as_mut().poll(context)) {
            Ok(Poll::Pending) => return Poll::Pending,
            Ok(Poll::Ready(())) | Err(_) => self.discard(),
        }
        Poll::Ready(())
    }
}

impl Drop for GuardedTask {
    fn drop(&mut self) {
        self.discard();
    }
}
