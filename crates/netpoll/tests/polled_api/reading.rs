// SPDX-License-Identifier: MIT OR Apache-2.0
//! Reading: what is shown, taken and waited for.

use std::io::Write;
use std::net::Shutdown;
use std::sync::Arc;
use std::task::{Context, Waker};
use std::time::{Duration, Instant};

use netpoll::ErrorExt;
use netpoll::error::ErrorKind;
use netpoll::options::ConnOptions;

use crate::{Wakes, block_on, bytes, eventually, once, pair, pair_with, read_to_end, wait};

#[test]
fn fill_buf_shows_bytes_until_they_are_consumed_and_none_at_the_end() {
    let (mut conn, mut peer) = pair();
    assert!(once(|context| conn.poll_fill_buf(context).map(drop)).is_pending());
    peer.write_all(b"hello").unwrap();
    for _ in 0..2 {
        let shown = wait(|context| conn.poll_fill_buf(context).map_ok(<[u8]>::to_vec));
        assert_eq!(shown.unwrap(), b"hello");
    }
    assert!(conn.consume(6).is_err(), "more than was shown");
    conn.consume(4).unwrap();
    let shown = wait(|context| conn.poll_fill_buf(context).map_ok(<[u8]>::to_vec));
    assert_eq!(shown.unwrap(), b"o");
    conn.consume(1).unwrap();
    peer.shutdown(Shutdown::Write).unwrap();
    for _ in 0..2 {
        let shown = wait(|context| conn.poll_fill_buf(context).map_ok(<[u8]>::len));
        assert_eq!(shown.unwrap(), 0);
    }
}

#[test]
fn chunk_takes_all_that_is_there() {
    let (conn, mut peer) = pair();
    let (mut reader, _writer) = conn.into_split();
    let sent = bytes(40_000);
    peer.write_all(&sent[..1000]).unwrap();
    eventually("a part", || reader.available() == 1000);
    // The part is taken, and the rest arrives behind it.
    block_on(reader.skip(1)).unwrap();
    peer.write_all(&sent[1000..]).unwrap();
    eventually("all bytes", || reader.available() == sent.len() - 1);
    let mut all = wait(|context| reader.poll_chunk(context)).unwrap().unwrap();
    assert_eq!(all.read_vec(all.len()).unwrap(), sent[1..]);
    peer.shutdown(Shutdown::Write).unwrap();
    assert!(
        wait(|context| reader.poll_chunk(context))
            .unwrap()
            .is_none()
    );
}

#[test]
fn wait_is_ready_with_all_bytes_or_fails_at_the_end() {
    let (mut conn, mut peer) = pair();
    let sent = bytes(300_000);
    let sender = {
        let sent = sent.clone();
        std::thread::spawn(move || {
            for part in sent.chunks(7000) {
                peer.write_all(part).unwrap();
            }
            peer
        })
    };
    wait(|context| conn.poll_wait(context, sent.len())).unwrap();
    assert_eq!(block_on(conn.reader().next(sent.len())).unwrap(), sent);
    let mut peer = sender.join().unwrap();
    peer.write_all(b"abc").unwrap();
    peer.shutdown(Shutdown::Write).unwrap();
    let short = wait(|context| conn.poll_wait(context, 4)).unwrap_err();
    assert!(matches!(
        short.netpoll_kind(),
        Some(ErrorKind::UnexpectedEof {
            have: 3,
            need: 4,
            ..
        })
    ));
    assert_eq!(
        read_to_end(&mut conn).unwrap(),
        b"abc",
        "nothing was consumed"
    );
}

#[test]
fn read_copies_what_fits_and_nothing_into_an_empty_target() {
    let (mut conn, mut peer) = pair();
    assert_eq!(wait(|context| conn.poll_read(context, &mut [])).unwrap(), 0);
    peer.write_all(b"hello").unwrap();
    let mut target = [0; 3];
    assert_eq!(
        wait(|context| conn.poll_read(context, &mut target)).unwrap(),
        3
    );
    assert_eq!(&target, b"hel");
    assert_eq!(
        wait(|context| conn.poll_read(context, &mut target)).unwrap(),
        2
    );
    assert_eq!(&target[..2], b"lo");
}

