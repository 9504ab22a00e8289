// SPDX-License-Identifier: MIT OR Apache-2.0
//! The mux client in a stack of tower layers: balance over two servers by pending requests, a
//! timeout, and a retry.
//!
//! `cargo run --release -p netpoll-examples --example tower_stack`
#![forbid(unsafe_code)]

use std::future::{Ready, ready};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use netpoll::buffer::LinkBuffer;
use netpoll::codec::LengthField;
use netpoll::mux::{self, Client, ClientOptions, Message, Numbered};
use netpoll::time::sleep;
use netpoll::{Addr, BoxError, Dialer, EventLoop, Listener};
use tower::balance::p2c::Balance;
use tower::discover::ServiceList;
use tower::load::{CompleteOnResponse, PendingRequests};
use tower::retry::Policy;
use tower::{Service, ServiceBuilder, ServiceExt};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), BoxError> {
    let mut clients = Vec::new();
    for addr in [serve("one")?, serve("other")?] {
        let codec = Numbered::new(LengthField::new());
        let client = Client::dialing(Dialer::new(), addr, codec, ClientOptions::default())?;
        clients.push(PendingRequests::new(client, CompleteOnResponse::default()));
    }
    let mut service = ServiceBuilder::new()
        .retry(RetryPolicy(2))
        .timeout(Duration::from_millis(50))
        .map_request(|question: String| Message::from(LinkBuffer::from(question.into_bytes())))
        .buffer(64)
        .service(Balance::new(ServiceList::new(clients)));
    for number in 0..8 {
        let ready = service.ready().await?;
        let mut body = ready.call(format!("question {number}")).await?.body;
        println!("{}", body.read_string(body.len())?);
    }
    Ok(())
}

/// Starts a server that stalls on its second request.
fn serve(name: &'static str) -> Result<Addr, BoxError> {
    let listener = Listener::bind("127.0.0.1:0")?;
    let addr = listener.local_addr()?;
    let received = AtomicU32::new(0);
    let answer = async move |mut request: Message| {
        if received.fetch_add(1, Ordering::Relaxed) == 1 {
            sleep(Duration::from_secs(1)).await;
        }
        let question = request.body.read_string(request.body.len())?;
        let text = format!("{name} answers {question}");
        Ok(Message::of(request.id, LinkBuffer::from(text.into_bytes())))
    };
    let served = mux::serve(Numbered::new(LengthField::new()), answer);
    let server = EventLoop::builder().on_connection(served);
    let server = server.listen(listener).build()?;
    std::thread::spawn(move || server.run());
    Ok(addr)
}

/// The number of attempts, the first included.
#[derive(Clone)]
struct RetryPolicy(u8);

impl<A> Policy<String, A, BoxError> for RetryPolicy {
    type Future = Ready<()>;

    fn retry(&mut self, _: &mut String, result: &mut Result<A, BoxError>) -> Option<Ready<()>> {
        self.0 -= 1;
        (result.is_err() && self.0 > 0).then(|| ready(()))
    }

    fn clone_request(&mut self, question: &String) -> Option<String> {
        Some(question.clone())
    }
}
