// SPDX-License-Identifier: MIT OR Apache-2.0
//! The reading methods of [`Reader`] and [`OwnedReader`].

use std::future::Future;
use std::io;

use bytes::Bytes;
use netpoll_buffer::LinkBuffer;

use super::Reader;
use super::read_future::ReadFuture;
use crate::codec::Codec;
use crate::connection::frames::next_frame;
use crate::connection::halves::{OwnedReader, half_methods};

half_methods! {
    for Reader<'_>, OwnedReader, as &view:

    /// Returns how many bytes can be read without waiting: those that this reader holds, and those
    /// that its poller has received since. Takes at most one lock.
    fn available(&self) -> usize
        = |reader| reader.state.buffer.len() + reader.shared.input_len();

    /// Returns the first contiguous bytes of those that this reader holds. Takes no lock and copies
    /// nothing.
    ///
    /// A parser looks at these bytes, [consumes](Self::consume) what it has understood, and calls
    /// [`more`](Self::more) if they are not enough. They are empty before the first call that reads
    /// or waits, and after a dropped wait of another method than `more`; `more` then returns at
    /// once. Bytes may be [available](Self::available) that are not among them.
    ///
    /// ```no_run
    /// /// Reads the head of an HTTP request and returns its path; `None` at the end of the stream.
    /// async fn read_head(conn: &mut netpoll::Connection) -> std::io::Result<Option<String>> {
    ///     let mut reader = conn.reader();
    ///     loop {
    ///         let mut headers = [httparse::EMPTY_HEADER; 32];
    ///         let mut request = httparse::Request::new(&mut headers);
    ///         let parsed = request.parse(reader.buffered());
    ///         if let httparse::Status::Complete(length) = parsed.map_err(std::io::Error::other)? {
    ///             let path = request.path.unwrap_or_default().to_owned();
    ///             reader.consume(length)?;
    ///             return Ok(Some(path));
    ///         }
    ///         if !reader.more().await? {
    ///             return Ok(None);
    ///         }
    ///     }
    /// }
    /// ```
    fn buffered(&self) -> &[u8] = |reader| reader.state.first_piece();
}

