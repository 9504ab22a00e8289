// SPDX-License-Identifier: MIT OR Apache-2.0
//! The peer of `netpoll serve mux` and `netpoll load mux --ids`: the same protocol with tokio, in
//! the usual form. One task for each connection reads; another writes the messages of a channel. It
//! flushes after each message (`each`), or takes all messages of the channel before it flushes
//! (`drain`), which saves system calls.
//!
//! ```text
//! netpoll-mux-bench serve each|drain
//! netpoll-mux-bench load ADDR each|drain CONNECTIONS DEPTH SIZE SECONDS
//! ```
#![forbid(unsafe_code)]

use std::collections::HashMap;
use std::error::Error;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use hdrhistogram::Histogram;
use tokio::io::{AsyncReadExt, AsyncWriteExt, BufWriter};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, oneshot};

type Failure = Box<dyn Error + Send + Sync>;

/// When the writer of a connection flushes.
#[derive(Clone, Copy)]
enum Flush {
    Each,
    Drain,
}

/// A frame: its id and its payload.
type Message = (u64, Bytes);

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words[..] {
        ["serve", flush] => serve(parse(flush)?).await,
        ["load", addr, flush, connections, depth, size, seconds] => {
            let flush = parse(flush)?;
            let (connections, depth) = (connections.parse()?, depth.parse()?);
            load(addr, flush, connections, depth, size.parse()?, seconds.parse()?).await
        }
        _ => Err("serve each|drain, or load ADDR each|drain CONNECTIONS DEPTH SIZE SECONDS".into()),
    }
}

fn parse(flush: &str) -> Result<Flush, Failure> {
    match flush {
        "each" => Ok(Flush::Each),
        "drain" => Ok(Flush::Drain),
        other => Err(format!("{other} is neither each nor drain").into()),
    }
}

async fn serve(flush: Flush) -> Result<(), Failure> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("listening on {}", listener.local_addr()?);
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let (reader, writer) = stream.into_split();
        let (send, answers) = mpsc::channel(256);
        tokio::spawn(write_all(writer, answers, flush));
        tokio::spawn(async move {
            let mut reader = Messages::of(reader);
            while let Ok(Some(request)) = reader.next().await {
                let send = send.clone();
                // Each request has its own task.
                tokio::spawn(async move { send.send(request).await });
            }
        });
    }
}

/// Sends the messages of the channel.
async fn write_all(
    writer: OwnedWriteHalf,
    mut messages: mpsc::Receiver<Message>,
    flush: Flush,
) -> io::Result<()> {
    let mut writer = BufWriter::with_capacity(64 << 10, writer);
    while let Some(first) = messages.recv().await {
        write(&mut writer, first).await?;
        if let Flush::Drain = flush {
            while let Ok(next) = messages.try_recv() {
                write(&mut writer, next).await?;
            }
        }
        writer.flush().await?;
    }
    Ok(())
}

async fn write(writer: &mut BufWriter<OwnedWriteHalf>, (id, body): Message) -> io::Result<()> {
    writer.write_u32(body.len() as u32 + 8).await?;
    writer.write_u64(id).await?;
    writer.write_all(&body).await
}

/// The messages of a connection.
struct Messages {
    reader: OwnedReadHalf,
    buffer: BytesMut,
}

impl Messages {
    fn of(reader: OwnedReadHalf) -> Self {
        let buffer = BytesMut::with_capacity(64 << 10);
        Self { reader, buffer }
    }

    async fn next(&mut self) -> io::Result<Option<Message>> {
        loop {
            if let Some(header) = self.buffer.first_chunk::<4>() {
                let length = u32::from_be_bytes(*header) as usize;
                if self.buffer.len() >= length + 4 {
                    self.buffer.advance(4);
                    let mut frame = self.buffer.split_to(length).freeze();
                    let id = frame.get_u64();
                    return Ok(Some((id, frame)));
                }
            }
            self.buffer.reserve(16 << 10);
            if self.reader.read_buf(&mut self.buffer).await? == 0 {
                return Ok(None);
            }
        }
    }
}

/// Calls in progress on one connection.
#[derive(Default)]
struct Calls {
    pending: Mutex<HashMap<u64, oneshot::Sender<Bytes>>>,
    next: AtomicU64,
}

async fn load(
    addr: &str,
    flush: Flush,
    connections: usize,
    depth: usize,
    size: usize,
    seconds: u64,
) -> Result<(), Failure> {
    let latency = Arc::new(Mutex::new(Histogram::<u64>::new_with_bounds(1, 60_000_000_000, 3)?));
    let warm = Instant::now() + Duration::from_millis(500);
    let end = warm + Duration::from_secs(seconds);
    let mut callers = Vec::new();
    for _ in 0..connections {
        let stream = TcpStream::connect(addr).await?;
        stream.set_nodelay(true)?;
        let (reader, writer) = stream.into_split();
        let (send, requests) = mpsc::channel(256);
        tokio::spawn(write_all(writer, requests, flush));
        let calls = Arc::<Calls>::default();
        let answers = Arc::clone(&calls);
        tokio::spawn(async move {
            let mut reader = Messages::of(reader);
            while let Ok(Some((id, body))) = reader.next().await {
                let caller = answers.pending.lock().expect("no panic").remove(&id);
                if let Some(caller) = caller {
                    caller.send(body).ok();
                }
            }
        });
        for _ in 0..depth {
            let (calls, send, latency) = (Arc::clone(&calls), send.clone(), Arc::clone(&latency));
            callers.push(tokio::spawn(async move {
                let payload = vec![7; size - 8];
                loop {
                    let since = Instant::now();
                    if since >= end {
                        return Ok::<(), Failure>(());
                    }
                    let id = calls.next.fetch_add(1, Ordering::Relaxed);
                    let (sender, answer) = oneshot::channel();
                    calls.pending.lock().expect("no panic").insert(id, sender);
                    let mut body = BytesMut::with_capacity(payload.len());
                    body.put_slice(&payload);
                    send.send((id, body.freeze())).await?;
                    assert_eq!(answer.await?.len(), payload.len());
                    if since >= warm {
                        let took = since.elapsed().as_nanos() as u64;
                        latency.lock().expect("no panic").saturating_record(took);
                    }
                }
            }));
        }
    }
    for caller in callers {
        caller.await??;
    }
    let latency = latency.lock().expect("no panic");
    let at = |quantile| latency.value_at_quantile(quantile) as f64 / 1e3;
    println!(
        "{{\"requests_per_second\":{:.1},\"p50_us\":{:.1},\"p99_us\":{:.1}}}",
        latency.len() as f64 / seconds as f64,
        at(0.5),
        at(0.99)
    );
    Ok(())
}
