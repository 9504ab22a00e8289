// SPDX-License-Identifier: MIT OR Apache-2.0
//! `netpoll serve`: one server until a signal ends it.
//!
//! Whatever is served, the outside sees the same: `listening on ADDR` on stdout once connections
//! are taken (with the port the kernel chose if 0 was asked for) and nothing else there; SIGINT
//! and SIGTERM end it with status 0; an address that cannot be had is one line and status 1.

use std::net::SocketAddr;

use crate::arguments::{ServeArgs, ServeKind};
use crate::failure::Failure;
use crate::{print, reference, signal};

/// Serves until a signal comes.
///
/// # Errors
///
/// An address that cannot be listened on, and what ends a server against its will.
pub(crate) fn run(arguments: &ServeArgs) -> Result<(), Failure> {
    if let Some(index) = arguments.pin {
        // Before any thread starts, since threads inherit it.
        netpoll_sys::process::pin_thread(index)
            .map_err(|error| Failure::while_trying("stay on one processor", &error))?;
    }
    let addr = arguments.addr.resolve()?;
    match arguments.kind {
        ServeKind::Reference => serve_reference(addr),
        ServeKind::Echo | ServeKind::Rpc => Err(Failure::new(
            "this build serves only `reference`; echo and rpc need the netpoll library",
        )),
    }
}

fn serve_reference(addr: SocketAddr) -> Result<(), Failure> {
    // Without a raised limit the reference would be a limit of something else.
    netpoll_sys::process::raise_descriptor_limit().ok();
    let stop = signal::descriptor()
        .map_err(|error| Failure::while_trying("listen for signals", &error))?;
    let mut server = reference::Server::bind(addr, stop.into())
        .map_err(|error| Failure::while_trying(format_args!("listen on {addr}"), &error))?;
    print::result(format_args!("listening on {}", server.local_addr()))?;
    server
        .run()
        .map_err(|error| Failure::while_trying("go on serving", &error))
}