half_methods! {
    for Reader<'_>, OwnedReader, as &mut reborrow:

    /// Consumes the next `n` bytes, which this reader holds already: those that
    /// [`buffered`](Self::buffered) has returned. Does not wait. No copy.
    ///
    /// # Errors
    ///
    /// [`NotEnoughData`](crate::error::NotEnoughData) if the reader holds fewer. Nothing is
    /// consumed then.
    #[inline]
    fn consume(&mut self, n: usize) -> io::Result<()> = |reader| reader.state.buffer.skip(n);

    /// Makes [`buffered`](Self::buffered) longer by at least one byte, and returns whether it is:
    /// `false` at the end of the stream. Consumes nothing.
    ///
    /// Waits only if no more bytes have arrived. Bytes that arrived in pieces are copied into one,
    /// as many as doubles what is buffered, and at least 4 KiB. So the bytes of a message that a
    /// parser rejects as incomplete are copied once or twice in all, and a message that arrived in
    /// one piece is not copied.
    ///
    /// # Errors
    ///
    /// As all methods of [`Reader`], except
    /// [`ErrorKind::UnexpectedEof`](crate::error::ErrorKind::UnexpectedEof). If `max_frame` bytes
    /// are buffered, [`ErrorKind::FrameTooLarge`](crate::error::ErrorKind::FrameTooLarge).
    ///
    /// # Cancel safety
    ///
    /// No input is lost, and the bytes that were buffered before are so again.
    fn more(&mut self) -> impl Future<Output = io::Result<bool>> = |reader| reader.extend();

    /// Consumes and returns up to `n` contiguous bytes, at least one, as soon as there are any;
    /// `None` at the end of the stream. For `n` of 0 returns no bytes at once. No copy.
    ///
    /// ```no_run
    /// # async fn example(conn: &mut netpoll::Connection) -> std::io::Result<()> {
    /// let (mut reader, mut sum) = (conn.reader(), 0u64);
    /// while let Some(bytes) = reader.chunk_up_to(64 << 10).await? {
    ///     sum += bytes.iter().map(|&byte| u64::from(byte)).sum::<u64>();
    /// }
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// As all methods of [`Reader`], except
    /// [`ErrorKind::UnexpectedEof`](crate::error::ErrorKind::UnexpectedEof).
    ///
    /// # Cancel safety
    ///
    /// No input is lost.
    fn chunk_up_to(&mut self, n: usize) -> impl Future<Output = io::Result<Option<&[u8]>>>
        = |reader| reader.take_up_to(n);

    /// Returns the next `n` bytes without consuming them. Copies only across segments.
    ///
    /// # Errors
    ///
    /// As all methods of [`Reader`].
    ///
    /// # Cancel safety
    ///
    /// No input is lost.
    #[inline]
    fn peek(&mut self, n: usize) -> impl Future<Output = io::Result<&[u8]>>
        = |reader| ReadFuture::new(reader, n, LinkBuffer::peek);

    /// Consumes and returns the next `n` bytes. Copies only across segments.
    ///
    /// The bytes are borrowed until the next call. So two fields that are used together do not
    /// compile as two calls:
    ///
    /// ```compile_fail,E0499
    /// # async fn example(conn: &mut netpoll::Connection) -> std::io::Result<()> {
    /// let mut reader = conn.reader();
    /// let name = reader.next(8).await?;
    /// let value = reader.next(4).await?; // may free the memory of `name`
    /// println!("{name:?} {value:?}");
    /// # Ok(()) }
    /// ```
    ///
    /// Read them as one and split them. A field that has to outlive the call is
    /// [sliced](Self::slice), which shares its memory.
    ///
    /// ```no_run
    /// # async fn example(conn: &mut netpoll::Connection) -> std::io::Result<()> {
    /// let mut reader = conn.reader();
    /// let (name, value) = reader.next(8 + 4).await?.split_at(8);
    /// println!("{name:?} {value:?}");
    ///
    /// let key = reader.slice(8).await?;
    /// let length = reader.read_u32().await?;
    /// let body = reader.next(length as usize).await?;
    /// println!("{key:?} {body:?}");
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// As all methods of [`Reader`].
    ///
    /// # Cancel safety
    ///
    /// No input is lost: bytes are consumed only when all of them are there.
    #[inline]
    fn next(&mut self, n: usize) -> impl Future<Output = io::Result<&[u8]>>
        = |reader| ReadFuture::new(reader, n, LinkBuffer::next);

    /// Skips `n` bytes, at most `max_frame`.
    ///
    /// # Errors
    ///
    /// As all methods of [`Reader`].
    ///
    /// # Cancel safety
    ///
    /// Bytes are consumed only when all of them are there.
    #[inline]
    fn skip(&mut self, n: usize) -> impl Future<Output = io::Result<()>>
        = |reader| ReadFuture::new(reader, n, LinkBuffer::skip);

    /// Consumes and returns the bytes up to and including the first `delimiter`, at most `max`
    /// bytes. Looks at each byte once, however often it waits.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::FrameTooLarge`](crate::error::ErrorKind::FrameTooLarge), naming `max`, if the
    /// first `max` bytes do not contain the delimiter; else as all methods of [`Reader`].
    ///
    /// # Cancel safety
    ///
    /// No input is lost.
    fn until(&mut self, delimiter: u8, max: usize) -> impl Future<Output = io::Result<&[u8]>>
        = |reader| reader.find(delimiter, max);

    /// Consumes the next `n` bytes and returns them as [`Bytes`]. Shares memory within one segment;
    /// copies across segments, and if `n` is small beside its block.
    ///
    /// # Errors
    ///
    /// As all methods of [`Reader`].
    ///
    /// # Cancel safety
    ///
    /// No input is lost.
    #[inline]
    fn slice(&mut self, n: usize) -> impl Future<Output = io::Result<Bytes>>
        = |reader| ReadFuture::new(reader, n, LinkBuffer::slice);

    /// Consumes the next `n` bytes and returns them as a buffer. Never copies.
    ///
    /// # Errors
    ///
    /// As all methods of [`Reader`].
    ///
    /// # Cancel safety
    ///
    /// No input is lost.
    #[inline]
    fn split_to(&mut self, n: usize) -> impl Future<Output = io::Result<LinkBuffer>>
        = |reader| ReadFuture::new(reader, n, LinkBuffer::split_to);

    /// Consumes and returns all bytes that are there, at least one; `None` at the end of the
    /// stream. No copy.
    ///
    /// # Errors
    ///
    /// As all methods of [`Reader`], except
    /// [`ErrorKind::UnexpectedEof`](crate::error::ErrorKind::UnexpectedEof).
    ///
    /// # Cancel safety
    ///
    /// No input is lost.
    fn chunk(&mut self) -> impl Future<Output = io::Result<Option<LinkBuffer>>>
        = |reader| reader.take_all();

    /// Consumes bytes and fills `target` with them. One copy.
    ///
    /// # Errors
    ///
    /// As all methods of [`Reader`].
    ///
    /// # Cancel safety
    ///
    /// Bytes are consumed only when all of them are there.
    #[inline]
    fn read_exact(&mut self, target: &mut [u8]) -> impl Future<Output = io::Result<()>>
        = |reader| ReadFuture::new(reader, target.len(), |buffer, _| buffer.read_exact(target));

    /// Consumes the next `n` bytes and returns them in a `Vec`. One allocation, made when all bytes
    /// are there.
    ///
    /// # Errors
    ///
    /// As all methods of [`Reader`].
    ///
    /// # Cancel safety
    ///
    /// No input is lost.
    #[inline]
    fn read_vec(&mut self, n: usize) -> impl Future<Output = io::Result<Vec<u8>>>
        = |reader| ReadFuture::new(reader, n, LinkBuffer::read_vec);

    /// Consumes the next `n` bytes and returns them as text. One allocation, made when all bytes
    /// are there.
    ///
    /// # Errors
    ///
    /// `InvalidData` if the bytes are not UTF-8, and then they stay; else as all methods of
    /// [`Reader`].
    ///
    /// # Cancel safety
    ///
    /// No input is lost.
    #[inline]
    fn read_string(&mut self, n: usize) -> impl Future<Output = io::Result<String>>
        = |reader| ReadFuture::new(reader, n, LinkBuffer::read_string);

    /// Waits until `n` bytes are there. Consumes nothing.
    ///
    /// # Errors
    ///
    /// As all methods of [`Reader`].
    ///
    /// # Cancel safety
    ///
    /// No input is lost.
    #[inline]
    fn wait(&mut self, n: usize) -> impl Future<Output = io::Result<()>>
        = |reader| ReadFuture::new(reader, n, |_, _| Ok(()));

    /// Reads and consumes the next frame; `None` if the stream has ended before its first byte.
    /// Waits until the whole frame is there. This call copies none of its bytes, so a frame that is
    /// kept keeps alive the memory in which it came.
    ///
    /// ```no_run
    /// use netpoll::codec::LengthField;
    ///
    /// # async fn example(conn: &mut netpoll::Connection) -> std::io::Result<()> {
    /// let codec = LengthField::new();
    /// let (mut reader, mut writer) = conn.split();
    /// while let Some(frame) = reader.frame(&codec).await? {
    ///     writer.frame(&codec, frame)?;
    /// }
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// The codec's error. [`ErrorKind::InvalidNeed`](crate::error::ErrorKind::InvalidNeed) if the codec returns an
    /// impossible length. Otherwise as all methods of [`Reader`]:
    /// [`ErrorKind::FrameTooLarge`](crate::error::ErrorKind::FrameTooLarge) for a frame above the
    /// connection's `max_frame`, even if the codec allows more;
    /// [`ErrorKind::UnexpectedEof`](crate::error::ErrorKind::UnexpectedEof) in the middle of a
    /// frame. A failed call has consumed nothing, except that a frame which does not
    /// [decode](Codec::decode) is consumed.
    ///
    /// # Cancel safety
    ///
    /// No input is lost.
    fn frame[C: Codec + ?Sized](&mut self, codec: &C)
        -> impl Future<Output = io::Result<Option<C::Frame>>>
        = |reader| next_frame(reader, codec);
}

/// Reads of fixed-size numbers.
macro_rules! numbers {
    ($($name:ident, $number:ty, $order:literal;)*) => {
        half_methods! {
            for Reader<'_>, OwnedReader, as &mut reborrow:
            $(
                #[doc = concat!("Consumes and returns a `", stringify!($number), "`, ", $order, ".")]
                ///
                /// # Errors
                ///
                /// As all methods of [`Reader`].
                ///
                /// # Cancel safety
                ///
                /// No input is lost.
                #[inline]
                fn $name(&mut self) -> impl Future<Output = io::Result<$number>>
                    = |reader| ReadFuture::new(reader, size_of::<$number>(), |buffer, _| buffer.$name());
            )*
        }
    };
}

numbers! {
    read_u8, u8, "one byte";
    read_u16, u16, "big-endian";
    read_u16_le, u16, "little-endian";
    read_u32, u32, "big-endian";
    read_u32_le, u32, "little-endian";
    read_u64, u64, "big-endian";
    read_u64_le, u64, "little-endian";
}
