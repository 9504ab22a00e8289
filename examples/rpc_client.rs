// SPDX-License-Identifier: MIT OR Apache-2.0
//! A client that calls a server from a task and from a plain thread.
//!
//! `cargo run --release -p netpoll-examples --example rpc_client`
#![forbid(unsafe_code)]

use std::io::{Read, Write};
use std::thread;
use std::time::Duration;

use netpoll::{Addr, BoxError, Connection, Dialer, EventLoop, Listener};

fn main() -> Result<(), BoxError> {
    let listener = Listener::bind("127.0.0.1:0")?;
    let addr = listener.local_addr()?;
    let server = EventLoop::builder()
        .on_request(uppercase)
        .listen(listener)
        .build()?;
    let handle = server.handle();
    let serving = thread::spawn(move || server.run());

    // A poller runs the task; no other runtime is needed.
    let answer = netpoll::spawn(call(addr, "hello from a task"))?.wait()??;
    println!("{answer}");

    // A thread uses the connection as a blocking `Read` and `Write`.
    let mut conn = Dialer::new().dial_blocking(addr)?;
    let mut stream = conn.blocking();
    stream.write_all(&frame("hello from a thread"))?;
    let mut length = [0; 4];
    stream.read_exact(&mut length)?;
    let mut answer = vec![0; u32::from_be_bytes(length) as usize];
    stream.read_exact(&mut answer)?;
    println!("{}", String::from_utf8(answer)?);
    drop(conn);

    drop(handle.shutdown(Duration::from_secs(1)));
    serving.join().expect("a server that does not panic")?;
    Ok(())
}

/// Answers each frame with its text in upper case.
async fn uppercase(conn: &mut Connection) -> Result<(), BoxError> {
    let (mut reader, mut writer) = conn.split();
    let length = reader.read_u32().await?;
    let text = reader.read_string(length as usize).await?;
    writer.put_slice(&frame(&text.to_uppercase()));
    Ok(())
}

async fn call(addr: Addr, question: &str) -> std::io::Result<String> {
    let mut conn = Dialer::new().dial(addr).await?;
    let (mut reader, mut writer) = conn.split();
    writer.put_slice(&frame(question));
    let length = reader.read_u32().await?;
    reader.read_string(length as usize).await
}

fn frame(text: &str) -> Vec<u8> {
    let length = u32::try_from(text.len()).expect("a short text");
    [&length.to_be_bytes(), text.as_bytes()].concat()
}
