// SPDX-License-Identifier: MIT OR Apache-2.0
//! Builders whose timeouts are off except those that a test sets, of each kind.

use std::time::Duration;

use netpoll::options::Timeouts;

use crate::support::{AnyBuilder, builder};

/// The name of a way to serve connections, and the function that makes its builder.
pub(crate) type Way = (&'static str, Box<dyn Fn() -> AnyBuilder>);

/// Returns a way to serve connections with one poller.
pub(crate) fn way<B: Into<AnyBuilder> + 'static>(name: &'static str, make: fn() -> B) -> Way {
    (name, Box::new(move || only_set_timeouts(make().into())))
}

/// Returns a builder as [`only_set_timeouts`] does, whose handlers run as this program's do.
pub(crate) fn one_poller() -> AnyBuilder {
    only_set_timeouts(builder())
}

/// Returns `builder` with one poller, and with timeouts that are off except those that a test sets,
/// so that no other one closes a connection. The linger time is short, so that a close follows its
/// timeout at once.
fn only_set_timeouts(builder: AnyBuilder) -> AnyBuilder {
    let timeouts = Timeouts::default()
        .first_byte(None)
        .min_rate(None)
        .write(None)
        .idle(None)
        .linger(Duration::from_millis(1));
    builder.pollers(1).timeouts(timeouts)
}
