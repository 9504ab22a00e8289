// SPDX-License-Identifier: MIT OR Apache-2.0
//! `netpoll serve`: runs one server until a signal ends it.
//!
//! All kinds of servers behave alike. They print `listening on ADDR` on stdout once connections are
//! accepted (with the port that the kernel chose if port 0 was given), and nothing else there.
//! SIGINT and SIGTERM end them with status 0. An address that cannot be bound is an error in one
//! line, with status 1. Events, and statistics if enabled, go to stderr, one line each. Neither
//! output blocks the server: a full pipe loses lines, and their number is logged once the pipe is
//! read.

mod heavy;
mod proxy;
mod reference;
pub(crate) mod runner;
mod statistics;

use std::io::{self, Read};
use std::sync::Arc;
use std::time::Duration;

use netpoll::buffer::LinkBuffer;
use netpoll::codec::LengthField;
use netpoll::event_loop::HandlerKind;
use netpoll::listener::ListenOptions;
use netpoll::{
    Addr, BoxError, Builder, Connection, EventLoop, Handler, Listener, LoopHandle, Runner, mux,
};

use crate::arguments::{ServeArgs, ServeKind};
use crate::error::CliError;
use crate::{output, signal};

use runner::RunnerInstance;

/// Serves until a signal arrives.
///
/// # Errors
///
/// An address that cannot be bound, and errors that end the server.
pub(crate) fn run(arguments: &ServeArgs) -> Result<(), CliError> {
    if let Some(index) = arguments.pin {
        // Before any thread starts: threads inherit the affinity.
        netpoll_sys::process::pin_thread(index)
            .map_err(|error| CliError::io("stay on one processor", &error))?;
    }
    let addr = arguments.addr.resolve()?;
    match arguments.kind {
        ServeKind::Reference => serve_reference(addr, arguments.busy_poll()),
        ServeKind::Echo => serve_requests(addr, echo, arguments),
        ServeKind::Rpc => serve_requests(addr, rpc, arguments),
        ServeKind::Heavy => serve_heavy(addr, arguments),
        ServeKind::Proxy => serve_netpoll(addr, proxy(arguments)?, arguments),
        ServeKind::Mux => serve_mux(addr, arguments),
    }
}

/// Serves requests with `handler`. On the pollers its futures stay where they are; all other runners
/// may move them.
fn serve_requests<H>(addr: Addr, handler: H, arguments: &ServeArgs) -> Result<(), CliError>
where
    H: Handler + AsyncFn(&mut Connection) -> Result<(), BoxError>,
{
    // Outlives the event loop: its runtime, if there is one, runs the handlers.
    let runner = start_runner(arguments)?;
    match runner.runner() {
        Runner::Inline => {
            let builder = EventLoop::builder().on_request(handler);
            serve_netpoll(addr, builder, arguments)
        }
        runner => {
            let builder = EventLoop::builder_on(runner).on_request(handler);
            serve_netpoll(addr, builder, arguments)
        }
    }
}

/// Serves as [`serve_requests`] does, with an `on_connect` handler.
fn serve_heavy(addr: Addr, arguments: &ServeArgs) -> Result<(), CliError> {
    let runner = start_runner(arguments)?;
    match runner.runner() {
        Runner::Inline => {
            let builder = EventLoop::builder().on_connect(heavy::count);
            serve_netpoll(addr, builder.on_request(heavy::answer), arguments)
        }
        runner => {
            let builder = EventLoop::builder_on(runner).on_connect(heavy::count);
            serve_netpoll(addr, builder.on_request(heavy::answer), arguments)
        }
    }
}

/// Serves many requests on each connection at once. With tokio, each request is a task of it.
fn serve_mux(addr: Addr, arguments: &ServeArgs) -> Result<(), CliError> {
    let served = || mux::serve(LengthField::new(), repeat);
    let runner = start_runner(arguments)?;
    match runner.runner() {
        Runner::Spawn(executor) => {
            let served = mux::serve_on(Arc::clone(&executor), 256, LengthField::new(), repeat);
            let builder = EventLoop::builder_on(Runner::Spawn(executor));
            serve_netpoll(addr, builder.on_connection(served), arguments)
        }
        Runner::Threads(count) => {
            let builder = EventLoop::builder().handler_threads(count);
            serve_netpoll(addr, builder.on_connection(served()), arguments)
        }
        _ => {
            let builder = EventLoop::builder().on_connection(served());
            serve_netpoll(addr, builder, arguments)
        }
    }
}

fn start_runner(arguments: &ServeArgs) -> Result<RunnerInstance, CliError> {
    let runner = arguments.runner.unwrap_or_default().start();
    runner.map_err(|error| CliError::io("start the runner", &error))
}