#[test]
fn read_timeout_measures_the_operation_and_not_the_last_poll() {
    let (mut conn, mut peer) = pair();
    let timeouts = conn.timeouts().read(Duration::from_millis(300));
    conn.set_timeouts(timeouts).unwrap();
    let began = Instant::now();
    for _ in 0..2 {
        let mut polls = 0;
        let late = loop {
            let polled = once(|context| conn.poll_fill_buf(context).map_ok(drop));
            if let std::task::Poll::Ready(result) = polled {
                break result.unwrap_err();
            }
            polls += 1;
            std::thread::sleep(Duration::from_millis(10));
            assert!(began.elapsed() < crate::LIMIT, "no timeout");
        };
        assert!(polls > 1, "it was polled in between");
        let Some(ErrorKind::TimedOut {
            after: Some(after), ..
        }) = late.netpoll_kind()
        else {
            panic!("{late}");
        };
        assert!(after >= Duration::from_millis(300), "{after:?}");
    }
    assert!(
        began.elapsed() >= Duration::from_millis(600),
        "each has its full time"
    );
    peer.write_all(b"late").unwrap();
    wait(|context| conn.poll_wait(context, 4)).unwrap();
}

#[test]
fn call_of_the_reader_begins_its_own_wait_behind_a_poll() {
    let (mut conn, mut peer) = pair();
    let timeouts = conn.timeouts().read(Duration::from_millis(200));
    conn.set_timeouts(timeouts).unwrap();
    assert!(once(|context| conn.poll_wait(context, 10)).is_pending());
    std::thread::sleep(Duration::from_millis(300));
    // The poll has timed out, and its caller has not come back for the result.
    let began = Instant::now();
    block_on(conn.reader().wait(1)).unwrap_err();
    assert!(began.elapsed() >= Duration::from_millis(200));
    assert!(once(|context| conn.poll_wait(context, 10)).is_pending());
    peer.write_all(b"line\n").unwrap();
    assert_eq!(
        block_on(conn.reader().until(b'\n', 100)).unwrap(),
        b"line\n"
    );
}

#[test]
fn second_task_replaces_the_waker_of_the_first() {
    let (mut conn, mut peer) = pair();
    let [first, second] = [(); 2].map(|()| Arc::<Wakes>::default());
    for wakes in [&first, &second] {
        let waker = Waker::from(Arc::clone(wakes));
        let mut context = Context::from_waker(&waker);
        assert!(conn.poll_fill_buf(&mut context).is_pending());
    }
    peer.write_all(b"a").unwrap();
    eventually("a wake", || second.count() == 1);
    assert_eq!(first.count(), 0);
}

#[test]
fn halves_wait_for_input_and_output_at_once() {
    let options = ConnOptions::for_dialing()
        .write_high(32 << 10)
        .write_low(16 << 10);
    let (conn, mut peer) = pair_with(options);
    let (mut reader, mut writer) = conn.into_split();
    let [read, written] = [(); 2].map(|()| Arc::<Wakes>::default());
    let wakers = [&read, &written].map(|wakes| Waker::from(Arc::clone(wakes)));
    let mut reading = Context::from_waker(&wakers[0]);
    let mut writing = Context::from_waker(&wakers[1]);
    assert!(reader.poll_chunk(&mut reading).is_pending());
    while writer.poll_write(&mut writing, &[1; 10_000]).is_ready() {}
    assert_eq!(read.count(), 0);
    peer.write_all(b"a").unwrap();
    eventually("input", || read.count() == 1);
    std::thread::spawn(move || std::io::copy(&mut peer, &mut std::io::sink()));
    eventually("room", || written.count() == 1);
}
