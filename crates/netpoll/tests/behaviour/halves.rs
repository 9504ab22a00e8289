// SPDX-License-Identifier: MIT OR Apache-2.0
//! Halves: each direction of a connection has an owner.

use std::io::ErrorKind;
use std::sync::Mutex;
use std::sync::mpsc::channel;

use netpoll::connection::{OwnedReader, OwnedWriter};
use netpoll::{CloseReason, Connection, Dialer, EventLoop};

use crate::support::{LIMIT, Server, block_on, bytes, call, frame, pair};

#[test]
fn halves_work_on_two_threads_and_reunite() {
    fn is_send<T: Send>(_: &T) {}
    const CALLS: usize = 300;
    let server = Server::rpc();
    let conn = block_on(Dialer::new().dial(server.addr)).unwrap();
    let (mut reader, mut writer) = conn.into_split();
    is_send(&(&reader, &writer));
    assert_eq!(reader.peer_addr(), writer.peer_addr());
    let sending = std::thread::spawn(move || {
        for call in 0..CALLS {
            writer.put_slice(&frame(&bytes(call * 10, call as u8)));
            if call % 7 == 0 {
                block_on(writer.flush()).unwrap();
            }
        }
        block_on(writer.flush()).unwrap();
        writer
    });
    for call in 0..CALLS {
        let expected = frame(&bytes(call * 10, call as u8));
        let answer = block_on(reader.read_vec(expected.len())).unwrap();
        assert!(answer == expected, "call {call}");
    }
    let writer = sending.join().unwrap();
    let mut conn = reader.reunite(writer).unwrap();
    block_on(call(&mut conn, b"reunited")).unwrap();
}

#[test]
fn a_connection_ends_when_its_second_half_is_dropped() {
    type Keep = fn(OwnedReader, OwnedWriter) -> Box<dyn Send>;
    let keeps: [Keep; 2] = [|reader, _| Box::new(reader), |_, writer| Box::new(writer)];
    for keep in keeps {
        let (conn, mut peer) = pair();
        let (mut reader, mut writer) = conn.into_split();
        let handle = writer.handle();
        writer.put_str("from us");
        block_on(writer.flush()).unwrap();
        peer.send(b"to us");
        block_on(reader.wait(5)).unwrap();
        let kept = keep(reader, writer);
        assert_eq!(peer.receive(7), b"from us");
        handle.push("more".into()).unwrap();
        assert_eq!(
            peer.receive(4),
            b"more",
            "one half keeps the connection open"
        );
        drop(kept);
        assert_eq!(peer.receive_all().unwrap(), b"");
    }
}

#[test]
fn reunited_halves_keep_the_input_the_output_and_the_attachment() {
    let (mut conn, mut peer) = pair();
    conn.attach(7_u32);
    let (mut reader, mut writer) = conn.into_split();
    peer.send(b"one two");
    block_on(reader.wait(7)).unwrap();
    assert_eq!(block_on(reader.next(3)).unwrap(), b"one");
    writer.put_str("unsent");
    let mut conn = reader.reunite(writer).unwrap();
    assert_eq!(conn.take_attached::<u32>().as_deref(), Some(&7));
    assert_eq!(block_on(conn.reader().next(4)).unwrap(), b" two");
    block_on(conn.writer().flush()).unwrap();
    assert_eq!(peer.receive(6), b"unsent");
}

#[test]
fn halves_of_two_connections_do_not_reunite() {
    let ((one, mut one_peer), (other, mut other_peer)) = (pair(), pair());
    let (one_reader, one_writer) = one.into_split();
    let (other_reader, other_writer) = other.into_split();
    let (one_reader, other_writer) = one_reader.reunite(other_writer).unwrap_err();
    for (reader, writer, peer) in [
        (one_reader, one_writer, &mut one_peer),
        (other_reader, other_writer, &mut other_peer),
    ] {
        let mut conn = reader.reunite(writer).unwrap();
        conn.writer().put_str("whole");
        block_on(conn.writer().flush()).unwrap();
        assert_eq!(peer.receive(5), b"whole");
    }
}

#[test]
fn a_handler_can_move_its_halves_to_another_thread() {
    let (moved, halves) = channel();
    let moved = Mutex::new(moved);
    let server = Server::start_as_given(EventLoop::builder().pollers(1).on_connection(
        async move |conn: Connection| {
            moved.lock().unwrap().send(conn.into_split())?;
            Ok(())
        },
    ));
    let mut peer = server.connect();
    let (mut reader, mut writer) = halves.recv_timeout(LIMIT).unwrap();
    peer.send(b"ask");
    assert_eq!(block_on(reader.next(3)).unwrap(), b"ask");
    drop(reader);
    writer.put_str("answer");
    block_on(writer.flush()).unwrap();
    assert_eq!(peer.receive(6), b"answer");
    assert_eq!(server.handle.connections(), 1);
    drop(writer);
    assert_eq!(peer.receive_all().unwrap(), b"");
    drop(peer);
    assert!(matches!(server.ending(), CloseReason::Local));
}

#[test]
fn both_halves_fail_after_an_abort() {
    let (conn, _peer) = pair();
    let (mut reader, mut writer) = conn.into_split();
    let waiting = std::thread::spawn(move || block_on(reader.read_u8()).unwrap_err());
    writer.handle().abort();
    let error = waiting.join().unwrap();
    assert_eq!(error.kind(), ErrorKind::ConnectionAborted);
    writer.put_str("in vain");
    let error = block_on(writer.flush()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionAborted);
}
