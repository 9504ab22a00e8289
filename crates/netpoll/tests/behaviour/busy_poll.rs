// SPDX-License-Identifier: MIT OR Apache-2.0
//! Pollers that busy poll before they sleep: they do the same work, and poll less when it finds
//! nothing.

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use netpoll::stats::PollerStats;
use netpoll::time::sleep;
use netpoll::{Connection, Dialer, Listener};
use socket2::SockRef;

use crate::support::{
    AnyBuilder, AsGiven, LIMIT, Peer, Server, block_on, bound, builder, bytes, eventually, frame,
    free_path, invalid_option, rpc,
};

/// Longer than any step of these tests: the poller busy polls all the time.
const LONGEST: Duration = Duration::from_secs(1);

/// Shorter than any round trip: a busy poll finds nothing.
const SHORTEST: Duration = Duration::from_nanos(1);

fn busy(time: Duration) -> AnyBuilder {
    builder().pollers(1).busy_poll(time)
}

fn total(server: &Server) -> PollerStats {
    server.handle.stats().total()
}

/// Returns the busy-poll time of a new socket in microseconds, and that after a request for `time`.
fn without_and_with(time: Duration) -> (u32, u32) {
    let socket = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let without = busy_poll_of(&socket);
    // The kernel may reject it: raising the time needs a capability.
    let micros = time.as_micros() as u32;
    let _set = SockRef::from(&socket).set_busy_poll(micros).ok();
    (without, busy_poll_of(&socket))
}

fn busy_poll_of(socket: &impl AsFd) -> u32 {
    SockRef::from(socket)
        .busy_poll()
        .expect("a kernel with SO_BUSY_POLL")
}

#[test]
fn a_poller_that_busy_polls_answers_requests() {
    let server = Server::start(busy(LONGEST), rpc);
    let (mut first, mut second) = (server.connect(), server.connect());
    for length in 0..200 {
        let body = bytes(length, 7);
        for peer in [&mut first, &mut second] {
            peer.send(&frame(&body));
            assert_eq!(peer.receive(length + 4), frame(&body));
        }
    }
    let total = total(&server);
    assert!(total.busy_poll_hits > 0, "{total:?}");
    assert!(total.busy_poll_hits <= total.busy_polls && total.busy_polls <= total.waits);
}

#[test]
fn a_poller_never_busy_polls_by_default() {
    let server = Server::rpc();
    let mut peer = server.connect();
    for _ in 0..100 {
        peer.send(&frame(b"x"));
        peer.receive(5);
    }
    assert_eq!(
        (total(&server).busy_polls, total(&server).busy_poll_hits),
        (0, 0)
    );
}

#[test]
fn busy_polls_that_find_nothing_become_rare() {
    let server = Server::start(busy(SHORTEST), rpc);
    let mut peer = server.connect();
    for _ in 0..200 {
        // Slow enough that no request is there when the poller looks.
        block_on(sleep(Duration::from_millis(1)));
        peer.send(&frame(b"x"));
        peer.receive(5);
    }
    let total = total(&server);
    assert!(total.busy_polls > 0, "{total:?}");
    assert!(total.busy_polls < total.waits / 2, "{total:?}");
}

#[test]
fn a_busy_polling_poller_without_events_sleeps() {
    let server = Server::start(busy(Duration::from_millis(1)), rpc);
    let mut peer = server.connect();
    peer.send(&frame(b"x"));
    peer.receive(5);
    let mut before = total(&server);
    eventually("a busy poll that found nothing, and no more since", || {
        block_on(sleep(Duration::from_millis(20)));
        let now = total(&server);
        let is_still = now.busy_polls > now.busy_poll_hits && now == before;
        before = now;
        is_still
    });
    // A request wakes it again.
    peer.send(&frame(b"y"));
    assert_eq!(peer.receive(5), frame(b"y"));
}

#[test]
fn a_command_of_another_thread_ends_a_busy_poll() {
    let server = Server::start(busy(LONGEST), rpc);
    let mut peer = server.connect();
    peer.send(&frame(b"x"));
    peer.receive(5);
    let conn = block_on(Dialer::new().on(&server.handle).dial(server.addr)).unwrap();
    let before = total(&server);
    eventually("a wakeup that a busy poll has found", || {
        conn.set_timeouts(conn.timeouts()).expect("as they are");
        let now = total(&server);
        now.wakeups > before.wakeups && now.busy_poll_hits > before.busy_poll_hits
    });
}