/// Returns a builder of a proxy to `--to`.
fn proxy(arguments: &ServeArgs) -> Result<Builder, CliError> {
    let to = arguments.to.as_ref();
    let to = to.ok_or_else(|| CliError::new("a proxy needs --to ADDR"))?;
    let between = proxy::handler(
        to.resolve()?,
        arguments.limits.dialed_options(),
        arguments.half_open_duration(),
    );
    Ok(EventLoop::builder().on_connection(between))
}

/// Echoes the received bytes without a copy.
async fn echo(conn: &mut Connection) -> Result<(), BoxError> {
    let (mut reader, mut writer) = conn.split();
    if let Some(bytes) = reader.chunk().await? {
        writer.append(bytes);
    }
    Ok(())
}

/// Answers one frame with the same frame, copied.
async fn rpc(conn: &mut Connection) -> Result<(), BoxError> {
    let (mut reader, mut writer) = conn.split();
    let len = reader.read_u32().await?;
    let body = reader.next(len as usize).await?;
    writer.put_slices(&[&len.to_be_bytes(), body]);
    Ok(())
}

/// Answers one request with a copy of it.
async fn repeat(request: LinkBuffer) -> Result<LinkBuffer, BoxError> {
    let mut answer = LinkBuffer::new();
    for part in request.segments() {
        answer.put_slice(part.as_slice());
    }
    Ok(answer)
}

/// Serves with the framework until a signal arrives, then drains.
fn serve_netpoll<K: HandlerKind>(
    addr: Addr,
    builder: Builder<K>,
    arguments: &ServeArgs,
) -> Result<(), CliError> {
    // Without it, the server runs into the limit earlier.
    netpoll_sys::process::raise_descriptor_limit().ok();
    let listener = listen(addr, arguments)
        .map_err(|error| CliError::io(format_args!("listen on {addr}"), &error))?;
    let bound = listener
        .local_addr()
        .map_err(|error| CliError::io("read the bound address", &error))?;
    let builder = match arguments.pollers {
        Some(pollers) => builder.pollers(pollers.get()),
        None => builder,
    };
    let builder = builder.busy_poll(arguments.busy_poll());
    let builder = match arguments.max_connections {
        Some(most) => builder.max_connections(most.get()),
        None => builder,
    };
    let event_loop = arguments
        .limits
        .apply(builder)
        .on_event(|event| output::error(event))
        .listen(listener)
        .build()
        .map_err(|error| CliError::io("build the server", &error))?;
    let mut stop =
        signal::descriptor().map_err(|error| CliError::io("listen for signals", &error))?;
    let handle = event_loop.handle();
    let drain = arguments.limits.drain();
    std::thread::Builder::new()
        .name(String::from("signals"))
        .spawn(move || {
            // Shuts down on a read error, too: without this thread no signal would end the server.
            stop.read_exact(&mut [0]).ok();
            drop(handle.shutdown(drain));
        })
        .map_err(|error| CliError::io("start a thread", &error))?;
    let _statistics = match arguments.stats {
        Some(every) => Some(
            statistics::start(event_loop.handle(), every)
                .map_err(|error| CliError::io("start a thread", &error))?,
        ),
        None => None,
    };
    announce(event_loop.handle(), bound)?;
    event_loop
        .run()
        .map_err(|error| CliError::io("serve", &error))
}

/// Starts a thread that announces the address once the server accepts connections.
fn announce(handle: LoopHandle, bound: Addr) -> Result<(), CliError> {
    let say = move || {
        // `run` returns the error if it does not.
        if handle.wait_until_serving().is_ok() {
            output::announce(format_args!("listening on {bound}"));
        }
    };
    std::thread::Builder::new()
        .name(String::from("announce"))
        .spawn(say)
        .map(drop)
        .map_err(|error| CliError::io("start a thread", &error))
}

fn listen(addr: Addr, arguments: &ServeArgs) -> io::Result<Listener> {
    if arguments.reuse_port {
        Listener::bind_per_poller(addr, ListenOptions::default())
    } else {
        Listener::bind(addr)
    }
}

fn serve_reference(addr: Addr, busy_poll: Duration) -> Result<(), CliError> {
    // Without it, the reference would be limited by descriptors.
    netpoll_sys::process::raise_descriptor_limit().ok();
    let stop = signal::descriptor().map_err(|error| CliError::io("listen for signals", &error))?;
    let mut server = reference::ReferenceServer::bind(addr, stop.into(), busy_poll)
        .map_err(|error| CliError::io(format_args!("listen on {addr}"), &error))?;
    output::announce(format_args!("listening on {}", server.local_addr()));
    server
        .run()
        .map_err(|error| CliError::io("continue serving", &error))
}
