// SPDX-License-Identifier: MIT OR Apache-2.0
//! Messages in the error queue of a socket do not end its connection, and keep no poller busy.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::fd::AsFd;
use std::time::Duration;

use netpoll_sys::options::set_timestamping;
use socket2::Socket;

use crate::support::{Server, eventually};

/// `SOF_TIMESTAMPING_TX_SOFTWARE`, `SOFTWARE`, `TX_ACK`, and `OPT_TSONLY`.
const STAMPS: u32 = 1 << 1 | 1 << 4 | 1 << 9 | 1 << 11;

/// More than one iteration reads, so that the poller watches the connection level-triggered.
const MUCH: usize = 1 << 20;

/// How long a handler waits for something else.
const AWHILE: Duration = Duration::from_secs(2);

/// How many waits a poller may have while nothing happens.
const REST: u64 = 60;

/// The handler's next step after it has answered with timestamps.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Then {
    /// It is idle.
    Returns,
    /// It waits for more.
    Waits,
    /// It waits for something else, and input arrives until no more is read.
    Sleeps,
    /// It has paused its reads.
    Pauses,
    /// It waits, and its peer has ended its stream.
    HalfCloses,
}

fn serve(then: Then, level: bool) -> Server {
    let builder = crate::support::builder().pollers(1).idle_timeout(None);
    Server::start(
        builder,
        handler!([then, level], |conn| {
            if level {
                conn.reader().skip(MUCH).await?;
            }
            conn.reader().skip(1).await?;
            set_timestamping(conn.as_fd(), STAMPS)?;
            for _ in 0..20 {
                conn.writer().put_slice(&[7; 100]);
                conn.writer().flush().await?;
            }
            match then {
                Then::Returns => return Ok(()),
                Then::Waits => conn.reader().skip(1).await?,
                Then::Pauses => {
                    conn.handle().pause_reads();
                    netpoll::time::sleep(AWHILE).await;
                }
                Then::Sleeps | Then::HalfCloses => netpoll::time::sleep(AWHILE).await,
            }
            Ok(())
        }),
    )
}

fn waits(server: &Server) -> u64 {
    server.handle.stats().total().waits
}

#[test]
fn timestamps_in_the_error_queue_keep_no_poller_busy_and_end_no_connection() {
    let all = [
        Then::Returns,
        Then::Waits,
        Then::Sleeps,
        Then::Pauses,
        Then::HalfCloses,
    ];
    for (then, level) in all
        .into_iter()
        .flat_map(|then| [(then, false), (then, true)])
    {
        let server = serve(then, level);
        let mut peer = server.connect().stream;
        if level {
            peer.write_all(&vec![1; MUCH]).unwrap();
        }
        peer.write_all(b"x").unwrap();
        peer.read_exact(&mut [0; 2000]).unwrap();
        if then == Then::Sleeps {
            peer.write_all(&[1; 60_000]).unwrap();
        }
        if then == Then::HalfCloses {
            peer.shutdown(Shutdown::Write).unwrap();
        }
        // On a busy machine the work for all this may take longer than one measurement: repeat it.
        let mut before = waits(&server);
        eventually("an idle poller", || {
            std::thread::sleep(Duration::from_millis(300));
            let now = waits(&server);
            let rested = now - before <= REST;
            before = now;
            rested
        });
        if then == Then::Waits || then == Then::Returns {
            still_answers(&mut peer, then, level);
        }
    }
}

fn still_answers(peer: &mut Socket, then: Then, level: bool) {
    if then == Then::Waits {
        peer.write_all(b"y").expect("to be taken");
    }
    if level {
        peer.write_all(&vec![1; MUCH]).expect("to be taken");
    }
    peer.write_all(b"x").expect("to be taken");
    peer.read_exact(&mut [0; 2000]).expect("an answer");
}
