// SPDX-License-Identifier: MIT OR Apache-2.0
//! The end of this side's stream while the peer's goes on.
//!
//! The outbox takes no more from the moment it is asked for; the poller sends what is in it, and
//! then our FIN. The input goes on as before. When the peer's FIN has come too there is nothing left
//! to wait for: the connection ends, as one that follows its peer.

use std::net::Shutdown;
use std::os::fd::AsFd;

use netpoll_sys::socket;

use super::calling::{Caller, Holder};
use super::halves::OwnedWriter;
use super::inbox::InputEnd;
use super::link::{Ending, Link};
use super::session::Session;
use super::state::{Input, Output};
use super::writer::Writer;
use crate::error::CloseReason;
use crate::sync::lock;

impl Writer<'_> {
    /// Ends this side's stream: what was put is sent, and then FIN. What is not committed is
    /// dropped. Returns at once; [`flush`](Self::flush) waits until all of it has left. Idempotent.
    ///
    /// What is put from now on is discarded, and `flush` says so with
    /// [`AfterFinish`](crate::AfterFinish). Reading goes on. The connection ends, with
    /// [`PeerFin`](CloseReason::PeerFin), when the peer's FIN has come as well: one of
    /// [`on_request`](crate::Builder::on_request) when its handler has seen all that came before
    /// it; one that somebody owns at once, and what came can be read all the same. A peer that
    /// never ends its own stream keeps the connection, for as long as its
    /// [`Timeouts`](crate::Timeouts) allow.
    ///
    /// ```no_run
    /// # async fn example(mut conn: netpoll::Connection) -> std::io::Result<()> {
    /// let (mut reader, mut writer) = conn.split();
    /// writer.put_str("all that there is to ask");
    /// writer.finish();
    /// while let Some(answer) = reader.chunk().await? {
    ///     println!("{} bytes", answer.len());
    /// }
    /// # Ok(()) }
    /// ```
    pub fn finish(&mut self) {
        self.link().finish();
    }
}

impl OwnedWriter {
    /// As [`Writer::finish`].
    pub fn finish(&mut self) {
        self.writer().finish();
    }
}

impl Link {
    fn finish(&self) {
        let uncommitted = lock(&self.outbox).finish();
        drop(uncommitted);
        self.tell_line();
        self.ask_end(Ending::Finish);
    }
}

impl<C: Caller> Session<C> {
    /// Sends our FIN, if it was asked for and everything before it has left.
    pub(super) fn finish_output(&mut self) {
        if self.link.ending() != Ending::Finish || self.life.output() == Output::Ended {
            return;
        }
        let mut outbox = lock(&self.link.outbox);
        if outbox.unsent() == 0 && self.life.broken().is_none() {
            outbox.finished();
            drop(outbox);
            self.life.end_output();
            // A peer that has torn the connection down needs no FIN.
            let _sent = socket::shutdown(self.link.as_fd(), Shutdown::Write).ok();
        }
    }

    /// Of a connection that somebody owns, both streams have ended or broke: only its memory is left
    /// to him.
    pub(super) fn end_owned(&mut self) {
        if self.life.input() == Input::Open || !matches!(self.holder, Holder::Owner) {
            return;
        }
        match self.life.broken().cloned() {
            None if self.life.output() == Output::Ended => self.begin_close(CloseReason::PeerFin),
            None => {}
            Some(reason) => {
                // Who has read a FIN keeps it, although no answer can be sent.
                let inbox = self.link.inbox_if_any();
                let fin = inbox.is_some_and(|inbox| matches!(inbox.end, Some(InputEnd::Fin)));
                if !fin {
                    self.die(reason);
                }
            }
        }
    }
}
