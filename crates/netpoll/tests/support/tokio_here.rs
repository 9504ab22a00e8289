// SPDX-License-Identifier: MIT OR Apache-2.0
//! The tokio runtime of a test program.

use std::sync::OnceLock;

use tokio::runtime::{Builder, Runtime};

/// Returns the runtime of the program, which starts at the first call.
pub(crate) fn runtime() -> &'static Runtime {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    RUNTIME.get_or_init(started)
}

/// Starts a separate runtime.
pub(crate) fn started() -> Runtime {
    let mut builder = Builder::new_multi_thread();
    let builder = builder.worker_threads(super::THREADS).enable_all();
    builder.build().expect("two threads")
}
