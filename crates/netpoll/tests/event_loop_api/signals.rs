// SPDX-License-Identifier: MIT OR Apache-2.0
//! Shutdown by SIGTERM and SIGINT. Signals reach every loop of this process that has the option, so
//! these tests run one at a time.

use std::io::Read;
use std::sync::Mutex;
use std::sync::mpsc::channel;

use netpoll::{Connection, EventLoop};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::low_level::raise;

use super::{HOUR, call, connect, echo, stalled_loop, wait_until_draining};

static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

#[test]
fn a_signal_drains_the_loop_and_answers_requests_in_progress() {
    let _turn = ONE_AT_A_TIME.lock();
    for signal in [SIGTERM, SIGINT] {
        let (release, released) = channel::<()>();
        let released = Mutex::new(released);
        let handle = EventLoop::builder()
            .handler_threads(1)
            .on_request(async move |conn: &mut Connection| {
                conn.reader().skip(1).await?;
                conn.writer().put_u8(b'.');
                conn.writer().flush().await?;
                let _released = released.lock().unwrap().recv();
                conn.writer().put_u8(b'!');
                Ok(())
            })
            .shutdown_on_signals(HOUR)
            .spawn("127.0.0.1:0")
            .unwrap();
        let mut client = connect(handle.local_addrs()[0]).unwrap();
        assert_eq!(call(&mut client, b"x", 1), b".");
        raise(signal).unwrap();
        wait_until_draining(&handle);
        release.send(()).unwrap();
        let mut rest = Vec::new();
        client.read_to_end(&mut rest).unwrap();
        assert_eq!(rest, b"!");
        drop(client);
        handle.wait().unwrap();
        assert_eq!(handle.shutdown(HOUR).wait(), 0, "aborted connections");
    }
}

#[test]
fn a_second_signal_aborts_the_remaining_connections() {
    let _turn = ONE_AT_A_TIME.lock();
    let (handle, _client) = stalled_loop(EventLoop::builder().shutdown_on_signals(HOUR));
    raise(SIGTERM).unwrap();
    wait_until_draining(&handle);
    raise(SIGTERM).unwrap();
    handle.wait().unwrap();
    assert_eq!(handle.shutdown(HOUR).wait(), 1, "aborted connections");
}

#[test]
fn signals_leave_loops_without_the_option_running() {
    let _turn = ONE_AT_A_TIME.lock();
    let without = EventLoop::builder()
        .on_request(echo)
        .spawn("127.0.0.1:0")
        .unwrap();
    let with = EventLoop::builder()
        .on_request(echo)
        .shutdown_on_signals(HOUR)
        .spawn("127.0.0.1:0")
        .unwrap();
    raise(SIGTERM).unwrap();
    with.wait().unwrap();
    let mut client = connect(without.local_addrs()[0]).unwrap();
    assert_eq!(call(&mut client, b"one\n", 4), b"one\n");
    drop(client);
    assert_eq!(without.shutdown(HOUR).wait(), 0);
}
