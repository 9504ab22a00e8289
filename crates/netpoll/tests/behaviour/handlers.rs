// SPDX-License-Identifier: MIT OR Apache-2.0
//! Handlers that fail, panic, and swap their connections.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use netpoll::{BoxError, CloseReason, Connection, Dialer};

use crate::support::{Gate, Kind, RESET, Server, block_on, errno_of, eventually, rpc};

/// Fails, panics or answers, as the word says.
async fn obey(conn: &mut Connection) -> Result<(), BoxError> {
    struct PanicsOnDrop;
    impl Drop for PanicsOnDrop {
        fn drop(&mut self) {
            panic!("requested by the test");
        }
    }
    let (mut reader, mut writer) = conn.split();
    match reader.read_string(5).await?.as_str() {
        "fail!" => Err("a failure".into()),
        "panic" => panic!("requested by the test"),
        "drop!" => {
            let _last = PanicsOnDrop;
            Ok(())
        }
        word => {
            writer.put_str(word);
            Ok(())
        }
    }
}

fn obedient() -> Server {
    Server::start(crate::support::builder().pollers(1), obey)
}

/// Sends `word` on one of two connections, and checks that the other one still works.
fn close_reason_after(word: &[u8]) -> CloseReason {
    let server = obedient();
    let (mut steady, mut peer) = (server.connect(), server.connect());
    for peer in [&mut steady, &mut peer] {
        peer.send(b"hello");
        assert_eq!(peer.receive(5), b"hello");
    }
    peer.send(word);
    let received = peer.receive_all().expect("a FIN");
    assert_eq!(received, b"");
    drop(peer);
    let reason = server.ending();
    for peer in [&mut steady, &mut server.connect()] {
        peer.send(b"still");
        assert_eq!(peer.receive(5), b"still");
    }
    reason
}

#[test]
fn an_error_of_the_handler_closes_its_connection_and_is_the_reason() {
    let reason = close_reason_after(b"fail!");
    assert!(matches!(reason, CloseReason::Handler(error) if error.to_string() == "a failure"));
}

#[test]
fn a_panic_of_the_handler_closes_its_connection_and_is_the_reason() {
    assert!(matches!(
        close_reason_after(b"panic"),
        CloseReason::HandlerPanic
    ));
}

#[test]
fn a_panic_in_a_drop_at_the_end_of_a_call_is_a_handler_panic() {
    assert!(matches!(
        close_reason_after(b"drop!"),
        CloseReason::HandlerPanic
    ));
}

#[test]
fn answers_written_before_a_failure_are_sent() {
    for (word, panics) in [(b"fail!", false), (b"panic", true)] {
        let server = obedient();
        let mut peer = server.connect();
        peer.send(b"oneoneTWOTWO345");
        peer.send(word);
        peer.send(b"never");
        assert_eq!(peer.receive_all().unwrap(), b"oneoneTWOTWO345");
        drop(peer);
        assert_eq!(matches!(server.ending(), CloseReason::HandlerPanic), panics);
    }
}

#[test]
fn a_panic_in_the_drop_of_a_future_affects_no_other_connection() {
    struct Dropped(Arc<AtomicUsize>);
    impl Drop for Dropped {
        fn drop(&mut self) {
            self.0.fetch_add(1, Ordering::SeqCst);
            // Without the panic hook: printing five backtraces at once takes longer on a busy machine
            // than a shutdown waits for a drop.
            std::panic::resume_unwind(Box::new("dropped"));
        }
    }
    let drops = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&drops);
    let handler = handler!([counter], |conn| {
        let _dropped = Dropped(Arc::clone(&counter));
        conn.reader().skip(1).await?;
        conn.writer().put_u8(1);
        std::future::pending::<()>().await;
        Ok(())
    });
    let server = Server::start(crate::support::builder().pollers(1), handler);
    let mut peers: Vec<_> = (0..5).map(|_| server.connect()).collect();
    for peer in &mut peers {
        peer.send(b"?");
        peer.receive(1);
    }
    assert_eq!(server.shut_down(std::time::Duration::from_millis(1)), 5);
    assert_eq!(drops.load(Ordering::SeqCst), 5);
}

