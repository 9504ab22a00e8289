// SPDX-License-Identifier: MIT OR Apache-2.0
//! Tasks that run on a poller.

use std::io::ErrorKind;
use std::net::TcpListener;
use std::sync::Mutex;
use std::sync::mpsc::channel;
use std::time::Duration;

use netpoll::error::ErrorExt;
use netpoll::time::sleep;
use netpoll::{Addr, CloseReason, Connection, Dialer, EventLoop, spawn};

use crate::support::{LIMIT, Peer, Server, block_on, call};

fn reason(error: &std::io::Error) -> CloseReason {
    assert_eq!(error.kind(), ErrorKind::ConnectionAborted);
    error.close_reason().expect("a reason")
}

#[test]
fn a_task_runs_even_if_its_join_handle_is_dropped() {
    let (sender, receiver) = channel();
    drop(spawn(async move { sender.send(7).unwrap() }).unwrap());
    assert_eq!(receiver.recv_timeout(LIMIT), Ok(7));
    let task = spawn(async {
        sleep(Duration::from_millis(5)).await;
        "done"
    });
    assert_eq!(block_on(task.unwrap()).unwrap(), "done");
    assert_eq!(spawn(async { 42 }).unwrap().wait().unwrap(), 42);
}

#[test]
fn fifty_tasks_of_one_poller_call_a_server_concurrently() {
    let server = Server::rpc();
    let addr = server.addr;
    let tasks: Vec<_> = (0..50_u8)
        .map(|number| {
            spawn(async move {
                let mut conn = Dialer::new().dial(addr).await?;
                for _ in 0..20 {
                    call(&mut conn, &[number; 100]).await?;
                }
                std::io::Result::Ok(number)
            })
            .unwrap()
        })
        .collect();
    for (number, task) in tasks.into_iter().enumerate() {
        assert_eq!(block_on(task).unwrap().unwrap(), number as u8);
    }
}

#[test]
fn output_of_a_task_is_sent_at_its_next_await() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = Addr::Tcp(listener.local_addr().unwrap());
    let task = spawn(async move {
        let mut conn = Dialer::new().dial(addr).await?;
        for _ in 0..3 {
            conn.writer().put_u8(b'1');
            // The read sends the output itself, before a poller iteration.
            conn.reader().read_u8().await?;
            conn.writer().put_u8(b'2');
            // No call of the task sends this output; the poller does.
            sleep(Duration::from_millis(5)).await;
        }
        conn.writer().put_u8(b'3');
        sleep(LIMIT).await;
        std::io::Result::Ok(())
    });
    let task = task.unwrap();
    let mut peer = Peer::of(listener.accept().unwrap().0.into());
    for _ in 0..3 {
        assert_eq!(peer.receive(1), b"1");
        peer.send(b"!");
        assert_eq!(peer.receive(1), b"2");
    }
    assert_eq!(peer.receive(1), b"3");
    drop(task);
}

#[test]
fn a_panicking_task_ends_only_itself() {
    let (panics, continues) = (
        spawn(async { panic!("a task that panics, on purpose") }),
        spawn(async {
            sleep(Duration::from_millis(20)).await;
            1
        }),
    );
    let error = block_on::<netpoll::task::JoinHandle<()>>(panics.unwrap()).unwrap_err();
    assert!(matches!(reason(&error), CloseReason::HandlerPanic));
    assert_eq!(block_on(continues.unwrap()).unwrap(), 1);
}

#[test]
fn a_task_spawned_by_a_handler_runs_on_its_poller_and_ends_with_it() {
    let (sender, receiver) = channel();
    let sender = Mutex::new(sender);
    let server = Server::start_as_given(EventLoop::builder().pollers(1).on_request(
        async move |conn: &mut Connection| {
            conn.reader().skip(1).await?;
            let here = std::thread::current().id();
            assert_eq!(spawn(async { std::thread::current().id() })?.await?, here);
            let refused = spawn(async {})?.wait().unwrap_err();
            assert_eq!(refused.kind(), ErrorKind::WouldBlock);
            sender
                .lock()
                .unwrap()
                .send(spawn(std::future::pending::<()>())?)?;
            Ok(())
        },
    ));
    let mut peer = server.connect();
    peer.send(b"?");
    let endless = receiver.recv_timeout(LIMIT).unwrap();
    drop(peer);
    server.ending();
    assert_eq!(server.shut_down(LIMIT), 0);
    let error = block_on(endless).unwrap_err();
    assert!(matches!(reason(&error), CloseReason::Shutdown));
}
