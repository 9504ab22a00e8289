// SPDX-License-Identifier: MIT OR Apache-2.0
//! `netpoll serve`: one server until a signal ends it.
//!
//! Whatever is served, the outside sees the same: `listening on ADDR` on stdout once connections
//! are taken (with the port the kernel chose if 0 was asked for) and nothing else there; SIGINT
//! and SIGTERM end it with status 0; an address that cannot be had is one line and status 1. What
//! happens meanwhile, and statistics if they are asked for, goes to stderr, a line each. Neither
//! output holds up the server: a pipe that is full loses lines, which is told once it is read.

mod heavy;
mod proxy;

use std::io::{self, Read};
use std::time::Duration;

use netpoll::codec::LengthField;
use netpoll::{
    Addr, BoxError, Builder, Connection, Handler, LinkBuffer, ListenOptions, Listener, LoopHandle,
    mux,
};

use crate::arguments::{ServeArgs, ServeKind};
use crate::error::CliError;
use crate::runner::RunnerChoice;
use crate::{output, reference, signal, statistics};

/// Serves until a signal comes.
///
/// # Errors
///
/// An address that cannot be listened on, and what ends a server against its will.
pub(crate) fn run(arguments: &ServeArgs) -> Result<(), CliError> {
    if let Some(index) = arguments.pin {
        // Before any thread starts, since threads inherit it.
        netpoll_sys::process::pin_thread(index)
            .map_err(|error| CliError::io("stay on one processor", &error))?;
    }
    let addr = arguments.addr.resolve()?;
    match arguments.kind {
        ServeKind::Reference => serve_reference(addr, arguments.busy_poll()),
        ServeKind::Echo => serve_netpoll(addr, builder_for(echo, arguments), arguments),
        ServeKind::Rpc => serve_netpoll(addr, builder_for(rpc, arguments), arguments),
        ServeKind::Heavy => {
            let builder = builder_for(heavy::answer, arguments);
            serve_netpoll(addr, builder.on_connect_send(heavy::count), arguments)
        }
        ServeKind::Proxy => serve_netpoll(addr, proxy(arguments)?, arguments),
        ServeKind::Mux => {
            let builder = netpoll::EventLoop::builder();
            let builder = builder.on_connection(mux::serve(LengthField::new(), repeat));
            serve_netpoll(addr, builder, arguments)
        }
    }
}

/// A loop that handles requests in the form that fits the runner: inline, the one whose futures
/// stay where they are is the shorter way.
fn builder_for<H>(handler: H, arguments: &ServeArgs) -> Builder
where
    H: Handler + AsyncFn(&mut Connection) -> Result<(), BoxError>,
{
    let builder = netpoll::EventLoop::builder();
    match arguments.runner {
        None | Some(RunnerChoice::Inline) => builder.on_request(handler),
        Some(_) => builder.on_request_send(handler),
    }
}

/// A loop that passes on what comes.
fn proxy(arguments: &ServeArgs) -> Result<Builder, CliError> {
    let to = arguments.to.as_ref();
    let to = to.ok_or_else(|| CliError::new("nobody said where to pass connections on to"))?;
    let between = proxy::handler(
        to.resolve()?,
        arguments.limits.dialed_options(),
        arguments.half_open_duration(),
    );
    Ok(netpoll::EventLoop::builder().on_connection(between))
}

/// Returns whatever has come.
async fn echo(conn: &mut Connection) -> Result<(), BoxError> {
    let (mut reader, mut writer) = conn.split();
    if let Some(bytes) = reader.chunk().await? {
        writer.append(bytes);
    }
    Ok(())
}

/// Answers one frame with the same frame, in memory of its own.
async fn rpc(conn: &mut Connection) -> Result<(), BoxError> {
    let (mut reader, mut writer) = conn.split();
    let len = reader.read_u32().await?;
    let body = reader.next(len as usize).await?;
    writer.put_slices(&[&len.to_be_bytes(), body]);
    Ok(())
}

/// Answers one request with the same, in memory of its own.
async fn repeat(request: LinkBuffer) -> Result<LinkBuffer, BoxError> {
    let mut answer = LinkBuffer::new();
    for part in request.segments() {
        answer.put_slice(part.as_slice());
    }
    Ok(answer)
}

/// Serves with the framework until a signal comes, and drains.
fn serve_netpoll(addr: Addr, builder: Builder, arguments: &ServeArgs) -> Result<(), CliError> {
    // With less the limit is only met sooner.
    netpoll_sys::process::raise_descriptor_limit().ok();
    let listener = listen(addr, arguments)
        .map_err(|error| CliError::io(format_args!("listen on {addr}"), &error))?;
    let bound = listener
        .local_addr()
        .map_err(|error| CliError::io("learn the bound address", &error))?;
    let builder = match arguments.pollers {
        Some(pollers) => builder.pollers(pollers.get()),
        None => builder,
    };
    let builder = builder.busy_poll(arguments.busy_poll());
    let builder = match arguments.max_connections {
        Some(most) => builder.max_connections(most.get()),
        None => builder,
    };
    // Lives until the loop has ended: its runtime, if it has one, carries the handlers out.
    let home = arguments.runner.unwrap_or_default().start();
    let home = home.map_err(|error| CliError::io("start the runner", &error))?;
    let event_loop = arguments
        .limits
        .apply(builder)
        .runner(home.runner())
        .on_event(|event| output::error(event))
        .listen(listener)
        .build()
        .map_err(|error| CliError::io("set the server up", &error))?;
    let mut stop =
        signal::descriptor().map_err(|error| CliError::io("listen for signals", &error))?;
    let handle = event_loop.handle();
    let drain = arguments.limits.drain();
    std::thread::Builder::new()
        .name(String::from("signals"))
        .spawn(move || {
            // Whatever ends this wait, the server is not to run without anybody listening.
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

/// Says that the server is ready, once it is.
fn announce(handle: LoopHandle, bound: Addr) -> Result<(), CliError> {
    let say = move || {
        // Why it is not is what `run` returns.
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
    // Without a raised limit the reference would be a limit of something else.
    netpoll_sys::process::raise_descriptor_limit().ok();
    let stop = signal::descriptor().map_err(|error| CliError::io("listen for signals", &error))?;
    let mut server = reference::ReferenceServer::bind(addr, stop.into(), busy_poll)
        .map_err(|error| CliError::io(format_args!("listen on {addr}"), &error))?;
    output::announce(format_args!("listening on {}", server.local_addr()));
    server
        .run()
        .map_err(|error| CliError::io("go on serving", &error))
}