#[test]
fn a_panic_of_on_disconnect_affects_no_other_connection() {
    let server = Server::start_observed(crate::support::builder().pollers(1), rpc, |_, _| {
        panic!("requested by the test")
    });
    let mut steady = server.connect();
    for _ in 0..5 {
        let mut peer = server.connect();
        peer.call(b"one");
        drop(peer);
        steady.call(b"still here");
    }
    eventually("the end of all others", || server.handle.connections() == 1);
    steady.call(b"still here");
}

/// Starts a server whose handler swaps its connection with one that it dials to `upstream`.
fn swapper(upstream: &Server) -> Server {
    let addr = upstream.addr;
    let handler = handler!([], |conn| {
        let command = conn.reader().read_u8().await?;
        if command == b's' {
            let mut other = Dialer::new().dial(addr).await?;
            std::mem::swap(conn, &mut other);
        } else {
            conn.writer().put_u8(command);
        }
        Ok(())
    });
    Server::start(crate::support::builder().pollers(1), handler)
}

#[test]
fn swapped_connections_are_both_closed_and_no_other_is() {
    let upstream = Server::rpc();
    let server = swapper(&upstream);
    let (mut steady, mut peer) = (server.connect(), server.connect());
    let mut bystander = upstream.connect();
    peer.send(b"s");
    assert_eq!(peer.receive_all().unwrap(), b"");
    assert!(matches!(upstream.ending(), CloseReason::PeerFin));
    peer.finish();
    assert!(matches!(server.ending(), CloseReason::Local));
    steady.send(b"x");
    assert_eq!(steady.receive(1), b"x");
    bystander.call(b"still here");
}

#[test]
fn a_connection_swapped_with_one_held_elsewhere_is_closed() {
    let upstream = Server::rpc();
    let held = block_on(Dialer::new().dial(upstream.addr)).unwrap();
    let held = Arc::new(Mutex::new(held));
    let other = Arc::clone(&held);
    let handler = handler!([other], |conn| {
        conn.reader().skip(1).await?;
        std::mem::swap(conn, &mut other.lock().unwrap());
        Ok(())
    });
    let server =
        Server::start(crate::support::builder().pollers(1), handler).of_which_some_is_kept();
    let mut peer = server.connect();
    peer.send(b"s");
    assert_eq!(peer.receive_all().unwrap(), b"");
    assert!(matches!(upstream.ending(), CloseReason::PeerFin));
    drop(peer);
    assert!(matches!(server.ending(), CloseReason::Local));
}

#[test]
fn an_error_of_another_connection_is_a_handler_error() {
    if crate::support::kind() == Kind::Unix {
        return; // There is no reset to pass on.
    }
    let gate = Gate::default();
    let at = gate.clone();
    let upstream = Server::start(
        crate::support::builder().pollers(1),
        whole!([at], |conn| {
            at.pass().await;
            conn.abort();
            Ok(())
        }),
    );
    let addr = upstream.addr;
    let handler = handler!([], |conn| {
        conn.reader().skip(1).await?;
        let mut other = Dialer::new().dial(addr).await?;
        Ok(other.reader().skip(1).await?)
    });
    let server = Server::start(crate::support::builder().pollers(1), handler);
    let mut peer = server.connect();
    peer.send(b"?");
    eventually("the dial", || gate.is_waited_at());
    gate.open();
    assert_eq!(peer.receive_all().unwrap(), b"");
    drop(peer);
    let reason = server.ending();
    assert!(errno_of(&reason).is_none(), "{reason}");
    assert!(matches!(reason, CloseReason::Handler(_)), "{reason}");
    assert_ne!(errno_of(&upstream.ending()), Some(RESET));
}
