// SPDX-License-Identifier: MIT OR Apache-2.0
//! A handler whose input never ends yields to the other connections of its thread.

use std::future::{Future, poll_fn};
use std::net::TcpStream;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::thread::JoinHandle;
use std::time::Duration;

use netpoll::runner::Spawn;
use netpoll::time::{sleep, timeout};
use netpoll::{BoxError, Connection, EventLoop, Runner};

use crate::busy_handlers::{Hog, is_hog, one_poller, one_thread, victim};
use crate::support::{Peer, Server};

/// Sends without end until the connection is closed.
fn flood(peer: &Peer) -> JoinHandle<()> {
    let socket = peer.stream.try_clone().expect("a descriptor");
    std::thread::spawn(move || {
        let mut stream = TcpStream::from(std::os::fd::OwnedFd::from(socket));
        while std::io::Write::write_all(&mut stream, &[0; 4096]).is_ok() {}
    })
}

/// Ways to read.
const READS: [&str; 5] = ["number", "bytes", "until", "chunk", "frame"];

async fn read(hog: &Hog, way: &str, conn: &mut Connection) -> Result<(), BoxError> {
    let mut reader = conn.reader();
    while hog.step() {
        match way {
            "number" => drop(reader.read_u8().await?),
            "bytes" => drop(reader.next(16).await?.len()),
            "until" => drop(reader.until(0, 1).await?.len()),
            "chunk" => drop(reader.chunk().await?),
            "frame" => drop(reader.frame(&netpoll::codec::FixedSize::new(4)).await?),
            _ => unreachable!("{way}"),
        }
    }
    conn.close();
    Ok(())
}

#[test]
fn a_handler_whose_input_never_ends_yields_to_others_on_its_thread() {
    for way in READS {
        for builder in one_thread() {
            let hog = Hog::default();
            let runs = hog.clone();
            let builder =
                builder.on_request(
                    async move |conn: &mut Connection| match is_hog(conn).await? {
                        true => read(&runs, way, conn).await,
                        false => Ok(()),
                    },
                );
            let server = Server::start_as_given(builder);
            let mut peer = server.connect();
            peer.send(b"h");
            let flooding = flood(&peer);
            hog.does_not_hold_up(way, victim(&server));
            flooding.join().expect("no panic");
        }
    }
}

#[test]
fn an_endless_request_batch_yields_to_others_on_its_thread() {
    for builder in one_thread() {
        let hog = Hog::default();
        let runs = hog.clone();
        let builder = builder.on_request(async move |conn: &mut Connection| {
            match conn.reader().read_u8().await? {
                b'v' => conn.writer().put_u8(b'!'),
                _ if !runs.step() => conn.close(),
                _ => {}
            }
            Ok(())
        });
        let server = Server::start_as_given(builder);
        let peer = server.connect();
        let flooding = flood(&peer);
        hog.does_not_hold_up("batch", victim(&server));
        flooding.join().expect("no panic");
    }
}

#[test]
fn a_read_and_a_timer_ready_in_turn_do_not_renew_each_others_budget() {
    let hog = Hog::default();
    let runs = hog.clone();
    let builder = one_poller().on_request(async move |conn: &mut Connection| {
        if is_hog(conn).await? {
            while runs.step() {
                let mut reader = conn.reader();
                let mut read = std::pin::pin!(reader.read_u8());
                let mut tick = std::pin::pin!(sleep(Duration::ZERO));
                // The first that is ready; the other is dropped, as by a select.
                poll_fn(|context| match read.as_mut().poll(context) {
                    Poll::Ready(byte) => Poll::Ready(byte.map(drop)),
                    Poll::Pending => tick.as_mut().poll(context).map(Ok),
                })
                .await?;
            }
            conn.close();
        }
        Ok(())
    });
    let server = Server::start_as_given(builder);
    let mut peer = server.connect();
    peer.send(b"h");
    let flooding = flood(&peer);
    hog.does_not_hold_up("select", victim(&server));
    flooding.join().expect("no panic");
}

#[test]
fn a_timeout_of_zero_does_not_fail_a_read_of_buffered_bytes() {
    let builder = one_poller().on_request(async |conn: &mut Connection| {
        let mut reader = conn.reader();
        let count = reader.read_u32().await?;
        reader.wait(count as usize).await?;
        for _ in 0..count {
            std::thread::sleep(Duration::from_micros(10));
            // All bytes have arrived, so none of these times out.
            timeout(Duration::ZERO, reader.read_u8()).await??;
        }
        conn.writer().put_u8(b'!');
        Ok(())
    });
    let server = Server::start_as_given(builder);
    let mut peer = server.connect();
    let bytes = [1000_u32.to_be_bytes().as_slice(), &[0; 1000]].concat();
    peer.send(&bytes);
    assert_eq!(peer.receive(1), b"!");
}

/// An executor of one thread that polls all its tasks in a loop.
struct OneThread(std::sync::mpsc::Sender<Pin<Box<dyn Future<Output = ()> + Send>>>);

impl Spawn for OneThread {
    fn spawn(&self, task: Pin<Box<dyn Future<Output = ()> + Send>>) {
        drop(self.0.send(task));
    }
}

#[test]
fn a_handler_whose_input_never_ends_yields_to_others_on_its_executor() {
    let (sender, tasks) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let mut all: Vec<Pin<Box<dyn Future<Output = ()> + Send>>> = Vec::new();
        loop {
            match tasks.recv_timeout(Duration::from_millis(1)) {
                Ok(task) => all.push(task),
                Err(std::sync::mpsc::RecvTimeoutError::Timeout) => {}
                Err(std::sync::mpsc::RecvTimeoutError::Disconnected) => return,
            }
            all.retain_mut(|task| {
                let mut context = std::task::Context::from_waker(std::task::Waker::noop());
                task.as_mut().poll(&mut context).is_pending()
            });
        }
    });
    let hog = Hog::default();
    let runs = hog.clone();
    let runner = Runner::Spawn(Arc::new(OneThread(sender)));
    let builder =
        EventLoop::builder_on(runner)
            .pollers(1)
            .on_connection(move |mut conn: Connection| {
                let hog = runs.clone();
                async move {
                    loop {
                        if is_hog(&mut conn).await? {
                            read(&hog, "number", &mut conn).await?;
                        }
                    }
                }
            });
    let server = Server::start_as_given(builder);
    let mut peer = server.connect();
    peer.send(b"h");
    let flooding = flood(&peer);
    hog.does_not_hold_up("executor", victim(&server));
    flooding.join().expect("no panic");
}
