// SPDX-License-Identifier: MIT OR Apache-2.0
//! Too few descriptors, and connections that end before they are accepted. Tests of failures in
//! other projects carry the number of the report.

use std::fs::File;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use netpoll::EventLoop;
use netpoll::{Dialer, Listener};

use crate::support::{
    AnyBuilder, Apart, Peer, Server, alone_twice, alone_twice_with, block_on, bound, builder,
    bytes, eventually, free_listener, free_path, open_descriptors, rpc,
};

/// Few descriptors, and enough for a server.
const FEW: u32 = 64;

fn two_pollers() -> AnyBuilder {
    builder().pollers(2)
}

/// Dials far more often than the server can accept, twice. Accepted connections are served, no
/// poller spins, and the server accepts again once descriptors are free.
fn survives(server: &Apart) {
    for _ in 0..2 {
        let mut peers: Vec<Peer> = (0..300).map(|_| Peer::connect(server.addr)).collect();
        for _ in 0..3 {
            for peer in peers.iter_mut().take(20) {
                peer.call(&bytes(100, 1));
            }
        }
        let (before, begun) = (server.processor_time(), Instant::now());
        std::thread::sleep(Duration::from_millis(1000));
        let used = server.processor_time() - before;
        assert!(
            used <= begun.elapsed() / 10,
            "{used:?} of processor time while it waits"
        );
        for peer in peers.iter_mut().take(20) {
            peer.call(&bytes(100, 2));
        }
        drop(peers);
        Peer::connect(server.addr).call(b"back again");
    }
}

#[test]
fn hazard_b05_a_server_recovers_each_time_it_runs_out_of_descriptors() {
    let name = "exhaustion::hazard_b05_a_server_recovers_each_time_it_runs_out_of_descriptors";
    if let Some(server) = Apart::start(FEW, name, || {
        EventLoop::builder().pollers(2).on_request(rpc)
    }) {
        survives(&server);
    }
}

#[test]
fn gnet_367_tokio_3529_netpoll_311_a_server_out_of_descriptors_neither_ends_nor_spins() {
    let name = "exhaustion::\
        gnet_367_tokio_3529_netpoll_311_a_server_out_of_descriptors_neither_ends_nor_spins";
    let above_the_descriptor_limit = || {
        let builder = EventLoop::builder().pollers(2).max_connections(1000);
        builder.on_request(rpc)
    };
    if let Some(server) = Apart::start(FEW, name, above_the_descriptor_limit) {
        survives(&server);
    }
}

/// Opens files until the process has only `left` descriptors.
fn all_but(left: usize) -> Vec<File> {
    let mut files: Vec<File> = std::iter::from_fn(|| File::open("/dev/null").ok()).collect();
    files.truncate(files.len() - left);
    files
}

#[test]
fn accepting_resumes_when_the_process_frees_a_descriptor() {
    let name = "exhaustion::accepting_resumes_when_the_process_frees_a_descriptor";
    alone_twice_with(FEW, name, || {
        let server = Server::start(two_pollers().max_connections(1000), rpc);
        let mut first = server.connect();
        first.call(b"in");
        let mut second = Peer::connect(server.addr);
        second.call(b"in");
        // The next connection has one descriptor for the client's end, and none for the server's.
        let files = all_but(1);
        let mut third = server.connect();
        let out = || server.handle.accept_stats().process_out_of_descriptors;
        eventually("the pauses", || out() >= 5);
        first.finish();
        third.call(b"in");
        let stats = server.handle.accept_stats();
        assert_eq!(stats.accepted, 3);
        second.call(b"still in");
        drop(files);
    });
}

#[test]
fn gnet_453_connections_reset_in_the_backlog_do_not_stop_accepting() {
    let listener = free_listener();
    let addr = bound(&listener);
    for round in 0..100 {
        let mut peer = Peer::connect(addr);
        if round % 2 == 0 {
            peer.send(b"never read");
        }
        peer.reset();
    }
    let server = Server::start_on(listener, two_pollers(), rpc);
    server.connect().call(b"in");
    eventually("no other connection", || server.handle.connections() <= 1);
}

#[test]
fn mio_1636_netpoll_256_a_failed_setup_leaves_no_descriptor() {
    let name = "exhaustion::mio_1636_netpoll_256_a_failed_setup_leaves_no_descriptor";
    alone_twice(name, || {
        let listener = free_listener();
        let path = free_path();
        let _unix = Listener::unix(&path).unwrap();
        let gone = free_listener();
        let unserved = bound(&gone);
        drop(gone);
        // The pollers that dials share run before anything is counted.
        block_on(Dialer::new().dial(unserved)).unwrap_err();
        let before = open_descriptors();
        for _ in 0..20 {
            Listener::bind(bound(&listener)).unwrap_err();
            Listener::unix(&path).unwrap_err();
            Listener::from_fd(File::open("/dev/null").unwrap().into()).unwrap_err();
            block_on(Dialer::new().dial(unserved)).unwrap_err();
        }
        eventually("as many descriptors as before", || {
            open_descriptors() <= before
        });
    });
}

#[test]
fn a_loop_without_enough_descriptors_fails_and_leaves_none() {
    let name = "exhaustion::a_loop_without_enough_descriptors_fails_and_leaves_none";
    alone_twice_with(FEW, name, || {
        let before = open_descriptors();
        let mut left = 0;
        loop {
            let builder = two_pollers().on_request(rpc);
            let running = builder.listen(free_listener()).build().unwrap();
            drop(running.handle().shutdown(Duration::ZERO));
            let files = all_but(left);
            let ran = running.run();
            drop(files);
            assert_eq!(open_descriptors(), before, "with {left} free descriptors");
            match ran {
                Ok(()) => break,
                Err(error) => assert_eq!(error.raw_os_error(), Some(24), "{error}"),
            }
            left += 1;
        }
        // Two pollers have an epoll instance and a notifier each.
        assert_eq!(left, 4);
    });
}

/// Returns the descriptors that a child process inherits.
fn inherited() -> String {
    let mut list = Command::new("ls");
    let listed = list.arg("/proc/self/fd").stdin(Stdio::null()).output();
    let listed = listed.expect("a program");
    String::from_utf8(listed.stdout).expect("numbers")
}

#[test]
fn gnet_743_gnet_745_a_child_process_inherits_no_descriptor() {
    let name = "exhaustion::gnet_743_gnet_745_a_child_process_inherits_no_descriptor";
    alone_twice(name, || {
        let before = inherited();
        let server = Server::start(
            two_pollers().listen(Listener::unix(free_path()).unwrap()),
            rpc,
        );
        let mut peer = server.connect();
        peer.call(b"in");
        let dialed = block_on(Dialer::new().dial(server.addr)).unwrap();
        eventually("both", || server.handle.connections() == 2);
        assert_eq!(inherited(), before);
        drop(dialed);
    });
}
