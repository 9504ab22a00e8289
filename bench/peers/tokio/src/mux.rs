// SPDX-License-Identifier: MIT OR Apache-2.0
//! Each request in its own task, and one task that writes the responses, which arrive through a
//! channel.
//!
//! The writer takes all responses of the channel before it flushes, which saves system calls. A
//! permit of the channel is reserved before the request's task starts: once the channel is full, a
//! peer that does not read its responses is not read either.

use std::io;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use peer_options::{BUFFER, Calls, MAX_FRAME, TooLong};
use tokio::io::{AsyncReadExt, AsyncWriteExt, BufWriter};
use tokio::net::TcpStream;
use tokio::net::tcp::OwnedWriteHalf;
use tokio::sync::mpsc;

/// The maximum number of requests of a connection whose responses are unwritten.
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

/// Takes the body of the first frame, if it is complete.
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

/// Returns the response, a copy.
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
