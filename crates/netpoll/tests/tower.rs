// SPDX-License-Identifier: MIT OR Apache-2.0
//! A mux client as a tower service.

use std::future::poll_fn;
use std::task::{Context, Poll, Waker};

use netpoll::codec::LengthField;
use netpoll::mux::{self, Client, ClientOptions, Message, Numbered};
use netpoll::{Connection, spawn};
use tower_service::Service;

type Calls = Client<Numbered<LengthField>>;

fn codec() -> Numbered<LengthField> {
    Numbered::new(LengthField::new())
}

/// A client with at most `most` calls in progress, whose server echoes.
fn client(most: usize) -> Calls {
    let pair = spawn(async { Connection::pair().await }).expect("a poller");
    let (near, far) = pair.wait().expect("a task").expect("two sockets");
    let served = mux::serve(codec(), async |request: Message| Ok(request));
    let serving = std::thread::spawn(move || {
        // The server's future stays on this thread.
        let runtime = tokio::runtime::Builder::new_current_thread().build();
        runtime.expect("a runtime").block_on(served(far))
    });
    drop(serving);
    let options = ClientOptions::default().max_in_flight(most);
    Client::with_options(near, codec(), options).expect("valid options")
}

fn is_ready(client: &mut Calls) -> bool {
    let polled = client.poll_ready(&mut Context::from_waker(Waker::noop()));
    matches!(polled, Poll::Ready(Ok(())))
}

#[test]
fn service_is_ready_with_a_permit_and_keeps_it() {
    let mut client = client(1);
    let mut other = client.clone();
    assert!(is_ready(&mut client));
    assert!(is_ready(&mut client), "the permit is kept");
    assert!(!is_ready(&mut other), "a clone has no permit");
    let answer = spawn(Service::call(&mut client, Message::new(b"hello")))
        .unwrap()
        .wait();
    assert_eq!(answer.unwrap().unwrap().body.len(), 5);
    assert!(is_ready(&mut other), "the permit is free after the call");
    drop(other);
    assert!(
        is_ready(&mut client),
        "an unused permit is free after its drop"
    );
}

#[test]
fn call_without_poll_ready_waits_for_its_permit() {
    let mut client = client(2);
    let calls: Vec<_> = (0..20_u8)
        .map(|number| spawn(Service::call(&mut client, Message::new(&[number; 3]))).unwrap())
        .collect();
    for call in calls {
        assert_eq!(call.wait().unwrap().unwrap().body.len(), 3);
    }
    let ready = spawn(async move { poll_fn(|context| client.poll_ready(context)).await });
    ready.unwrap().wait().unwrap().unwrap();
}
