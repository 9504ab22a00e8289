// SPDX-License-Identifier: MIT OR Apache-2.0
//! Behaviour of handlers that run on their connection's poller. A comment on each test says why it
//! does not hold elsewhere. `placement.rs` has more tests of this kind.

use std::collections::HashSet;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex, OnceLock};
use std::task::Poll;

use netpoll::{BoxError, CloseReason, Connection, EventLoop, LoopHandle};

use crate::support::{Gate, LIMIT, Peer, Server, eventually, frame, rpc};

// Only there does the thread identify the poller.
#[test]
fn two_pollers_share_the_connections() {
    let threads = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&threads);
    let handler = handler!([seen], |conn| {
        seen.lock().unwrap().push(std::thread::current().id());
        rpc(conn).await
    });
    let server = Server::start(crate::support::builder().pollers(2), handler);
    let mut peers: Vec<Peer> = (0..20).map(|_| server.connect()).collect();
    peers.iter_mut().for_each(|peer| peer.call(b"one"));
    let threads = threads.lock().unwrap();
    let distinct: HashSet<_> = threads.iter().collect();
    assert_eq!(distinct.len(), 2);
    for thread in distinct {
        let share = threads.iter().filter(|seen| *seen == thread).count();
        assert_eq!(
            share, 10,
            "the poller with the fewest connections gets the next"
        );
    }
}

// The handler occupies the poller, which a handler on another thread cannot.
#[test]
fn ten_thousand_pipelined_requests_do_not_starve_another_connection() {
    let (release, released) = channel::<()>();
    let released = Arc::new(Mutex::new(released));
    let log = Arc::new(Mutex::new(Vec::new()));
    let writes = Arc::clone(&log);
    let handler = handler!([released, writes], |conn| {
        let kind = conn.reader().peek(5).await?[4];
        writes.lock().unwrap().push(kind);
        if kind == b'h' {
            // Blocks the poller, so that both other connections are ready at its next wait.
            released.lock().unwrap().recv()?;
        }
        rpc(conn).await
    });
    let server = Server::start(crate::support::builder().pollers(1), handler);
    let (mut holder, mut greedy, mut modest) =
        (server.connect(), server.connect(), server.connect());
    for peer in [&mut holder, &mut greedy, &mut modest] {
        peer.call(b"x");
    }
    holder.send(&frame(b"h"));
    eventually("a blocked poller", || {
        log.lock().unwrap().last() == Some(&b'h')
    });
    let flood = frame(b"g").repeat(10_000);
    greedy.send(&flood);
    modest.send(&frame(b"m"));
    release.send(()).unwrap();
    modest.receive(5);
    modest.call(b"m");
    modest.call(b"m");
    assert!(greedy.receive(flood.len()) == flood);
    let log = log.lock().unwrap();
    let greedy_calls = log.iter().take_while(|&&kind| kind != b'm');
    let before_the_first = greedy_calls.filter(|&&kind| kind == b'g').count();
    assert!(
        before_the_first <= 200,
        "{before_the_first} calls came first"
    );
}

// Off the poller, output for another connection waits for a flush or the write mark.
#[test]
fn output_for_another_connection_of_the_poller_is_sent_without_a_flush() {
    let parked: Arc<Mutex<Option<Connection>>> = Arc::default();
    let slot = Arc::clone(&parked);
    let handler = whole!([slot], |mut conn| {
        let first = conn.reader().read_u8().await?;
        if first == b'p' {
            *slot.lock().unwrap() = Some(conn);
            return Ok(());
        }
        while let Some(chunk) = conn.reader().chunk().await? {
            let mut slot = slot.lock().unwrap();
            slot.as_mut()
                .expect("a parked connection")
                .writer()
                .append(chunk);
        }
        slot.lock().unwrap().take();
        Ok(())
    });
    let server = Server::start(crate::support::builder().pollers(1), handler);
    let (mut listener, mut speaker) = (server.connect(), server.connect());
    listener.send(b"p");
    eventually("a parked connection", || parked.lock().unwrap().is_some());
    speaker.send(b"s");
    for word in [&b"over"[..], b"there", &frame(&[7; 100_000])] {
        speaker.send(word);
        assert!(listener.receive(word.len()) == word);
    }
    speaker.finish();
    assert_eq!(listener.receive_all().unwrap(), b"");
    drop(listener);
    for _ in 0..2 {
        server.endings.recv_timeout(LIMIT).unwrap();
    }
}

