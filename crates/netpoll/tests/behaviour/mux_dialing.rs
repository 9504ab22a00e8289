// SPDX-License-Identifier: MIT OR Apache-2.0
//! Mux clients that dial: one connection for all calls, a new one after its loss, and a back-off
//! after a failed dial.

use std::io::ErrorKind;
use std::time::{Duration, Instant};

use netpoll::Dialer;
use netpoll::mux::{Backoff, Client, ClientOptions};
use netpoll::time::sleep;

use super::mux::{A_WHILE, call, codec, echo};
use crate::support::{Host, LIMIT, all, in_each_executor, until};

#[test]
fn a_dialing_client_shares_one_connection_and_reconnects_after_its_loss() {
    let serving = in_each_executor(|| {
        let host = Host::new();
        let addr = host.addr;
        let serving = std::thread::spawn(move || {
            for _ in 0..3 {
                echo(&mut host.accept(), 8);
            }
        });
        async move {
            let client =
                Client::dialing(Dialer::new(), addr, codec(), ClientOptions::default()).unwrap();
            for round in 1..=3 {
                for answer in all((0..8).map(|_| call(&client, b"hello"))).await {
                    assert_eq!(answer.unwrap(), b"hello");
                }
                assert_eq!(client.stats().connections, round);
                until("the loss", || !client.is_connected()).await;
            }
            serving
        }
    });
    for thread in serving {
        thread.join().unwrap();
    }
}

#[test]
fn calls_fail_at_once_during_the_back_off_after_a_failed_dial() {
    let serving = in_each_executor(async || {
        let addr = Host::new().addr;
        let options = ClientOptions::default()
            .backoff(Backoff::default().first(4 * A_WHILE).longest(4 * A_WHILE));
        let client = Client::dialing(Dialer::new(), addr, codec(), options).unwrap();
        let refused = call(&client, b"?").await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
        let failed = Instant::now();
        let host = Host::again_at(addr);
        let again = call(&client, b"?").await.unwrap_err();
        if failed.elapsed() < A_WHILE {
            assert_eq!(again.kind(), ErrorKind::ConnectionRefused, "not dialed yet");
            assert_eq!(again.raw_os_error(), refused.raw_os_error());
        }
        let serving = std::thread::spawn(move || echo(&mut host.accept(), 1));
        let answer = loop {
            match call(&client, b"back").await {
                Ok(answer) => break answer,
                Err(error) => assert!(failed.elapsed() < LIMIT, "{error}"),
            }
            sleep(Duration::from_millis(1)).await;
        };
        assert_eq!(answer, b"back");
        let took = failed.elapsed();
        assert!(
            took >= 2 * A_WHILE,
            "at least half of the back-off: {took:?}"
        );
        serving
    });
    for thread in serving {
        thread.join().unwrap();
    }
}
