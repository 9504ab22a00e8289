// SPDX-License-Identifier: MIT OR Apache-2.0
//! The end of this side's stream while the peer's goes on.
//!
//! The outbox takes no more from the moment it is asked for; the poller sends what is in it, and
//! then our FIN. The input goes on as before. When the peer's FIN has come too there is nothing left
//! to wait for: the connection ends, as one that follows its peer.

use std::net::Shutdown;
use std::os::fd::AsFd;

use netpoll_sys::socket;

use super::dispatcher::{Dispatcher, Owner};
use super::engine::Engine;
use super::halves::OwnedWriter;
use super::input_buffer::InputEnd;
use super::lifecycle::{InputState, OutputState};
use super::shared::{CloseRequest, Shared};
use super::writer::Writer;
use crate::error::CloseReason;
use crate::sync::lock;

impl Writer<'_> {
    /// Ends this side's stream: what was put is sent, and then FIN. What is not committed is
    /// dropped. Returns at once; [`flush`](Self::flush) waits until all of it has left. Idempotent.
    ///
    /// What is put from now on is discarded, and `flush` says so with
    /// [`WriteAfterShutdown`](crate::WriteAfterShutdown). Reading goes on. The connection ends, with
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
    /// writer.shutdown();
    /// while let Some(answer) = reader.chunk().await? {
    ///     println!("{} bytes", answer.len());
    /// }
    /// # Ok(()) }
    /// ```
    pub fn shutdown(&mut self) {
        self.shared().shut_down_output();
    }
}

impl OwnedWriter {
    /// As [`Writer::shutdown`].
    pub fn shutdown(&mut self) {
        self.writer().shutdown();
    }
}

impl Shared {
    fn shut_down_output(&self) {
        let uncommitted = lock(&self.output_buffer).shut_down();
        drop(uncommitted);
        self.notify_wait_queue();
        self.request_close(CloseRequest::HalfClose);
    }
}

impl<C: Dispatcher> Engine<C> {
    /// Sends our FIN, if it was asked for and everything before it has left.
    pub(super) fn send_fin_if_requested(&mut self) {
        if self.shared.close_request() != CloseRequest::HalfClose
            || self.lifecycle.output() == OutputState::Ended
        {
            return;
        }
        let mut output_buffer = lock(&self.shared.output_buffer);
        if output_buffer.unsent() == 0 && self.lifecycle.broken().is_none() {
            output_buffer.set_fin_sent();
            drop(output_buffer);
            self.lifecycle.end_output();
            // A peer that has torn the connection down needs no FIN.
            let _sent = socket::shutdown(self.shared.as_fd(), Shutdown::Write).ok();
        }
    }

    /// Of a connection that somebody owns, both streams have ended or broke: only its memory is left
    /// to him.
    pub(super) fn close_owned_if_ended(&mut self) {
        if self.lifecycle.input() == InputState::Open || !matches!(self.owner, Owner::User) {
            return;
        }
        match self.lifecycle.broken().cloned() {
            None if self.lifecycle.output() == OutputState::Ended => {
                self.begin_close(CloseReason::PeerFin)
            }
            None => {}
            Some(reason) => {
                // Who has read a FIN keeps it, although no answer can be sent.
                let input_buffer = self.shared.input_buffer_if_any();
                let fin = input_buffer
                    .is_some_and(|input_buffer| matches!(input_buffer.end, Some(InputEnd::Fin)));
                if !fin {
                    self.close_now(reason);
                }
            }
        }
    }
}
