// SPDX-License-Identifier: MIT OR Apache-2.0
//! The largest frame of a connection that is dialed for a loop has to fit into the budget of that
//! loop.

use std::io::{Error, ErrorKind};
use std::sync::mpsc::channel;
use std::task::Poll;

use netpoll::codec::LengthField;
use netpoll::mux::{Client, ClientOptions, Numbered};
use netpoll::options::{Budget, ConnOptions};
use netpoll::pool::{ConnPool, ConnPoolOptions};
use netpoll::{Connection, Dialer, EventLoop};

use crate::support::{
    AnyBuilder, LIMIT, Server, block_on, builder, bytes, frame, free_listener, invalid_option,
    poll_once, rpc,
};

/// Returns the option that an error names, and the values it expects.
fn refused(error: &Error) -> (&'static str, &'static str) {
    invalid_option(error).expect("a reason")
}

/// A loop of one poller whose budget holds frames of `max_frame` bytes and no larger ones.
fn tight(builder: impl Into<AnyBuilder>, max_frame: usize) -> AnyBuilder {
    let budget = Budget::new(Budget::least(max_frame, 1));
    let builder = builder.into().pollers(1).max_frame(max_frame);
    builder.budget(budget)
}

#[test]
fn a_dialer_whose_max_frame_exceeds_the_budget_of_its_loop_is_rejected() {
    let upstream = Server::rpc();
    let server = Server::start(tight(builder(), 1 << 20), rpc);
    let dialer = |max_frame| {
        let options = ConnOptions::for_dialing().max_frame(max_frame);
        Dialer::new().options(options).on(&server.handle)
    };
    let large = dialer((1 << 20) + 1);
    let stream = std::net::TcpStream::connect(upstream.addr.as_tcp().unwrap()).unwrap();
    let codec = || Numbered::new(LengthField::new());
    let options = ClientOptions::default;
    let failures = [
        block_on(large.dial(upstream.addr)).unwrap_err(),
        block_on(large.adopt(stream.into())).unwrap_err(),
        Client::dialing(large.clone(), upstream.addr, codec(), options()).unwrap_err(),
        ConnPool::with_options(large, ConnPoolOptions::default()).unwrap_err(),
    ];
    for error in &failures {
        let (field, expected) = refused(error);
        assert_eq!(
            (field, error.kind()),
            ("max_frame", ErrorKind::InvalidInput)
        );
        assert!(expected.contains("Budget::least"), "{expected}");
    }
    // A frame size that fits is accepted.
    let mut conn = block_on(dialer(1 << 20).dial(upstream.addr)).expect("it fits");
    block_on(async {
        conn.writer().put_slice(&frame(&bytes(1000, 1)));
        let mut reader = conn.reader();
        let answer = reader.next(1004).await.expect("an answer");
        assert!(answer == frame(&bytes(1000, 1)));
    });
    Client::dialing(dialer(1 << 20), upstream.addr, codec(), options()).expect("it fits");
}

#[test]
fn a_loop_that_does_not_run_yet_rejects_a_dialer_at_once() {
    let ready = tight(builder(), 1 << 20)
        .on_request(rpc)
        .listen(free_listener());
    let ready = ready.build().expect("a loop");
    // Without the check the dial would wait for the loop.
    let dialer = Dialer::new().on(&ready.handle()).connect_timeout(None);
    let mut dial = std::pin::pin!(dialer.dial("127.0.0.1:1"));
    let Poll::Ready(Err(error)) = poll_once(dial.as_mut()) else {
        panic!("the dial waits");
    };
    assert_eq!(refused(&error).0, "max_frame");
}

#[test]
fn a_dial_in_a_handler_is_checked_against_the_budget_of_its_loop() {
    let upstream = Server::rpc();
    let addr = upstream.addr;
    let on_poller = EventLoop::builder();
    let on_thread = EventLoop::builder().handler_threads(1);
    for builder in [on_poller, on_thread] {
        let (sender, receiver) = channel();
        let builder = tight(builder, 1 << 20).on_request(async move |conn: &mut Connection| {
            conn.reader().skip(1).await?;
            let options = ConnOptions::for_dialing().max_frame(1 << 20);
            let fits = Dialer::new().options(options).dial(addr).await.map(drop);
            let large = Dialer::new().dial(addr).await.map(drop);
            let results = (fits, large);
            sender.send(results)?;
            Ok(())
        });
        let server = Server::start_as_given(builder);
        server.connect().send(b"?");
        let (fits, large) = receiver.recv_timeout(LIMIT).expect("two dials");
        fits.expect("it fits");
        assert_eq!(refused(&large.unwrap_err()).0, "max_frame");
    }
}
