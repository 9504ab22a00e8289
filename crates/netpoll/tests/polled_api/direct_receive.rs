// SPDX-License-Identifier: MIT OR Apache-2.0
//! Bulk transfers, which a handler on its connection's poller receives for itself.

use std::future::poll_fn;
use std::io::{self, ErrorKind, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::task::Poll;
use std::time::Duration;

use netpoll::{Connection, EventLoop, Listener};
use socket2::SockRef;

use crate::{LIMIT, once};

/// The bytes of one step.
const PART: usize = 64 << 10;

/// The most rounds until one in which the last receive of the poller was a large one.
const ROUNDS: usize = 200;

/// Returns `length` bytes, no 256 of which are like any other.
fn bytes(length: usize) -> Vec<u8> {
    (0..length).map(|index| (index / 251) as u8).collect()
}

/// The ends of the channels of a handler.
struct Ends {
    /// Asks the peer for its next step.
    ask: Sender<()>,
    /// Is sent when the peer has done it.
    done: Receiver<()>,
}

impl Ends {
    /// Has the peer do its next step, while this thread waits.
    fn step(&self) {
        self.ask.send(()).expect("a peer");
        self.done.recv_timeout(LIMIT).expect("a peer");
    }
}

/// Reads exactly one part.
async fn read_part(conn: &mut Connection, already: usize) -> usize {
    let (mut target, mut count) = (vec![0; PART], already);
    while count < PART {
        let read = poll_fn(|context| conn.poll_read(context, &mut target)).await;
        let read = read.expect("a peer that sends");
        assert!(target[..read] == bytes(PART)[count..count + read]);
        count += read;
    }
    count
}

/// Runs rounds in which the handler reads a part, the peer acts within the same poll, and the
/// handler reads again. Returns the number of rounds whose second read was ready, the result of
/// the read after the last round, and how many bytes the connection and its loop have counted.
fn transfer(rounds: usize, last: fn(&TcpStream)) -> (usize, io::Result<usize>, u64, u64) {
    let (result, results) = channel();
    let (ask, asked) = channel();
    let (done, is_done) = channel();
    let ends = Mutex::new(Some(Ends { ask, done: is_done }));
    let server = EventLoop::builder()
        .pollers(1)
        .on_connection(async move |mut conn: Connection| {
            let ends = ends.lock().ok().and_then(|mut ends| ends.take());
            let ends = ends.expect("one connection");
            let (mut direct, mut target) = (0, vec![0; PART]);
            for _ in 0..rounds {
                read_part(&mut conn, 0).await;
                ends.step();
                let read = match once(|context| conn.poll_read(context, &mut target)) {
                    Poll::Ready(read) => read.expect("a peer that sends"),
                    Poll::Pending => 0,
                };
                assert!(target[..read] == bytes(PART)[..read]);
                direct += usize::from(read > 0);
                read_part(&mut conn, read).await;
                ends.ask.send(()).expect("a peer");
            }
            read_part(&mut conn, 0).await;
            ends.step();
            let end = match once(|context| conn.poll_read(context, &mut target)) {
                Poll::Ready(end) => end,
                Poll::Pending => poll_fn(|context| conn.poll_read(context, &mut target)).await,
            };
            let received = conn.stats().received;
            result.send((direct, end, received)).expect("a test");
            Ok(())
        })
        .listen(Listener::bind("127.0.0.1:0").expect("a free port"))
        .build()
        .expect("a loop");
    let handle = server.handle();
    let addr = handle.local_addrs()[0].as_tcp().expect("TCP");
    let running = std::thread::spawn(move || server.run().expect("a loop that runs"));
    let mut peer = TcpStream::connect(addr).expect("a server");
    for _ in 0..rounds {
        peer.write_all(&bytes(PART)).expect("a reader");
        asked.recv_timeout(LIMIT).expect("a handler");
        peer.write_all(&bytes(PART)).expect("a reader");
        done.send(()).expect("a handler");
        asked.recv_timeout(LIMIT).expect("a handler");
    }
    peer.write_all(&bytes(PART)).expect("a reader");
    asked.recv_timeout(LIMIT).expect("a handler");
    last(&peer);
    drop(peer);
    // The end arrives before the handler looks.
    std::thread::sleep(Duration::from_millis(20));
    done.send(()).expect("a handler");
    let (direct, end, received) = results.recv_timeout(LIMIT).expect("a handler");
    let counted = handle.stats().pollers[0].received;
    assert_eq!(handle.shutdown(LIMIT).wait(), 0);
    running.join().expect("no panic");
    (direct, end, received, counted)
}

#[test]
fn handler_receives_for_itself_within_a_bulk_transfer() {
    let (direct, end, received, counted) = transfer(ROUNDS, |_| ());
    assert!(direct > 0, "the poller could not have received");
    assert_eq!(end.unwrap(), 0);
    let sent = (2 * ROUNDS + 1) * PART;
    assert_eq!((received, counted), (sent as u64, sent as u64));
}

#[test]
fn bytes_that_the_poller_has_received_come_first() {
    const HALF: usize = PART / 2;
    const ROUNDS: usize = 50;
    let (ask, asked) = channel();
    let (done, is_done) = channel();
    let ends = Mutex::new(Some(Ends { ask, done: is_done }));
    let server = EventLoop::builder()
        .pollers(1)
        .on_connection(async move |mut conn: Connection| {
            let ends = ends.lock().unwrap().take().unwrap();
            for _ in 0..ROUNDS {
                while conn.stats().waiting < HALF {
                    netpoll::time::sleep(Duration::from_millis(1)).await;
                }
                // The other half arrives while the poller cannot receive.
                ends.step();
                read_part(&mut conn, 0).await;
                ends.ask.send(())?;
            }
            Ok(())
        })
        .listen(Listener::bind("127.0.0.1:0").unwrap())
        .build()
        .unwrap();
    let handle = server.handle();
    let addr = handle.local_addrs()[0].as_tcp().unwrap();
    let running = std::thread::spawn(move || server.run().unwrap());
    let mut peer = TcpStream::connect(addr).unwrap();
    let part = bytes(PART);
    for _ in 0..ROUNDS {
        peer.write_all(&part[..HALF]).unwrap();
        asked.recv_timeout(LIMIT).unwrap();
        peer.write_all(&part[HALF..]).unwrap();
        done.send(()).unwrap();
        asked
            .recv_timeout(LIMIT)
            .expect("a handler that has read all in order");
    }
    drop(peer);
    assert_eq!(handle.shutdown(LIMIT).wait(), 0);
    running.join().unwrap();
}

#[test]
fn fin_is_left_to_the_poller() {
    for _ in 0..20 {
        let (_, end, ..) = transfer(1, |peer| peer.shutdown(Shutdown::Write).unwrap());
        assert_eq!(end.unwrap(), 0);
    }
}

#[test]
fn reset_that_the_handler_receives_keeps_its_errno() {
    for _ in 0..20 {
        let (_, end, ..) = transfer(1, |peer| {
            SockRef::from(peer)
                .set_linger(Some(Duration::ZERO))
                .unwrap();
        });
        let reset = end.unwrap_err();
        assert_eq!(reset.kind(), ErrorKind::ConnectionReset);
        assert!(reset.raw_os_error().is_some());
    }
}
