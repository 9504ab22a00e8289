// SPDX-License-Identifier: MIT OR Apache-2.0
//! The writing methods of [`Writer`] and [`OwnedWriter`].

use std::future::Future;
use std::io;

use bytes::Bytes;
use netpoll_buffer::{LinkBuffer, Reservation};

use super::Writer;
use crate::codec::Codec;
use crate::connection::halves::{OwnedWriter, half_methods};
use crate::sync::lock;

half_methods! {
    for Writer<'_>, OwnedWriter, as &mut reborrow:

    /// Copies `bytes` to the end.
    #[inline]
    fn put_slice(&mut self, bytes: &[u8]) = |writer| writer.shared.put_slice(bytes);

    /// Copies `parts` to the end, one behind the other, as one put: no other put comes between
    /// them. Takes the lock of the output buffer once: a header and its body cost less than with
    /// two calls.
    ///
    /// ```no_run
    /// # async fn example(conn: &mut netpoll::Connection, body: &[u8]) {
    /// let length = body.len() as u32;
    /// conn.writer().put_slices(&[&length.to_be_bytes(), body]);
    /// # }
    /// ```
    #[inline(always)]
    fn put_slices(&mut self, parts: &[&[u8]]) = |writer| writer.shared.put_slices(parts);

    /// Copies `text` to the end.
    fn put_str(&mut self, text: &str) = |writer| writer.shared.put_slice(text.as_bytes());

    /// Appends one byte.
    fn put_u8(&mut self, byte: u8) = |writer| writer.shared.put_array([byte]);

    /// Appends `bytes` without a copy. Worth it from a few KiB on.
    fn push(&mut self, bytes: Bytes) = |writer| writer.shared.append(LinkBuffer::from(bytes));

    /// Appends all readable bytes of `buffer`, without a copy.
    fn append(&mut self, buffer: LinkBuffer) = |writer| writer.shared.append(buffer);

    /// Lets `fill` build a part of the output in a buffer, appends it as a whole, and returns the
    /// result of `fill`. No lock is held while `fill` runs.
    fn with[R](&mut self, fill: impl FnOnce(&mut LinkBuffer) -> R) -> R
        = |writer| writer.put_with(fill);

    /// Reserves `n` zeroed bytes, to be filled in by [`fill`](Self::fill) before the
    /// [`commit`](Self::commit). The owner's later puts wait for the commit, and leave with it in
    /// one piece. Output that others send, through a
    /// [`ConnectionHandle`](crate::connection::ConnectionHandle) or a
    /// [`WriteQueue`](crate::connection::WriteQueue), goes before or after the whole of it, and
    /// does not wait.
    ///
    /// The reservation stays open beyond this writer, for the next one of the connection. A
    /// [`shutdown`](Self::shutdown), the end of the connection, and the drop of an
    /// [`OwnedWriter`] drop the uncommitted bytes, and no output of others.
    /// Uncommitted bytes count toward [`max_output`](crate::options::ConnOptions::max_output).
    ///
    /// Makes two small allocations if no reservation is open; the connection keeps one of them.
    ///
    /// # Errors
    ///
    /// [`TooLarge`](crate::error::TooLarge) above 1 GiB; the reason if the connection has ended.
    fn reserve(&mut self, n: usize) -> io::Result<Reservation> = |writer| writer.shared.reserve(n);

    /// Copies `bytes` to the front of a reservation.
    ///
    /// # Errors
    ///
    /// [`OutOfRange`](crate::error::OutOfRange) if the reservation has ended or is shorter; the
    /// reason if the connection has ended.
    fn fill(&mut self, reserved: &Reservation, bytes: &[u8]) -> io::Result<()>
        = |writer| writer.shared.fill(reserved, bytes);

    /// Inserts `bytes` into the uncommitted output, without a copy: before its byte `at`, counted
    /// from the first. With nothing uncommitted that is a [`push`](Self::push).
    ///
    /// # Errors
    ///
    /// [`OutOfRange`](crate::error::OutOfRange) if `at` is past the end of the uncommitted output;
    /// the reason if the connection has ended.
    fn insert(&mut self, at: usize, bytes: Bytes) -> io::Result<()>
        = |writer| writer.shared.insert(at, bytes);

    /// Commits the first `k` uncommitted bytes, drops the rest, and ends every reservation. Takes
    /// the lock of the output buffer twice; pushed memory is dropped while the lock is not held.
    ///
    /// # Errors
    ///
    /// [`OutOfRange`](crate::error::OutOfRange) if there are fewer than `k`; the reason if the
    /// connection has ended.
    fn commit(&mut self, k: usize) -> io::Result<()> = |writer| writer.shared.commit(Some(k));

    /// Commits all uncommitted bytes and ends every reservation.
    fn commit_all(&mut self) = |writer| {
            // A connection that has ended has nothing to commit.
            let _committed = writer.shared.commit(None).is_ok();
        };

    /// Sends all committed output, and returns when the kernel has the last byte of it.
    ///
    /// # Errors
    ///
    /// Why the connection ended, if it ended before that. One reason is that the peer did not take
    /// all output within [`Timeouts::write`](crate::options::Timeouts::write) or by the
    /// [deadline](Self::with_deadline).
    /// [`ErrorKind::WriteAfterShutdown`](crate::error::ErrorKind::WriteAfterShutdown) if something
    /// was put after a [`shutdown`](Self::shutdown).
    ///
    /// # Cancel safety
    ///
    /// Queued output is sent all the same.
    ///
    /// There is one flush at a time; a second one beside it does not compile:
    ///
    /// ```compile_fail,E0499
    /// # async fn example(conn: &mut netpoll::Connection) -> std::io::Result<()> {
    /// let mut writer = conn.writer();
    /// let one = writer.flush();
    /// let other = writer.flush(); // a second borrow of `writer`
    /// one.await?;
    /// other.await
    /// # }
    /// ```
    fn flush(&mut self) -> impl Future<Output = io::Result<()>> = |writer| writer.send_all();

    /// Waits for room: returns at once if fewer than
    /// [`write_high`](crate::options::ConnOptions::write_high) bytes are unsent, else when at most
    /// [`write_low`](crate::options::ConnOptions::write_low) bytes are. The output of one call is
    /// limited by the connection's [`max_output`](crate::options::ConnOptions::max_output); a call
    /// that waits for room now and then may put as much as it likes.
    ///
    /// ```no_run
    /// # async fn example(conn: &mut netpoll::Connection, rows: Vec<String>) -> std::io::Result<()> {
    /// let mut writer = conn.writer();
    /// for row in rows {
    ///     writer.writable().await?;
    ///     writer.put_str(&row);
    /// }
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`flush`](Self::flush).
    ///
    /// # Cancel safety
    ///
    /// Queued output is sent all the same.
    fn writable(&mut self) -> impl Future<Output = io::Result<()>>
        = |writer| writer.wait_writable();

    /// Puts a frame as one put: no other put comes between its parts. Copies only the bytes that
    /// [`Codec::encode`] copies. On a connection that has ended the frame is discarded.
    ///
    /// # Errors
    ///
    /// The codec's error. Nothing was put then.
    fn frame[C: Codec + ?Sized](&mut self, codec: &C, frame: C::Frame) -> io::Result<()>
        = |writer| writer.put_frame(codec, frame);
}

