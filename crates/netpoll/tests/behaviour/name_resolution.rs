// SPDX-License-Identifier: MIT OR Apache-2.0
//! Dialing by name: the resolver, the attempts at its addresses, and the deadline of both.

use std::io::{Error, ErrorKind};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use netpoll::dialer::Resolve;
use netpoll::error::{ErrorExt, ErrorKind as Kind};
use netpoll::time::{sleep, timeout};
use netpoll::{Addr, Connection, Dialer};

use crate::support::{
    LIMIT, Says, Server, Silent, alone_twice, block_on, call, eventually, in_each_executor,
    invalid_option, open_descriptors, poll_times, says, unused_addr,
};

/// The delay before the attempt at the next address.
const HEAD_START: Duration = Duration::from_millis(250);

fn of(server: &Server) -> SocketAddr {
    server.addr.as_tcp().expect("an IP address")
}

/// Dials a name that `resolver` resolves, in each executor.
fn dial_with(
    timeout: Duration,
    resolver: impl Resolve + Clone + 'static,
) -> Vec<std::io::Result<Addr>> {
    in_each_executor(move || {
        let dialer = Dialer::new().connect_timeout(timeout);
        let dialer = dialer.resolver(resolver.clone());
        async move {
            let mut conn = dialer.dial("somewhere:80").await?;
            call(&mut conn, b"hello").await?;
            Ok(conn.peer_addr())
        }
    })
}

fn errors<T>(results: Vec<std::io::Result<T>>) -> Vec<Error> {
    let failed = results.into_iter().map(|result| result.map(drop));
    failed
        .map(|result| result.expect_err("no connection"))
        .collect()
}

#[test]
fn names_are_resolved_and_numeric_addresses_are_not() {
    let server = Server::rpc();
    let port = of(&server).port();
    let called = |conn: std::io::Result<Connection>| block_on(call(&mut conn.unwrap(), b"hello"));
    let dialer = Dialer::new();
    called(block_on(dialer.dial(("localhost", port)))).unwrap();
    called(block_on(dialer.dial(format!("localhost:{port}")))).unwrap();
    called(dialer.dial_blocking((String::from("localhost"), port))).unwrap();
    for dialed in in_each_executor(move || async move {
        let mut conn = Dialer::new().dial(("localhost", port)).await?;
        call(&mut conn, b"hello").await
    }) {
        dialed.unwrap();
    }
    let no_lookup = Says(|host: &str, _| -> std::future::Ready<_> { panic!("lookup of {host}") });
    let dialer = Dialer::new().resolver(no_lookup);
    called(block_on(dialer.dial(("127.0.0.1", port)))).unwrap();
    called(block_on(dialer.dial(format!("127.0.0.1:{port}")))).unwrap();
    called(block_on(dialer.dial(&server.addr))).unwrap();
}

#[test]
fn the_system_resolvers_error_for_an_invalid_name_is_returned() {
    let long = "x".repeat(300);
    let error = block_on(Dialer::new().dial((long, 80))).unwrap_err();
    assert_ne!(error.kind(), ErrorKind::TimedOut);
    assert!(error.to_string().contains("lookup"), "{error}");
}

#[test]
fn a_resolver_gets_host_and_port_and_its_error_is_returned() {
    let resolver = Arc::new(Says(|host: &str, port| {
        let request = format!("{host} at {port}");
        std::future::ready(Err(Error::new(ErrorKind::PermissionDenied, request)))
    }));
    for error in errors(dial_with(LIMIT, resolver)) {
        assert_eq!(error.kind(), ErrorKind::PermissionDenied);
        assert_eq!(error.to_string(), "somewhere at 80");
    }
}

#[test]
fn a_name_without_addresses_fails_with_no_address() {
    for error in errors(dial_with(LIMIT, says(&[]))) {
        assert_eq!(error.kind(), ErrorKind::NotFound);
        assert!(matches!(error.netpoll_kind(), Some(Kind::NoAddress)));
    }
}

#[test]
fn a_slow_resolver_is_dropped_at_the_deadline() {
    struct Asked(Arc<AtomicUsize>);
    impl Drop for Asked {
        fn drop(&mut self) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }
    let limit = Duration::from_millis(50);
    let dropped = Arc::<AtomicUsize>::default();
    let count = Arc::clone(&dropped);
    let resolver = Arc::new(Says(move |_: &str, _| {
        let asked = Asked(Arc::clone(&count));
        async move {
            let _asked = asked;
            std::future::pending().await
        }
    }));
    let begun = Instant::now();
    let errors = errors(dial_with(limit, Arc::clone(&resolver)));
    assert!(
        errors
            .iter()
            .all(|error| error.kind() == ErrorKind::TimedOut)
    );
    assert!(begun.elapsed() >= limit * u32::try_from(errors.len()).unwrap());
    assert_eq!(dropped.load(Ordering::SeqCst), errors.len());
    let patient = Dialer::new().connect_timeout(None).resolver(resolver);
    assert!(poll_times(patient.dial("somewhere:80"), 1).is_none());
    assert_eq!(dropped.load(Ordering::SeqCst), errors.len() + 1);
}

