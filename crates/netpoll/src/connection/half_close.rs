// SPDX-License-Identifier: MIT OR Apache-2.0
//! The half-close: this side's output ends while the peer's goes on.
//!
//! From the request on, the output buffer accepts no more. The poller sends its content and then
//! our FIN. The input goes on. When the peer's FIN has arrived too, the connection ends with
//! [`PeerFin`](CloseReason::PeerFin).

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
    /// Shuts down this side's output: sends all committed output and then FIN. Drops output that is
    /// not committed. Returns at once; [`flush`](Self::flush) waits until everything is sent.
    /// Idempotent.
    ///
    /// Output that is put after this call is discarded, and `flush` then fails with
    /// [`ErrorKind::WriteAfterShutdown`](crate::error::ErrorKind::WriteAfterShutdown). Reading goes
    /// on. The connection ends with [`PeerFin`](CloseReason::PeerFin) when the peer's FIN has
    /// arrived as well. With a handler of [`on_request`](crate::Builder::on_request), that is when
    /// the handler has seen all input before the FIN. With an owner it is at once, and the input
    /// can still be read. A peer that never ends its own stream keeps the connection open for as
    /// long as its [`Timeouts`](crate::options::Timeouts) allow.
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
    /// Shuts down the output as [`Writer::shutdown`] does.
    pub fn shutdown(&mut self) {
        self.shared().shut_down_output();
    }
}

impl Shared {
    pub(super) fn shut_down_output(&self) {
        let uncommitted = lock(&self.output_buffer).shut_down();
        drop(uncommitted);
        self.notify_wait_queue();
        self.request_close(CloseRequest::HalfClose);
    }

    /// Sends our FIN on the calling thread, if it is owed and all output is sent. The poller learns
    /// of it from the half-close that was requested.
    pub(super) fn send_fin(&self) {
        let mut output_buffer = lock(&self.output_buffer);
        if output_buffer.unsent() == 0 && output_buffer.set_fin_sent() {
            drop(output_buffer);
            // If the peer has torn the connection down, it needs no FIN.
            let _sent = socket::shutdown(self.as_fd(), Shutdown::Write).ok();
        }
    }
}

impl<C: Dispatcher> Engine<C> {
    /// Sends our FIN, if it was requested and all output is sent.
    pub(super) fn send_fin_if_requested(&mut self) {
        if self.shared.close_request() != CloseRequest::HalfClose
            || self.lifecycle.output() == OutputState::Ended
        {
            return;
        }
        if lock(&self.shared.output_buffer).unsent() == 0 && self.lifecycle.broken().is_none() {
            self.shared.send_fin();
            self.lifecycle.end_output();
        }
    }

    /// Closes a connection that user code owns, if both directions have ended or broken. The owner
    /// can still read the input that is buffered.
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
                // An owner that has read a FIN keeps it, although no reply can be sent.
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