#[test]
fn a_timer_fires_when_it_is_due_and_not_after_the_busy_poll() {
    let begun = Instant::now();
    for _ in 0..LIMIT.as_secs() {
        let server = Server::start(
            busy(LONGEST).linger(Duration::from_millis(1)),
            handler!([], |conn| {
                conn.reader().wait(8).await?;
                sleep(Duration::from_millis(1)).await;
                rpc(conn).await
            }),
        );
        let mut peer = server.connect();
        peer.send(&frame(b"late"));
        assert_eq!(peer.receive(8), frame(b"late"));
    }
    // Each round would otherwise have taken as long as the busy poll.
    assert!(begun.elapsed() < LIMIT);
}

#[test]
fn a_shutdown_ends_a_busy_poll() {
    let begun = Instant::now();
    for _ in 0..LIMIT.as_secs() {
        let server = Server::start(busy(LONGEST).linger(Duration::from_millis(1)), rpc);
        let mut idle = server.connect();
        idle.send(&frame(b"x"));
        idle.receive(5);
        assert_eq!(server.shut_down(LIMIT), 0);
        idle.receive_all().expect("a FIN");
    }
    // Each round would otherwise have taken as long as the busy poll.
    assert!(begun.elapsed() < LIMIT);
}

#[test]
fn a_busy_poll_above_1_second_is_rejected() {
    let build = |time| {
        let builder = busy(time).on_request(rpc);
        builder
            .listen(Listener::bind("127.0.0.1:0").unwrap())
            .build()
    };
    let error = build(LONGEST + SHORTEST).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::InvalidInput);
    let (option, expected) = invalid_option(&error).unwrap();
    assert_eq!(option, "busy_poll");
    assert!(expected.contains("1 second"), "{error}");
    build(LONGEST).unwrap();
    build(Duration::ZERO).unwrap();
}

#[test]
fn tcp_sockets_get_the_busy_poll_time_if_the_kernel_permits() {
    let time = Duration::from_micros(70);
    let (untouched, wanted) = without_and_with(time);
    if untouched == wanted {
        eprintln!("the kernel does not permit a busy-poll time: this test shows nothing");
    }
    let listener = Listener::bind("127.0.0.1:0").unwrap();
    let early: Vec<Peer> = (0..3).map(|_| Peer::connect(bound(&listener))).collect();
    let server = Server::start_on(
        listener,
        busy(time),
        whole!([wanted], |mut conn| {
            assert_eq!(busy_poll_of(&conn), wanted, "accepted");
            conn.writer().put_str("so");
            Ok(())
        }),
    );
    for mut peer in early {
        assert_eq!(peer.receive(2), b"so");
    }
    // An accepted socket inherits it from the listener.
    assert_eq!(server.connect().receive(2), b"so");
    let here = block_on(Dialer::new().on(&server.handle).dial(server.addr)).unwrap();
    assert_eq!(busy_poll_of(&here), wanted, "dialed");
    let elsewhere = block_on(Dialer::new().dial(server.addr)).unwrap();
    assert_eq!(busy_poll_of(&elsewhere), untouched);
}

#[test]
fn unix_sockets_do_not_get_the_busy_poll_time() {
    let time = Duration::from_micros(70);
    let (untouched, _) = without_and_with(time);
    let builder = busy(time).on_connection(async move |mut conn: Connection| {
        assert_eq!(busy_poll_of(&conn), untouched);
        conn.writer().put_str("so");
        Ok(())
    });
    let listener = Listener::unix(free_path()).unwrap();
    let same = listener.as_fd().try_clone_to_owned().unwrap();
    let server = Server::start_on(listener, builder, AsGiven);
    let mut conn = block_on(Dialer::new().on(&server.handle).dial(server.addr)).unwrap();
    assert_eq!(busy_poll_of(&conn), untouched);
    assert_eq!(block_on(conn.reader().next(2)).unwrap(), b"so");
    assert_eq!(busy_poll_of(&same), untouched);
}
