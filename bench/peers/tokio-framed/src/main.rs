// SPDX-License-Identifier: MIT OR Apache-2.0
//! A server with tokio-util's `Framed` and its `LengthDelimitedCodec`, as in the documentation of
//! `codec`: `next` for a request, `send` for its response, which flushes.
//!
//! With `--batched`, an optimization: responses are fed, and flushed when no further request is
//! ready.
#![forbid(unsafe_code)]

use std::io;
use std::time::Duration;

use bytes::Bytes;
use clap::Args;
use futures_util::{FutureExt, SinkExt, StreamExt};
use peer_options::{Calls, Kind, MAX_FRAME, Options, listening_on, unable};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Builder;
use tokio_util::codec::{Framed, LengthDelimitedCodec};

#[derive(Args)]
struct Extra {
    /// Feed responses, and flush when no request is ready.
    #[arg(long)]
    batched: bool,
}

fn main() {
    let options = Options::<Extra>::parse_for(&[Kind::Rpc, Kind::Heavy]);
    options.only_one_thread("a current-thread runtime has one");
    let runtime = Builder::new_current_thread().enable_all().build();
    let runtime = runtime.unwrap_or_else(|error| unable("start tokio", error));
    runtime.block_on(async {
        let listener = TcpListener::bind(options.addr).await;
        let listener = listener.unwrap_or_else(|error| unable("listen", error));
        let bound = listener.local_addr();
        listening_on(bound.unwrap_or_else(|error| unable("learn the address", error)));
        loop {
            let Ok((stream, _)) = listener.accept().await else {
                // Probably out of descriptors; closing connections frees some.
                tokio::time::sleep(Duration::from_millis(10)).await;
                continue;
            };
            let calls = Calls::of(options.kind);
            let batched = options.extra.batched;
            // The end of a connection is not an error of the server.
            tokio::spawn(async move {
                match batched {
                    true => serve_batched(stream, calls).await.ok(),
                    false => serve(stream, calls).await.ok(),
                }
            });
        }
    });
}

fn framed(stream: TcpStream) -> io::Result<Framed<TcpStream, LengthDelimitedCodec>> {
    stream.set_nodelay(true)?;
    let mut codec = LengthDelimitedCodec::builder();
    Ok(codec.max_frame_length(MAX_FRAME).new_framed(stream))
}

async fn serve(stream: TcpStream, mut calls: Calls) -> io::Result<()> {
    let mut framed = framed(stream)?;
    while let Some(request) = framed.next().await.transpose()? {
        calls.next();
        framed.send(request.freeze()).await?;
    }
    Ok(())
}

async fn serve_batched(stream: TcpStream, mut calls: Calls) -> io::Result<()> {
    let mut framed = framed(stream)?;
    loop {
        let ready = framed.next().now_or_never();
        let request = match ready {
            Some(request) => request,
            None => {
                SinkExt::<Bytes>::flush(&mut framed).await?;
                framed.next().await
            }
        };
        let Some(request) = request.transpose()? else {
            return SinkExt::<Bytes>::flush(&mut framed).await;
        };
        calls.next();
        framed.feed(request.freeze()).await?;
    }
}
