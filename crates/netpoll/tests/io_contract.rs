// SPDX-License-Identifier: MIT OR Apache-2.0
//! The contract of tokio's I/O traits: each row runs on tokio's own `TcpStream`, on a connection in
//! a task of tokio, and on a connection in a handler on its poller. All three see the same.

#[path = "io_contract/driving.rs"]
mod driving;
#[path = "io_contract/reading.rs"]
mod reading;
#[path = "io_contract/writing.rs"]
mod writing;

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};

/// The time after which a wait fails its test.
const LIMIT: Duration = Duration::from_secs(60);

/// What both implementations of a row have.
trait Stream: AsyncRead + AsyncWrite + Unpin {}

impl<S: AsyncRead + AsyncWrite + Unpin> Stream for S {}

/// What a row has seen, step by step.
type Seen = Vec<String>;

/// Describes a result: its value, or the kind of its error.
fn describe<T: std::fmt::Debug>(result: io::Result<T>) -> String {
    match result {
        Ok(value) => format!("{value:?}"),
        Err(error) => format!("{:?}", error.kind()),
    }
}

/// Defines a test of one row: what the stream does, which sees something, and what its peer does.
macro_rules! row {
    ($(#[$doc:meta])* $name:ident, |$stream:ident| $body:block, |$peer:ident| $other:block) => {
        $(#[$doc])*
        #[test]
        fn $name() {
            #[allow(unused_mut, reason = "some rows move it")]
            async fn run<S: $crate::Stream>(mut $stream: S) -> $crate::Seen $body
            #[allow(unused_mut, reason = "some peers only end")]
            fn peer(mut $peer: std::net::TcpStream) $other
            let expected = $crate::driving::on_tokio(run, peer);
            assert!(!expected.is_empty());
            assert_eq!($crate::driving::off_poller(run, peer), expected, "off the poller");
            assert_eq!($crate::driving::on_poller(run, peer), expected, "on the poller");
        }
    };
}
pub(crate) use row;

/// Returns `length` bytes that differ by position.
fn bytes(length: usize) -> Vec<u8> {
    (0..length)
        .map(|index| (index as u8).wrapping_mul(31))
        .collect()
}

/// Sends all of `bytes`.
fn send(peer: &mut TcpStream, bytes: &[u8]) {
    peer.write_all(bytes).expect("a reader");
}

/// Receives `bytes`.
fn expect(peer: &mut TcpStream, bytes: &[u8]) {
    let mut received = vec![0; bytes.len()];
    peer.read_exact(&mut received).expect("a writer");
    assert!(received == bytes);
}

/// Receives `bytes`, and then the end of the stream.
fn expect_all(peer: &mut TcpStream, bytes: &[u8]) {
    expect(peer, bytes);
    assert_eq!(peer.read(&mut [0]).expect("the end"), 0);
}
