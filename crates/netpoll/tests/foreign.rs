// SPDX-License-Identifier: MIT OR Apache-2.0
//! Every future of the public interface, polled with hostile wakers: their wake, clone or drop
//! panics, or calls the handles of the awaited connection. Also users' memory and values whose drop
//! does so. After each case the poller serves another connection, and a dial works.

#[expect(unused_imports, reason = "programs beside this one use the rest")]
#[expect(dead_code, reason = "programs beside this one use the rest")]
#[expect(unused_macros, reason = "programs beside this one use the rest")]
#[path = "support/support.rs"]
mod support;

#[path = "foreign/calling.rs"]
mod calling;
#[path = "foreign/hostile.rs"]
mod hostile;
#[path = "foreign/memory.rs"]
mod memory;
#[path = "foreign/reading.rs"]
mod reading;
#[path = "foreign/running.rs"]
mod running;
#[path = "foreign/values.rs"]
mod values;
#[path = "foreign/writing.rs"]
mod writing;
