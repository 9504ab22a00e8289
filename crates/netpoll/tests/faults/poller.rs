// SPDX-License-Identifier: MIT OR Apache-2.0
//! A poller whose wait fails closes its connections, reports the failure and restarts; if it
//! cannot, its loop ends with the error.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use netpoll::event::Event;
use netpoll::{CloseReason, Connection, Dialer, EventLoop, Listener, LoopHandle};
use netpoll_sys::faults::{Errno, Fault, FaultPlan, Syscall, Trigger};

use crate::ledger::{account, alone};
use crate::support::{LIMIT, eventually};

/// A loop that echoes each byte.
struct Server {
    addr: SocketAddr,
    handle: LoopHandle,
    reports: Arc<Mutex<Vec<String>>>,
    running: JoinHandle<io::Result<()>>,
}

impl Server {
    fn start(pollers: usize) -> Self {
        let reports = Arc::<Mutex<Vec<String>>>::default();
        let (events, ends) = (Arc::clone(&reports), Arc::clone(&reports));
        let push = |reports: &Mutex<Vec<String>>, line| {
            reports
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push(line)
        };
        let event_loop = EventLoop::builder()
            .on_request(async |conn: &mut Connection| {
                let byte = conn.reader().read_u8().await?;
                conn.writer().put_u8(byte);
                Ok(())
            })
            .on_event(move |event| {
                if matches!(event, Event::PollerFailed { .. }) {
                    push(&events, event.to_string());
                }
            })
            .on_disconnect(move |_, reason| {
                if matches!(reason, CloseReason::PollerFailed) {
                    push(&ends, "a connection closed".into());
                }
            })
            .pollers(pollers)
            .listen(Listener::bind("127.0.0.1:0").unwrap())
            .build()
            .unwrap();
        Self {
            addr: event_loop.local_addrs()[0].as_tcp().unwrap(),
            handle: event_loop.handle(),
            reports,
            running: std::thread::spawn(|| event_loop.run()),
        }
    }

    fn client(&self) -> io::Result<TcpStream> {
        let mut client = TcpStream::connect(self.addr)?;
        client.set_read_timeout(Some(LIMIT))?;
        call(&mut client)?;
        Ok(client)
    }

    fn reports(&self) -> Vec<String> {
        self.reports
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    fn end(self) -> io::Result<()> {
        drop(self.handle.shutdown(Duration::ZERO));
        self.running.join().unwrap()
    }
}

fn call(client: &mut TcpStream) -> io::Result<()> {
    client.write_all(b"x")?;
    client.read_exact(&mut [0])
}

fn waits_fail(when: Trigger, errno: Errno) -> FaultPlan {
    FaultPlan::new(when, move |site| {
        (site == Syscall::EpollWait).then_some(Fault::Errno(errno))
    })
}

#[test]
fn failed_wait_closes_only_the_connections_of_its_poller() {
    let _alone = alone();
    for errno in [Errno::BADF, Errno::INVAL] {
        let checked = account("a wait that fails", move || {
            let server = Server::start(1);
            let mut client = server.client().unwrap();
            let installed = waits_fail(Trigger::Nth(1), errno).install();
            // The poller is in a wait already, and the next one fails.
            let ended = call(&mut client).and_then(|()| call(&mut client));
            assert!(ended.is_err());
            eventually("a fault", || installed.injected() == 1);
            drop(installed);
            server.client().unwrap();
            let reports = server.reports();
            assert_eq!(reports[0], "a connection closed");
            assert!(
                reports[1].contains("poller 0 failed: epoll_wait failed"),
                "{reports:?}"
            );
            assert!(
                reports[1].contains("1 connections closed; restarted"),
                "{reports:?}"
            );
            assert_eq!(server.handle.stats().total().failures, 1);
            server.end().map_err(|error| error.to_string())
        });
        checked.unwrap();
    }
}

#[test]
fn poller_that_cannot_restart_ends_its_loop_with_the_error() {
    let _alone = alone();
    let checked = account("waits that fail for good", || {
        let server = Server::start(2);
        let mut clients: Vec<_> = (0..4).map(|_| server.client().unwrap()).collect();
        let installed = waits_fail(Trigger::From(1), Errno::BADF).install();
        for client in &mut clients {
            // This wakes the pollers, which are in a wait already.
            let _called = call(client);
        }
        eventually("the end", || server.running.is_finished());
        drop(installed);
        for client in &mut clients {
            let ended = client.read(&mut [0]);
            assert!(matches!(ended, Ok(0) | Err(_)), "{ended:?}");
        }
        assert_eq!(server.handle.connections(), 0);
        assert!(
            TcpStream::connect(server.addr).is_err(),
            "the listener is closed"
        );
        let reports = server.reports();
        let is_final = |line: &String| line.ends_with("cannot restart, shutting down");
        assert!(reports.iter().any(is_final), "{reports:?}");
        let error = server.end().unwrap_err();
        match error.raw_os_error() == Some(Errno::BADF.raw_os_error()) {
            true => Ok(()),
            false => Err(error.to_string()),
        }
    });
    checked.unwrap();
}

#[test]
fn poller_without_descriptors_restarts_once_one_is_free() {
    let _alone = alone();
    let checked = account("no descriptor for a while", || {
        let server = Server::start(1);
        let mut client = server.client().unwrap();
        let mut creates = 0;
        let plan = FaultPlan::new(Trigger::From(1), move |site| match site {
            Syscall::EpollCreate => {
                creates += 1;
                (creates <= 3).then_some(Fault::Errno(Errno::MFILE))
            }
            Syscall::EpollWait if creates == 0 => Some(Fault::Errno(Errno::BADF)),
            _ => None,
        });
        let installed = plan.install();
        let _called = call(&mut client).and_then(|()| call(&mut client));
        eventually("a failure", || server.handle.stats().total().failures == 1);
        server.client().unwrap();
        drop(installed);
        server.end().map_err(|error| error.to_string())
    });
    checked.unwrap();
}

#[test]
fn shared_dial_pollers_are_replaced_after_a_failure() {
    let _alone = alone();
    let server = Server::start(1);
    let dialed = Dialer::new().dial_blocking(server.addr).unwrap();
    let server_waits = server.handle.stats().total().waits;
    let installed = waits_fail(Trigger::From(1), Errno::BADF).install();
    // Every next wait fails permanently: also those of the shared pollers, once they are woken.
    let failed = Dialer::new()
        .connect_timeout(LIMIT)
        .dial_blocking(server.addr);
    drop(installed);
    if let Err(error) = failed {
        assert_ne!(error.kind(), ErrorKind::TimedOut);
    }
    drop(dialed);
    let another = Server::start(1);
    Dialer::new()
        .connect_timeout(LIMIT)
        .dial_blocking(another.addr)
        .unwrap();
    assert!(server.handle.stats().total().waits >= server_waits);
    let _ended = server.end();
    another.end().unwrap();
}