half_methods! {
    for Writer<'_>, OwnedWriter, as &view:

    /// Returns the number of uncommitted bytes.
    #[must_use]
    fn uncommitted_len(&self) -> usize = |shared| lock(&shared.output_buffer).uncommitted_len();

    /// Returns the number of committed bytes that the kernel has not taken yet.
    #[must_use]
    fn unsent(&self) -> usize = |shared| lock(&shared.output_buffer).unsent();
}

/// Puts of fixed-size numbers.
macro_rules! numbers {
    ($($name:ident, $number:ty, $to_bytes:ident, $order:literal;)*) => {
        half_methods! {
            for Writer<'_>, OwnedWriter, as &mut reborrow:
            $(
                #[doc = concat!("Appends a `", stringify!($number), "`, ", $order, ".")]
                #[inline]
                fn $name(&mut self, number: $number)
                    = |writer| writer.shared.put_array(number.$to_bytes());
            )*
        }
    };
}

numbers! {
    put_u16, u16, to_be_bytes, "big-endian";
    put_u16_le, u16, to_le_bytes, "little-endian";
    put_u32, u32, to_be_bytes, "big-endian";
    put_u32_le, u32, to_le_bytes, "little-endian";
    put_u64, u64, to_be_bytes, "big-endian";
    put_u64_le, u64, to_le_bytes, "little-endian";
}
