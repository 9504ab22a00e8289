// SPDX-License-Identifier: MIT OR Apache-2.0
//! Messages arrive intact through calls that are interrupted and move a few bytes each.

use netpoll::Dialer;
use netpoll_sys::faults::{Errno, Fault, FaultPlan, Syscall, Trigger};

use crate::client::Client;
use crate::ledger::{account_within, alone};
use crate::place::Place;
use crate::support::{Kind, LIMIT, block_on, bytes, call, frame};

/// The number of messages in each direction.
const MESSAGES: usize = 20_000;

/// The number of messages in flight at once, for the pipelined ones.
const TOGETHER: usize = 100;

/// Returns the length of the `index`-th message.
fn length(index: usize) -> usize {
    index * 7 % 61
}

/// Sends all messages to a server and expects them back: half of them with a blocking client,
/// pipelined, and half over a netpoll connection, one by one.
fn exchange(kind: Kind) -> std::io::Result<()> {
    let place = Place::rpc(kind)?;
    let mut client = Client::connect(place.addr)?;
    for bunch in 0..MESSAGES / 2 / TOGETHER {
        let frames = (0..TOGETHER).map(|index| {
            let index = bunch * TOGETHER + index;
            frame(&bytes(length(index), index as u8))
        });
        let frames: Vec<u8> = frames.flatten().collect();
        client.send(&frames)?;
        client.expect(&frames)?;
    }
    client.finish()?;
    let mut conn = block_on(Dialer::new().dial(place.addr))?;
    for index in 0..MESSAGES / 2 {
        block_on(call(&mut conn, &bytes(length(index), index as u8)))?;
    }
    drop(conn);
    let endings = place.end(LIMIT)?;
    assert_eq!(endings.len(), 2);
    Ok(())
}

/// Sends all messages over both kinds of sockets, while `plan` is installed.
fn survive(name: &'static str, plan: impl Fn() -> FaultPlan) {
    let _alone = alone();
    for kind in [Kind::Tcp, Kind::Unix] {
        let installed = plan().install();
        let exchange = move || exchange(kind).map_err(|error| error.to_string());
        let done = account_within(2 * LIMIT, name, exchange);
        println!(
            "{name}, over {kind:?}: {MESSAGES} messages, {} of {} calls struck",
            installed.injected(),
            installed.seen()
        );
        assert_eq!(done, Ok(()));
        assert!(installed.injected() > MESSAGES as u64);
    }
}

#[test]
fn messages_arrive_intact_if_calls_move_at_most_seven_bytes() {
    survive("one to seven bytes a call", || {
        let mut calls = 0;
        let few = move |site| match site {
            Syscall::Recv | Syscall::Readv | Syscall::Send | Syscall::Sendmsg => {
                calls += 1;
                Some(Fault::AtMost(1 + calls * 5 % 7))
            }
            _ => None,
        };
        FaultPlan::new(Trigger::From(1), few)
    });
}

#[test]
fn messages_arrive_intact_if_every_second_call_is_interrupted() {
    survive("every second call interrupted", || {
        let interrupted = |site| match site {
            Syscall::Recv
            | Syscall::Readv
            | Syscall::Send
            | Syscall::Sendmsg
            | Syscall::Accept
            | Syscall::Connect
            | Syscall::EpollAdd
            | Syscall::EpollModify
            | Syscall::EpollDelete
            | Syscall::EpollWait
            | Syscall::EventFdRead
            | Syscall::EventFdWrite => Some(Fault::Errno(Errno::INTR)),
            _ => None,
        };
        FaultPlan::new(Trigger::Every(2), interrupted)
    });
}

#[test]
fn messages_arrive_intact_with_short_and_interrupted_calls() {
    survive("few bytes, every second call interrupted", || {
        let mut calls = 0;
        let either = move |site| match site {
            Syscall::Recv | Syscall::Readv | Syscall::Send | Syscall::Sendmsg => {
                calls += 1;
                match calls % 2 {
                    0 => Some(Fault::Errno(Errno::INTR)),
                    _ => Some(Fault::AtMost(1 + calls * 3 % 7)),
                }
            }
            _ => None,
        };
        FaultPlan::new(Trigger::From(1), either)
    });
}
