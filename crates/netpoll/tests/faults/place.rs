// SPDX-License-Identifier: MIT OR Apache-2.0
//! A server whose every step may fail.

use std::io;
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::Bytes;
use netpoll::listener::Accept;
use netpoll::{Addr, BoxError, Builder, CloseReason, Connection, EventLoop, Listener, LoopHandle};

use crate::client::PUSH;
use crate::support::{Kind, frame, free_path};

/// The linger time: how long a close waits for a peer that does not take part.
const LINGER: Duration = Duration::from_millis(50);

/// A loop that runs on a thread of its own until it is ended or dropped.
pub(crate) struct Place {
    pub(crate) addr: Addr,
    pub(crate) handle: LoopHandle,
    endings: Receiver<CloseReason>,
    thread: Option<JoinHandle<io::Result<()>>>,
}

/// Returns a listener of `kind` on a free address.
pub(crate) fn listener(kind: Kind) -> io::Result<Listener> {
    match kind {
        Kind::Tcp => Listener::bind("127.0.0.1:0"),
        Kind::Unix => Listener::unix(free_path()),
    }
}

/// From this size on, a body is sent without a copy, in a segment beside its length: with
/// `sendmsg`.
const LARGE: usize = 32 << 10;

/// Serves the rpc wire; a body that starts with [`PUSH`] is answered from another thread.
pub(crate) async fn serve(conn: &mut Connection) -> Result<(), BoxError> {
    let handle = conn.handle();
    let (mut reader, mut writer) = conn.split();
    let len = reader.read_u32().await?;
    let body = reader.slice(len as usize).await?;
    if body.starts_with(PUSH) {
        let answer = Bytes::from(frame(&body));
        std::thread::spawn(move || {
            // The connection may have ended.
            let _pushed = handle.push(answer).is_ok();
        });
        return Ok(());
    }
    writer.put_u32(len);
    if body.len() < LARGE {
        writer.put_slice(&body);
    } else {
        writer.push(body);
    }
    Ok(())
}

/// The builder of most servers here. Their connections have small kernel buffers, so that a large
/// body is not sent at once.
pub(crate) fn rpc() -> Builder {
    let builder = EventLoop::builder().pollers(1).on_request(serve);
    builder.on_accept(|info| {
        // TCP with a buffer of less than two loopback packets waits for delayed acknowledgements.
        let is_tcp = info.peer_addr().as_tcp().is_some();
        let held = if is_tcp { 64 << 10 } else { 8 << 10 };
        let set = socket2::SockRef::from(info).set_send_buffer_size(held);
        set.expect("an open socket");
        Accept::Accept(info.options().clone())
    })
}

/// Resets each connection after its first byte.
pub(crate) fn resetting() -> Builder {
    let builder = EventLoop::builder().pollers(1);
    builder.on_request(async |conn: &mut Connection| {
        conn.reader().skip(1).await?;
        conn.abort();
        Ok(())
    })
}

impl Place {
    pub(crate) fn rpc(kind: Kind) -> io::Result<Self> {
        Self::start(kind, rpc())
    }

    pub(crate) fn start(kind: Kind, builder: Builder) -> io::Result<Self> {
        Self::start_on(listener(kind)?, builder)
    }

    pub(crate) fn start_on(listener: Listener, builder: Builder) -> io::Result<Self> {
        let addr = listener.local_addr()?;
        let (ended, endings) = channel();
        let ended = Mutex::new(ended);
        let observer = move |_: &mut Connection, reason: &CloseReason| {
            let ended = ended.lock().unwrap_or_else(PoisonError::into_inner);
            // The receiver may be gone.
            let _seen = ended.send(reason.clone()).is_ok();
        };
        let builder = builder.linger(LINGER).on_disconnect(observer);
        let running = builder.listen(listener).build()?;
        Ok(Self {
            addr,
            handle: running.handle(),
            endings,
            thread: Some(std::thread::spawn(move || running.run())),
        })
    }

    /// Shuts down within `within`, and returns the close reasons.
    pub(crate) fn end(mut self, within: Duration) -> io::Result<Vec<CloseReason>> {
        let _cut = self.handle.shutdown(within).wait();
        self.join()?;
        Ok(self.endings.try_iter().collect())
    }

    /// Waits for the end of a loop that failed or was shut down.
    fn join(&mut self) -> io::Result<()> {
        match self.thread.take() {
            Some(thread) => thread
                .join()
                .unwrap_or_else(|_| Err(io::Error::other("the loop panicked"))),
            None => Ok(()),
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        drop(self.handle.shutdown(Duration::from_millis(100)));
        // A test that needs the result has called `end`.
        let _ended = self.join().is_ok();
    }
}