#[test]
fn a_dial_connects_to_the_working_address_when_others_refuse_or_are_silent() {
    let server = Server::rpc();
    let silent = Silent::new();
    for dialed in dial_with(LIMIT, says(&[unused_addr(), of(&server)])) {
        assert_eq!(dialed.unwrap(), server.addr);
    }
    let begun = Instant::now();
    let dialed = dial_with(LIMIT, says(&[silent.addr, of(&server)]));
    assert!(begun.elapsed() >= HEAD_START * u32::try_from(dialed.len()).unwrap());
    for dialed in dialed {
        assert_eq!(dialed.unwrap(), server.addr);
    }
    let last = [silent.addr, unused_addr(), silent.addr, of(&server)];
    for dialed in dial_with(LIMIT, says(&last)) {
        assert_eq!(dialed.unwrap(), server.addr);
    }
}

#[test]
fn a_dial_that_all_addresses_refuse_keeps_the_errno() {
    for error in errors(dial_with(
        LIMIT,
        says(&[unused_addr(), unused_addr(), unused_addr()]),
    )) {
        assert_eq!(error.raw_os_error(), Some(111), "{error:?}");
    }
}

#[test]
fn a_dial_to_silent_addresses_times_out_at_the_deadline() {
    let (one, other) = (Silent::new(), Silent::new());
    let limit = HEAD_START + Duration::from_millis(100);
    let begun = Instant::now();
    let errors = errors(dial_with(
        limit,
        says(&[one.addr, other.addr, unused_addr()]),
    ));
    for error in &errors {
        assert_eq!(error.kind(), ErrorKind::TimedOut);
    }
    assert!(begun.elapsed() >= limit * u32::try_from(errors.len()).unwrap());
}

#[test]
fn one_deadline_covers_the_lookup_and_all_attempts() {
    let silent = Silent::new();
    let limit = Duration::from_secs(3);
    let addr = silent.addr;
    let resolver = Says(move |_: &str, _| async move {
        sleep(limit * 3 / 4).await;
        Ok(vec![addr])
    });
    let begun = Instant::now();
    let dialer = Dialer::new().connect_timeout(limit);
    let dialer = dialer.resolver(resolver);
    let dial = dialer.dial("somewhere:80");
    // An attempt with its own timeout would end later than this, by the same clock.
    let ended = block_on(timeout(limit * 13 / 8, dial));
    let error = ended.expect("one deadline").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TimedOut);
    let took = begun.elapsed();
    assert!(took >= limit, "{took:?}");
}

#[test]
fn a_dial_by_name_dropped_at_any_await_leaks_nothing() {
    alone_twice(
        "name_resolution::a_dial_by_name_dropped_at_any_await_leaks_nothing",
        || {
            let (server, silent) = (Server::rpc(), Silent::new());
            let addrs = [unused_addr(), silent.addr, of(&server)];
            let resolver = Says(move |_: &str, _| async move {
                sleep(Duration::from_millis(5)).await;
                Ok(addrs.to_vec())
            });
            let dialer = Dialer::new().resolver(resolver);
            drop(block_on(dialer.dial("somewhere:80")).unwrap());
            let mut before = open_descriptors();
            eventually("a stable count", || {
                std::mem::replace(&mut before, open_descriptors()) == before
            });
            let mut times = 0;
            while poll_times(dialer.dial("somewhere:80"), times).is_none() {
                times += 1;
            }
            assert!(
                times >= 3,
                "awaits of the lookup, a timer and an attempt: {times}"
            );
            eventually("as many descriptors as before", || {
                open_descriptors() <= before
            });
            eventually("the close of all connections", || {
                server.handle.connections() == 0
            });
        },
    );
}

#[test]
fn zero_max_lookups_is_rejected_with_the_field_name() {
    let error = block_on(Dialer::new().max_lookups(0).dial("localhost:1")).unwrap_err();
    assert_eq!(invalid_option(&error).unwrap().0, "max_lookups");
}

#[test]
fn localhost_and_its_subdomains_are_dialed_without_a_lookup() {
    let server = Server::rpc();
    let port = of(&server).port();
    for host in [
        "localhost",
        "LOCALHOST",
        "localhost.",
        "a.localhost",
        "b.a.localhost.",
    ] {
        let mut conn = block_on(Dialer::new().dial((host, port))).unwrap();
        block_on(call(&mut conn, b"hello")).unwrap();
        assert_eq!(conn.peer_addr(), server.addr);
    }
    let six = Server::start_on(
        netpoll::Listener::bind("[::1]:0").unwrap(),
        crate::support::builder().pollers(1),
        crate::support::rpc,
    );
    let port = of(&six).port();
    let conn = block_on(Dialer::new().dial(("localhost", port))).unwrap();
    assert_eq!(conn.peer_addr(), six.addr);
}

#[test]
fn a_custom_resolver_also_resolves_localhost() {
    let server = Server::rpc();
    let dialer = Dialer::new().resolver(says(&[of(&server)]));
    let conn = block_on(dialer.dial("localhost:1")).unwrap();
    assert_eq!(conn.peer_addr(), server.addr);
}
