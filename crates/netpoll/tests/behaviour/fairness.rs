// SPDX-License-Identifier: MIT OR Apache-2.0
//! A handler that awaits leaves its poller to other connections.

use crate::support::{Gate, Server, eventually, frame, rpc};

#[test]
fn a_handler_that_awaits_does_not_delay_other_connections() {
    let gate = Gate::default();
    let at = gate.clone();
    let handler = handler!([at], |conn| {
        let waits = conn.reader().peek(5).await?[4] == b'w';
        if waits {
            at.pass().await;
        }
        rpc(conn).await
    });
    let server = Server::start(crate::support::builder().pollers(1), handler);
    let (mut waiting, mut other) = (server.connect(), server.connect());
    waiting.send(&frame(b"wait"));
    eventually("the wait", || gate.is_waited_at());
    (0..100).for_each(|_| other.call(b"no need to"));
    gate.open();
    assert_eq!(waiting.receive(8), frame(b"wait"));
}
