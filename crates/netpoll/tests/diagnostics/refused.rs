// SPDX-License-Identifier: MIT OR Apache-2.0
//! Mistakes of first programs, one in each function. The comments in front of a function are lines
//! that the compiler has to print for it (`tests/diagnostics.rs`).

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use netpoll::codec::LengthField;
use netpoll::{BoxError, Connection, Dialer, EventLoop, Runner, mux};

fn main() {}

//~ future cannot be sent between threads safely
//~ has type `Rc<u32>` which is not `Send`
//~ await occurs here
//~ // `Send` futures, `Clone` captures (`Arc`): `EventLoop::builder()` needs neither
fn a_value_that_is_not_send_lives_across_an_await() {
    let _ = EventLoop::builder_on(Runner::Threads(4)).on_request(async |conn: &mut Connection| {
        let count = Rc::new(1_u32);
        conn.reader().skip(1).await?;
        drop(count);
        Ok(())
    });
}

//~ future cannot be sent between threads safely
//~ MutexGuard
//~ // `Send` futures, `Clone` captures (`Arc`): `EventLoop::builder()` needs neither
fn a_lock_is_held_across_an_await() {
    static COUNT: Mutex<u32> = Mutex::new(0);
    let _ = EventLoop::builder_on(Runner::Threads(4)).on_connect(async |conn: &mut Connection| {
        let mut count = COUNT.lock().unwrap();
        conn.reader().skip(1).await?;
        *count += 1;
        Ok(())
    });
}

//~ the trait bound `AtomicU64: Clone` is not satisfied
//~ // `Send` futures, `Clone` captures (`Arc`): `EventLoop::builder()` needs neither
fn a_capture_is_not_clone() {
    let count = AtomicU64::new(0);
    let handler = async move |conn: &mut Connection| {
        conn.reader().skip(1).await?;
        count.fetch_add(1, Ordering::Relaxed);
        Ok(())
    };
    let _ = EventLoop::builder_on(Runner::Threads(4)).on_request(handler);
}

//~ `Rc<RefCell<u32>>` cannot be sent between threads safely
fn a_capture_is_not_send() {
    let count = Rc::new(RefCell::new(0_u32));
    let _ = EventLoop::builder_on(Runner::Inline).on_request(async move |conn: &mut Connection| {
        conn.reader().skip(1).await?;
        *count.borrow_mut() += 1;
        Ok(())
    });
}

//~ this closure only implements `AsyncFnMut`
fn a_closure_changes_its_captures() {
    let mut count = 0;
    let _ = EventLoop::builder_on(Runner::Threads(4)).on_request(async move |conn: &mut Connection| {
        conn.reader().skip(1).await?;
        count += 1;
        Ok(())
    });
}

//~ NotAHandler` is not a handler of requests
//~ not an async function of `&mut Connection`
//~ a handler is an `async fn(&mut Connection) -> Result<(), BoxError>`
fn a_type_is_not_a_handler() {
    struct NotAHandler;
    let _ = EventLoop::builder_on(Runner::Threads(4)).on_request(NotAHandler);
}

//~ NotAHandler` is not a handler of connections with `Send` futures
//~ or a type that implements `ConnectionHandler`
fn a_type_is_not_a_connection_handler() {
    struct NotAHandler;
    let _ = EventLoop::builder_on(Runner::Threads(4)).on_connection(NotAHandler);
}

//~ is not a handler of connections with `Send` futures
//~ the handlers of `mux::serve` and `mux::serve_with` stay on one thread: use `EventLoop::builder()`, or `mux::serve_on`
fn mux_serve_is_moved() {
    let served = mux::serve(LengthField::new(), async |request| Ok(request));
    let _ = EventLoop::builder_on(Runner::Threads(4)).on_connection(served);
}

//~ type mismatch in function arguments
//~ expected function signature `for<'a> fn((&'a mut Connection,)) -> _`
fn a_request_handler_takes_the_connection() {
    let _ = EventLoop::builder_on(Runner::Threads(4)).on_request(async |_conn: Connection| Ok(()));
}

//~ expected `Result<(), Box<dyn Error + Send + Sync>>`, found `Result<(), Error>`
fn a_function_returns_another_error() {
    async fn handler(conn: &mut Connection) -> std::io::Result<()> {
        conn.reader().skip(1).await
    }
    let _ = EventLoop::builder().on_request(handler);
}

//~ no method named `runner` found for struct
fn a_runner_is_given_to_the_local_builder() {
    let _ = EventLoop::builder().runner(Runner::Threads(4));
}

//~ no method named `on_request_with` found for struct
fn a_handler_of_each_thread_is_moved() {
    let handler = async |conn: &mut Connection| -> Result<(), BoxError> {
        Ok(conn.reader().skip(1).await?)
    };
    let _ = EventLoop::builder_on(Runner::Threads(4)).on_request_with(move || handler);
}

//~ Executor` is not an executor that netpoll can spawn tasks on
//~ implement `Spawn` for a type of yours that passes the task to the executor
fn an_executor_does_not_implement_spawn() {
    struct Executor;
    let _ = Runner::Spawn(std::sync::Arc::new(Executor));
}

//~ `u16` is not an address to listen on
//~ an address is a string such as "127.0.0.1:8080" or "unix:/run/app.sock"
fn a_port_is_not_an_address_to_listen_on() {
    let _ = EventLoop::builder().serve(8080_u16);
}

//~ `u16` is not a target to dial
//~ a target is a string such as "localhost:8080" or "unix:/run/app.sock"
fn a_port_is_not_a_target_to_dial() {
    drop(Dialer::new().dial(8080_u16));
}

//~ NotACodec` is not a codec
//~ `LengthField`, `Delimiter` and `FixedSize` are codecs
fn a_type_is_not_a_codec() {
    struct NotACodec;
    drop(mux::serve(NotACodec, async |request: netpoll::buffer::LinkBuffer| Ok(request)));
}

//~ `LengthField` is not a codec whose frames carry the id of their call
//~ `mux::Numbered::new(codec)` puts an id in front of the frames of any other codec
fn a_codec_has_no_call_ids() {
    let _ = mux::Server::new(LengthField::new());
}

//~ future cannot be sent between threads safely
//~ // `Send` futures, `Clone` captures: else `EventLoop::builder()`
fn a_connection_handler_is_not_send() {
    let _ = EventLoop::builder_on(Runner::Inline).on_connection(async |mut conn: Connection| {
        let count = Rc::new(1_u32);
        conn.reader().skip(1).await?;
        drop(count);
        Ok(())
    });
}