// A handler on another thread may wait.
#[test]
fn a_blocking_wait_for_shutdown_on_a_poller_panics_and_the_loop_continues() {
    let handle: Arc<OnceLock<LoopHandle>> = Arc::default();
    let own = Arc::clone(&handle);
    let handler = handler!([own], |conn| {
        conn.reader().skip(1).await?;
        assert_eq!(own.get().expect("a handle").shutdown(LIMIT).wait(), 0);
        Ok(())
    });
    let server = Server::start(crate::support::builder().pollers(1), handler);
    handle.set(server.handle.clone()).unwrap();
    let mut peer = server.connect();
    peer.send(b"?");
    assert_eq!(peer.receive_all().unwrap(), b"");
    drop(peer);
    assert!(matches!(server.ending(), CloseReason::HandlerPanic));
}

// Between threads the scheduler decides the order.
#[test]
fn repeated_flushes_of_a_handler_do_not_starve_another() {
    const FLUSHES: usize = 400;
    let (gate, flushed) = (Gate::default(), Arc::new(AtomicUsize::new(0)));
    let (at, count) = (gate.clone(), Arc::clone(&flushed));
    let (sender, when) = channel();
    let handler = handler!([at, count, sender], |conn| {
        if conn.reader().read_u8().await? == b'w' {
            at.pass().await;
            sender.send(count.load(Ordering::SeqCst))?;
            return Ok(());
        }
        for _ in 0..FLUSHES {
            at.open();
            conn.writer().put_u8(1);
            conn.writer().flush().await?;
            count.fetch_add(1, Ordering::SeqCst);
        }
        Ok(())
    });
    let server = Server::start(crate::support::builder().pollers(1), handler);
    let (mut waiting, mut flushing) = (server.connect(), server.connect());
    waiting.send(b"w");
    eventually("a waiting handler", || gate.is_waited_at());
    flushing.send(b"f");
    flushing.receive(FLUSHES);
    let when = when.recv_timeout(LIMIT).unwrap();
    assert!(when < FLUSHES / 2, "only after {when} flushes");
}

// On another thread a reader may be slower than its poller.
#[test]
fn a_task_that_keeps_up_with_its_input_is_not_counted_as_a_pause() {
    const ALL: u64 = 32 << 20;
    let handler = async |conn: Connection| {
        let (mut reader, _writer) = conn.into_split();
        let reading = netpoll::spawn(async move {
            let mut reader = reader.reader();
            while reader.chunk().await?.is_some() {}
            Ok::<_, std::io::Error>(())
        })?;
        Ok::<_, BoxError>(reading.await??)
    };
    let builder = EventLoop::builder().pollers(1).on_connection(handler);
    let server = Server::start_as_given(builder);
    let peer = server.connect();
    let sending = peer.send_aside(vec![7; ALL as usize]);
    eventually("all input", || {
        server.handle.stats().total().received == ALL
    });
    sending.join().unwrap().unwrap();
    assert_eq!(server.handle.stats().total().pauses_for_handler, 0);
}

// Elsewhere the executor decides the order.
#[test]
fn a_flush_that_the_kernel_accepts_at_once_yields_after_eight_in_a_row() {
    let (sender, receiver) = channel();
    let sender = Mutex::new(sender);
    let handler = async move |conn: Connection| {
        let (_reader, mut writer) = conn.into_split();
        let sender = sender.lock().unwrap().clone();
        let writing = netpoll::spawn(async move {
            let mut writer = writer.writer();
            let mut in_a_row = 0;
            poll_fn(|context| {
                writer.put_str("x");
                while pin!(writer.flush()).poll(context).is_ready() {
                    in_a_row += 1;
                    writer.put_str("x");
                }
                Poll::Ready(())
            })
            .await;
            sender.send(in_a_row)?;
            Ok::<_, BoxError>(writer.flush().await?)
        })?;
        writing.await??;
        Ok::<_, BoxError>(())
    };
    let builder = EventLoop::builder().pollers(1).on_connection(handler);
    let server = Server::start_as_given(builder);
    let mut peer = server.connect();
    assert_eq!(receiver.recv_timeout(LIMIT), Ok(8));
    assert_eq!(peer.receive(9), b"xxxxxxxxx");
    assert_eq!(peer.receive_all().unwrap(), b"");
}
