// SPDX-License-Identifier: MIT OR Apache-2.0
//! HTTP/2 peers that send frames to exhaust the server.

use std::io::{Read, Write};
use std::net::TcpStream;

use super::client::connect;
use super::{Running, echo_server};

const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const GOAWAY: u8 = 7;

/// Flags of HEADERS.
const END_STREAM_AND_HEADERS: u8 = 5;

const CANCEL: u32 = 8;
const ENHANCE_YOUR_CALM: u32 = 11;

/// `GET http://a/` in HPACK: three entries of the static table, and a literal.
const GET: &[u8] = &[0x82, 0x86, 0x84, 0x41, 1, b'a'];

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("a small frame");
    let mut frame = length.to_be_bytes()[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

fn connect_http2(server: &Running) -> TcpStream {
    let mut peer = connect(server.addr);
    peer.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
        .expect("a server");
    peer.write_all(&frame(SETTINGS, 0, 0, &[]))
        .expect("a server");
    peer
}

/// Reads frames up to GOAWAY, and returns its error. `None` if the stream ends before.
fn read_goaway(peer: &mut TcpStream) -> Option<u32> {
    loop {
        let mut header = [0; 9];
        peer.read_exact(&mut header).ok()?;
        let length = u32::from_be_bytes([0, header[0], header[1], header[2]]);
        let mut payload = vec![0; length as usize];
        peer.read_exact(&mut payload).ok()?;
        if header[3] == GOAWAY {
            let error = payload[4..8].try_into().expect("four bytes");
            return Some(u32::from_be_bytes(error));
        }
    }
}

#[test]
fn storm_of_resets_ends_the_connection() {
    let server = Running::start(echo_server());
    let mut peer = connect_http2(&server);
    let mut storm = Vec::new();
    for stream in (1..2001).step_by(2) {
        storm.extend(frame(HEADERS, END_STREAM_AND_HEADERS, stream, GET));
        storm.extend(frame(RST_STREAM, 0, stream, &CANCEL.to_be_bytes()));
    }
    // The server may close before it has read everything.
    let _closed = peer.write_all(&storm).is_err();
    assert_eq!(read_goaway(&mut peer), Some(ENHANCE_YOUR_CALM));
}
