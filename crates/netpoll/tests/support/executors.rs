// SPDX-License-Identifier: MIT OR Apache-2.0
//! One piece of work in every kind of place that futures are polled in.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Mutex;
use std::sync::mpsc::channel;
use std::task::Poll;

use netpoll::{Connection, EventLoop};

use super::{LIMIT, Server, block_on};

/// What comes of `work` by parking a thread, on a poller, and where there is tokio, as a task of its.
pub(crate) fn in_each_executor<T, F>(work: impl Fn() -> F + Send + Sync + 'static) -> Vec<T>
where
    T: Send + 'static,
    F: Future<Output = T> + Send + 'static,
{
    let parked = block_on(work());
    #[cfg(feature = "tokio")]
    let task = super::tokio_here::runtime().block_on(work());
    let polled = on_a_poller(work);
    vec![
        parked,
        polled,
        #[cfg(feature = "tokio")]
        task,
    ]
}

/// What comes of `work` in a handler that runs on its poller.
pub(crate) fn on_a_poller<T, F>(work: impl Fn() -> F + Send + Sync + 'static) -> T
where
    T: Send + 'static,
    F: Future<Output = T>,
{
    let (tell, hear) = channel();
    let tell = Mutex::new(tell);
    let server = Server::start_as_given(EventLoop::builder().pollers(1).on_request(
        async move |conn: &mut Connection| {
            conn.reader().skip(1).await?;
            let done = work().await;
            // A test that has failed looks no more.
            let _heard = tell.lock().expect("no panic under it").send(done).is_ok();
            Ok(())
        },
    ));
    let mut peer = server.connect();
    peer.send(b"?");
    hear.recv_timeout(LIMIT).expect("work that ends")
}

/// Polls `future` so many times, each but the first when it has been woken, and drops it. What it
/// has come to, if it has.
pub(crate) fn poll_times<F: Future>(future: F, times: usize) -> Option<F::Output> {
    let mut future: Pin<&mut F> = pin!(future);
    let mut polls = 0..times;
    block_on(poll_fn(|context| match polls.next() {
        None => Poll::Ready(None),
        Some(_) => match future.as_mut().poll(context) {
            Poll::Ready(output) => Poll::Ready(Some(output)),
            Poll::Pending if polls.is_empty() => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        },
    }))
}
