// SPDX-License-Identifier: MIT OR Apache-2.0
//! The behaviour of netpoll that its users see, over real sockets. No test sleeps to synchronise,
//! and every wait has a limit.

#[expect(unused_imports, reason = "other test programs use the rest")]
#[macro_use]
#[path = "support/support.rs"]
mod support;

#[path = "behaviour/bind.rs"]
mod bind;
#[path = "behaviour/blocked_shutdown.rs"]
mod blocked_shutdown;
#[path = "behaviour/blocking.rs"]
mod blocking;
#[path = "behaviour/busy_handlers.rs"]
mod busy_handlers;
#[path = "behaviour/busy_poll.rs"]
mod busy_poll;
#[path = "behaviour/busy_reads.rs"]
mod busy_reads;
#[path = "behaviour/client_timeouts.rs"]
mod client_timeouts;
#[path = "behaviour/close_notifications.rs"]
mod close_notifications;
#[path = "behaviour/deadlines.rs"]
mod deadlines;
#[path = "behaviour/descriptors.rs"]
mod descriptors;
#[path = "behaviour/dial.rs"]
mod dial;
#[path = "behaviour/dial_budget.rs"]
mod dial_budget;
#[path = "behaviour/dial_ends.rs"]
mod dial_ends;
#[path = "behaviour/dial_placement.rs"]
mod dial_placement;
#[path = "behaviour/double_panics.rs"]
mod double_panics;
#[path = "behaviour/dropped_waits.rs"]
mod dropped_waits;
#[path = "behaviour/edge_cases.rs"]
mod edge_cases;
#[path = "behaviour/error_queue.rs"]
mod error_queue;
#[path = "behaviour/events.rs"]
mod events;
#[path = "behaviour/everywhere.rs"]
mod everywhere;
#[path = "behaviour/exhaustion.rs"]
mod exhaustion;
#[path = "behaviour/flow.rs"]
mod flow;
#[path = "behaviour/frames.rs"]
mod frames;
#[path = "behaviour/halves.rs"]
mod halves;
#[path = "behaviour/hazards.rs"]
mod hazards;
#[path = "behaviour/input_growth.rs"]
mod input_growth;
#[path = "behaviour/limits.rs"]
mod limits;
#[path = "behaviour/listener_handover.rs"]
mod listener_handover;
#[path = "behaviour/liveness.rs"]
mod liveness;
#[path = "behaviour/mux.rs"]
mod mux;
#[path = "behaviour/mux_connection_loss.rs"]
mod mux_connection_loss;
#[path = "behaviour/mux_dialing.rs"]
mod mux_dialing;
#[path = "behaviour/mux_fairness.rs"]
mod mux_fairness;
#[path = "behaviour/mux_mass_wakeups.rs"]
mod mux_mass_wakeups;
#[path = "behaviour/mux_serving.rs"]
mod mux_serving;
#[path = "behaviour/name_resolution.rs"]
mod name_resolution;
#[path = "behaviour/on_the_poller.rs"]
mod on_the_poller;
#[path = "behaviour/peer_addresses.rs"]
mod peer_addresses;
#[path = "behaviour/pinned_handlers.rs"]
mod pinned_handlers;
#[path = "behaviour/placement.rs"]
mod placement;
#[path = "behaviour/pool.rs"]
mod pool;
#[path = "behaviour/pool_idle.rs"]
mod pool_idle;
#[path = "behaviour/pool_reuse.rs"]
mod pool_reuse;
#[path = "behaviour/pool_wait_queue.rs"]
mod pool_wait_queue;
#[path = "behaviour/pushed_memory.rs"]
mod pushed_memory;
#[path = "behaviour/reading.rs"]
mod reading;
#[path = "behaviour/reservations.rs"]
mod reservations;
#[path = "behaviour/resets.rs"]
mod resets;
#[path = "behaviour/runners.rs"]
mod runners;
#[path = "behaviour/serve.rs"]
mod serve;
#[path = "behaviour/server_timeouts.rs"]
mod server_timeouts;
#[path = "behaviour/settings.rs"]
mod settings;
#[path = "behaviour/slow_peers.rs"]
mod slow_peers;
#[path = "behaviour/sockets.rs"]
mod sockets;
#[path = "behaviour/stats.rs"]
mod stats;
#[path = "behaviour/task.rs"]
mod task;
#[path = "behaviour/time.rs"]
mod time;
#[path = "behaviour/timeout_builders.rs"]
mod timeout_builders;
#[path = "behaviour/timeouts.rs"]
mod timeouts;
#[cfg(feature = "tokio")]
#[path = "behaviour/tokio_tasks.rs"]
mod tokio_tasks;
#[path = "behaviour/unix.rs"]
mod unix;
#[path = "behaviour/unix_race.rs"]
mod unix_race;
#[path = "behaviour/watchdog.rs"]
mod watchdog;
#[path = "behaviour/work_in_progress.rs"]
mod work_in_progress;
#[path = "behaviour/write_queue.rs"]
mod write_queue;
#[path = "behaviour/write_shutdown.rs"]
mod write_shutdown;
#[path = "behaviour/writing.rs"]
mod writing;
