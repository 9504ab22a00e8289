// SPDX-License-Identifier: MIT OR Apache-2.0
//! Runs work on every kind of executor.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::task::Poll;

use netpoll::{Connection, Dialer, EventLoop};

use super::{Host, LIMIT, Peer, Server, block_on, tokio_here, until};

/// Returns the outputs of `work` on a blocked thread, in tokio, and on a poller.
pub(crate) fn in_each_executor<T, F>(work: impl Fn() -> F + Send + Sync + 'static) -> Vec<T>
where
    T: Send + 'static,
    F: Future<Output = T>,
{
    let parked = block_on(work());
    let entered = tokio_here::runtime().block_on(work());
    vec![parked, entered, on_a_poller(work)]
}

/// Returns the outputs of `work` with a connection on each executor, while `peer` has the other end
/// on a thread of its own. The next run starts when both have ended; the output of `peer` is
/// dropped then.
pub(crate) fn with_a_peer_in_each_executor<T, F, P>(
    peer: impl Fn(Peer) -> P + Clone + Send + Sync + 'static,
    work: impl Fn(Connection) -> F + Send + Sync + 'static,
) -> Vec<T>
where
    T: Send + 'static,
    F: Future<Output = T>,
    P: Send + 'static,
{
    let work = Arc::new(work);
    in_each_executor(move || {
        let (host, peer, work) = (Host::new(), peer.clone(), Arc::clone(&work));
        let addr = host.addr;
        let facing = std::thread::spawn(move || peer(host.accept()));
        async move {
            let conn = Dialer::new().dial(addr).await.expect("a host");
            let done = work(conn).await;
            until("the peer's end", || facing.is_finished()).await;
            drop(facing.join().expect("a peer that does not panic"));
            done
        }
    })
}

/// Returns the output of `work` in a handler on its poller.
pub(crate) fn on_a_poller<T, F>(work: impl Fn() -> F + Send + Sync + 'static) -> T
where
    T: Send + 'static,
    F: Future<Output = T>,
{
    let (sender, receiver) = channel();
    let sender = Mutex::new(sender);
    let server = Server::start_as_given(EventLoop::builder().pollers(1).on_request(
        async move |conn: &mut Connection| {
            conn.reader().skip(1).await?;
            let done = work().await;
            // A test that has failed has dropped the receiver.
            let _sent = sender.lock().expect("no panic under it").send(done).is_ok();
            Ok(())
        },
    ));
    let mut peer = server.connect();
    peer.send(b"?");
    receiver.recv_timeout(LIMIT).expect("work that ends")
}

/// As [`polled`], on a blocked thread.
pub(crate) fn poll_times<F: Future>(future: F, times: usize) -> Option<F::Output> {
    block_on(polled(future, times))
}

/// Polls `future` up to `times` times, each but the first after a wake, and drops it. Returns its
/// output if it completed.
pub(crate) async fn polled<F: Future>(future: F, times: usize) -> Option<F::Output> {
    let mut future: Pin<&mut F> = pin!(future);
    let mut polls = 0..times;
    poll_fn(|context| match polls.next() {
        None => Poll::Ready(None),
        Some(_) => match future.as_mut().poll(context) {
            Poll::Ready(output) => Poll::Ready(Some(output)),
            Poll::Pending if polls.is_empty() => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        },
    })
    .await
}
