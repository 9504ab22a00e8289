// SPDX-License-Identifier: MIT OR Apache-2.0
//! Each request in a task of its own, and one task that writes their answers, which come through a
//! channel.
//!
//! The writer takes all that the channel has before it flushes, which is the form of who knows what a
//! system call costs. A place in the channel is taken before the request's task starts: a peer that
//! does not read its answers is not read from either, once the channel is full.

use std::io;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use peer_options::{BUFFER, Calls, MAX_FRAME, TooLong};
use tokio::io::{AsyncReadExt, AsyncWriteExt, BufWriter};
use tokio::net::TcpStream;
use tokio::net::tcp::OwnedWriteHalf;
use tokio::sync::mpsc;

/// Requests of a connection whose answers are not written yet.
const IN_FLIGHT: usize = 1024;

pub(crate) async fn serve(stream: TcpStream) -> io::Result<()> {
    let (mut reader, writer) = stream.into_split();
    let (send, answers) = mpsc::channel(IN_FLIGHT);
    tokio::spawn(write(writer, answers));
    let mut input = BytesMut::with_capacity(BUFFER);
    loop {
        while let Some(request) = next(&mut input)? {
            let Ok(place) = send.clone().reserve_owned().await else {
                return Ok(());
            };
            tokio::spawn(async move { place.send(answer(&request)) });
        }
        input.reserve(Calls::missing(&input).max(BUFFER / 4));
        if reader.read_buf(&mut input).await? == 0 {
            return Ok(());
        }
    }
}

/// Takes the body of the frame at the front, if all of it is there.
fn next(input: &mut BytesMut) -> Result<Option<Bytes>, TooLong> {
    let Some(header) = input.first_chunk::<4>() else {
        return Ok(None);
    };
    let len = u32::from_be_bytes(*header) as usize;
    if len > MAX_FRAME {
        return Err(TooLong);
    }
    if input.len() < 4 + len {
        return Ok(None);
    }
    input.advance(4);
    Ok(Some(input.split_to(len).freeze()))
}

/// The answer, in memory of its own.
fn answer(request: &[u8]) -> Bytes {
    let mut answer = BytesMut::with_capacity(4 + request.len());
    answer.put_u32(request.len() as u32);
    answer.put_slice(request);
    answer.freeze()
}

async fn write(writer: OwnedWriteHalf, mut answers: mpsc::Receiver<Bytes>) -> io::Result<()> {
    let mut writer = BufWriter::with_capacity(BUFFER, writer);
    while let Some(first) = answers.recv().await {
        writer.write_all(&first).await?;
        while let Ok(more) = answers.try_recv() {
            writer.write_all(&more).await?;
        }
        writer.flush().await?;
    }
    Ok(())
}
