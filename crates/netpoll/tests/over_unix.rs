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

#[path = "behaviour/accepting.rs"]
mod accepting;
#[path = "behaviour/arriving.rs"]
mod arriving;
#[path = "behaviour/blocking.rs"]
mod blocking;
#[path = "behaviour/calls.rs"]
mod calls;
#[path = "behaviour/closing.rs"]
mod closing;
#[path = "behaviour/crowd.rs"]
mod crowd;
#[path = "behaviour/cut.rs"]
mod cut;
#[path = "behaviour/descriptors.rs"]
mod descriptors;
#[path = "behaviour/fairness.rs"]
mod fairness;
#[path = "behaviour/finish.rs"]
mod finish;
#[path = "behaviour/greeting.rs"]
mod greeting;
#[path = "behaviour/half_close.rs"]
mod half_close;
#[path = "behaviour/halves.rs"]
mod halves;
#[path = "behaviour/handlers.rs"]
mod handlers;
#[path = "behaviour/hazards.rs"]
mod hazards;
#[path = "behaviour/liveness.rs"]
mod liveness;
#[path = "behaviour/lives.rs"]
mod lives;
#[path = "behaviour/notices.rs"]
mod notices;
#[path = "behaviour/on_the_poller.rs"]
mod on_the_poller;
#[path = "behaviour/owned.rs"]
mod owned;
#[path = "behaviour/pinned.rs"]
mod pinned;
#[path = "behaviour/reading.rs"]
mod reading;
#[path = "behaviour/requests.rs"]
mod requests;
#[path = "behaviour/serve.rs"]
mod serve;
#[path = "behaviour/shutdown.rs"]
mod shutdown;
#[path = "behaviour/writing.rs"]
mod writing;
#[path = "behaviour/wrong.rs"]
mod wrong;
