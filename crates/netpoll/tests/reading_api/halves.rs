// SPDX-License-Identifier: MIT OR Apache-2.0
//! Owned halves as readers and writers.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::time::Instant;

use netpoll::ErrorExt;
use netpoll::buffer::LinkBuffer;
use netpoll::codec::LengthField;
use netpoll::error::ErrorKind;

use crate::{block_on, pair};

#[test]
fn owned_halves_read_and_write_on_two_threads() {
    const NUMBERS: u32 = 10_000;
    let (conn, mut peer) = pair();
    let echo = std::thread::spawn(move || {
        let mut from = peer.try_clone().unwrap();
        std::io::copy(&mut from, &mut peer).unwrap();
        peer.shutdown(Shutdown::Write).unwrap();
    });
    let (mut reader, mut writer) = conn.into_split();
    let sender = std::thread::spawn(move || {
        for number in 0..NUMBERS {
            writer.put_u32(number);
            if number % 1000 == 0 {
                block_on(writer.flush()).unwrap();
            }
        }
        writer.put_slices(&[b"li", b"ne\n"]);
        writer
            .frame(&LengthField::new(), LinkBuffer::from(b"frame".to_vec()))
            .unwrap();
        block_on(writer.flush()).unwrap();
        assert_eq!(writer.unsent(), 0);
        writer.shutdown();
        writer
    });
    block_on(async {
        for number in 0..NUMBERS {
            assert_eq!(reader.read_u32().await.unwrap(), number);
        }
        assert_eq!(reader.until(b'\n', 100).await.unwrap(), b"line\n");
        let frame = reader.frame(&LengthField::new()).await.unwrap();
        assert_eq!(frame.unwrap().next(5).unwrap(), b"frame");
        assert!(reader.chunk().await.unwrap().is_none());
        assert_eq!(reader.available(), 0);
    });
    let writer = sender.join().unwrap();
    assert!(reader.reunite(writer).is_ok());
    echo.join().unwrap();
}

#[test]
fn owned_halves_take_a_deadline_for_one_call() {
    let (conn, mut peer) = pair();
    let (mut reader, mut writer) = conn.into_split();
    let late = block_on(reader.with_deadline(Instant::now()).next(1)).unwrap_err();
    assert!(matches!(
        late.netpoll_kind(),
        Some(ErrorKind::TimedOut { .. })
    ));
    peer.write_all(b"a").unwrap();
    assert_eq!(block_on(reader.next(1)).unwrap(), b"a");

    writer.put_u8(b'b');
    let soon = Instant::now() + crate::LIMIT;
    block_on(writer.with_deadline(soon).flush()).unwrap();
    let mut received = [0];
    peer.read_exact(&mut received).unwrap();
    assert_eq!(received, *b"b");
}
