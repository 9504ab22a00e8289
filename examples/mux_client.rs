// SPDX-License-Identifier: MIT OR Apache-2.0
//! Concurrent calls on one connection: the responses arrive in the order in which they are ready.
//!
//! `cargo run --release -p netpoll-examples --example mux_client`
#![forbid(unsafe_code)]

use std::thread;
use std::time::{Duration, Instant};

use netpoll::codec::LengthField;
use netpoll::mux::{self, Client, Message, Numbered};
use netpoll::task::JoinHandle;
use netpoll::time::sleep;
use netpoll::{BoxError, Dialer, EventLoop, Listener};

fn main() -> Result<(), BoxError> {
    let listener = Listener::bind("127.0.0.1:0")?;
    let addr = listener.local_addr()?;
    let codec = Numbered::new(LengthField::new());
    let server = EventLoop::builder()
        .on_connection(mux::serve(codec, delayed_echo))
        .listen(listener)
        .build()?;
    let handle = server.handle();
    let serving = thread::spawn(move || server.run());

    let codec = Numbered::new(LengthField::new());
    let client = Client::new(Dialer::new().dial_blocking(addr)?, codec);
    let begun = Instant::now();
    let calls: Vec<JoinHandle<Result<(), BoxError>>> = (0..10_u8)
        .map(|number| {
            let client = client.clone();
            netpoll::spawn(async move {
                // Later calls request a shorter delay and overtake the others.
                let answer = client.call(Message::new(&[100 - 10 * number])).await?;
                println!(
                    "call {number}: {} byte after {:?}",
                    answer.body.len(),
                    begun.elapsed()
                );
                Ok(())
            })
        })
        .collect::<Result<_, _>>()?;
    for call in calls {
        call.wait()??;
    }
    println!(
        "550 ms of delays in {:?}: {:?}",
        begun.elapsed(),
        client.stats()
    );

    drop(client);
    drop(handle.shutdown(Duration::from_secs(1)));
    serving.join().expect("a server that does not panic")?;
    Ok(())
}

/// Answers after as many milliseconds as the request's first byte.
async fn delayed_echo(mut request: Message) -> Result<Message, BoxError> {
    let time = request.body.read_u8()?;
    sleep(Duration::from_millis(time.into())).await;
    let mut answer = Message::new(&[time]);
    answer.id = request.id;
    Ok(answer)
}
