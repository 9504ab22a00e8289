// SPDX-License-Identifier: MIT OR Apache-2.0
//! The suites of `behaviour.rs` that say nothing of TCP, over Unix sockets: the same files, another
//! kind of socket under them.

#[expect(
    dead_code,
    unused_imports,
    reason = "the other behaviour tests use the rest"
)]
#[macro_use]
#[path = "support/support.rs"]
mod support;

const RUNS: support::Runs = support::Runs::Inline;
const KIND: support::Kind = support::Kind::Unix;

#[path = "behaviour/blocking.rs"]
mod blocking;
#[path = "behaviour/descriptors.rs"]
mod descriptors;
#[path = "behaviour/everywhere.rs"]
mod everywhere;
#[path = "behaviour/finish.rs"]
mod finish;
#[path = "behaviour/frames.rs"]
mod frames;
#[path = "behaviour/halves.rs"]
mod halves;
#[path = "behaviour/hazards.rs"]
mod hazards;
#[path = "behaviour/liveness.rs"]
mod liveness;
#[path = "behaviour/mux.rs"]
mod mux;
#[path = "behaviour/mux_serving.rs"]
mod mux_serving;
#[path = "behaviour/notices.rs"]
mod notices;
#[path = "behaviour/on_the_poller.rs"]
mod on_the_poller;
#[path = "behaviour/pinned.rs"]
mod pinned;
#[path = "behaviour/pool.rs"]
mod pool;
#[path = "behaviour/pool_idle.rs"]
mod pool_idle;
#[path = "behaviour/pool_line.rs"]
mod pool_line;
#[path = "behaviour/pushed.rs"]
mod pushed;
#[path = "behaviour/reading.rs"]
mod reading;
#[path = "behaviour/reservations.rs"]
mod reservations;
#[path = "behaviour/serve.rs"]
mod serve;
#[path = "behaviour/write_queue.rs"]
mod write_queue;
#[path = "behaviour/writing.rs"]
mod writing;
#[path = "behaviour/wrong.rs"]
mod wrong;
