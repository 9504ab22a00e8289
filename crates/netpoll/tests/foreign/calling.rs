// SPDX-License-Identifier: MIT OR Apache-2.0
//! The futures of dials, pools and mux clients.

use std::time::Duration;

use netpoll::Dialer;
use netpoll::codec::LengthField;
use netpoll::mux::{Client, ClientOptions, Message, Numbered};
use netpoll::pool::{ConnPool, ConnPoolOptions};

use crate::hostile::{Scene, survives};
use crate::reading::ask;
use crate::support::{Host, Peer, block_on, pair};

#[test]
fn dial_by_address_and_by_name_survives_hostile_wakers() {
    survives("dial", || {
        let host = Host::new();
        let addr = host.addr;
        let waits = async move { drop(Dialer::new().dial(addr).await.expect("a host")) };
        Scene::new(waits, || (), move || drop(host.accept()))
    });
    survives("dial by name", || {
        let host = Host::new();
        let port = host.addr.as_tcp().expect("TCP").port();
        let waits = async move {
            drop(
                Dialer::new()
                    .dial(("localhost", port))
                    .await
                    .expect("a host"),
            );
        };
        Scene::new(waits, || (), move || host)
    });
}

fn pool_of_one() -> ConnPool {
    let options = ConnPoolOptions::default().max_connections(1);
    ConnPool::with_options(Dialer::new(), options).expect("valid options")
}

#[test]
fn pool_get_of_a_returned_connection_survives_hostile_wakers() {
    for closes in [false, true] {
        survives("ConnPool::get", || {
            let (pool, host) = (pool_of_one(), Host::new());
            let addr = host.addr;
            let out = block_on(pool.get(addr)).expect("a host");
            let (waiting, asked, ended) = (pool.clone(), pool.clone(), pool);
            let waits = async move { drop(waiting.get(addr).await) };
            let enter = move || {
                let _stats = (asked.stats(addr), asked.stats_all());
            };
            Scene::new(waits, enter, move || {
                if closes {
                    ended.close();
                }
                drop(out);
                host
            })
        });
    }
}

#[test]
fn pool_get_that_dials_survives_hostile_wakers() {
    survives("ConnPool::get of a new one", || {
        let (pool, host) = (pool_of_one(), Host::new());
        let (addr, asked) = (host.addr, pool.clone());
        let waits = async move { drop(pool.get(addr).await.expect("a host")) };
        let enter = move || {
            let _stats = (asked.stats(addr), asked.stats_all());
        };
        Scene::new(waits, enter, move || host)
    });
}

type TestClient = Client<Numbered<LengthField>>;

fn client(options: ClientOptions) -> (TestClient, Peer, impl Fn()) {
    let (conn, peer) = pair();
    let handle = conn.handle();
    let codec = Numbered::new(LengthField::new());
    let client = Client::with_options(conn, codec, options).expect("valid options");
    (client, peer, move || ask(&handle))
}

/// A call of a client, and an event at its peer.
fn call<T: 'static>(
    options: ClientOptions,
    comes_back: bool,
    happens: impl FnOnce(Peer) -> T + Send + 'static,
) -> Scene {
    let (client, peer, asks) = client(options);
    let asked = client.clone();
    let waits = async move {
        let answer = client.call(Message::new(b"text")).await;
        assert_eq!(answer.is_ok(), comes_back);
    };
    let enter = move || {
        asks();
        let _stats = (asked.stats(), asked.is_connected());
    };
    Scene::new(waits, enter, move || happens(peer))
}

/// Echoes one request.
fn answers(mut peer: Peer) -> Peer {
    let head = peer.receive(12);
    let body = peer.receive(4);
    peer.send(&[head, body].concat());
    peer
}

#[test]
fn call_survives_hostile_wakers() {
    survives("call", || call(ClientOptions::default(), true, answers));
}

#[test]
fn failed_and_timed_out_calls_survive_hostile_wakers() {
    survives("call on a lost connection", || {
        call(ClientOptions::default(), false, drop)
    });
    survives("call that times out", || {
        let soon = ClientOptions::default().timeout(Duration::from_millis(30));
        call(soon, false, |peer| peer)
    });
}

#[test]
fn queued_call_survives_hostile_wakers() {
    survives("queued call", || {
        let (client, peer, asks) = client(ClientOptions::default().max_in_flight(1));
        let (first, asked) = (client.clone(), client.clone());
        let mut first = Box::pin(async move { drop(first.call(Message::new(b"text")).await) });
        assert!(crate::support::poll_once(first.as_mut()).is_pending());
        let waits = async move {
            client.call(Message::new(b"text")).await.expect("an answer");
        };
        let enter = move || {
            asks();
            let _stats = asked.stats();
        };
        Scene::new(waits, enter, move || {
            // The first call is dropped, which frees its permit; its answer matches no call.
            drop(first);
            std::thread::spawn(move || {
                let mut peer = peer;
                // The waiting call may have been dropped.
                while let Ok(request) =
                    std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| peer.receive(16)))
                {
                    peer.send(&request);
                }
            });
        })
    });
}
