// SPDX-License-Identifier: MIT OR Apache-2.0
//! The tokio runtime of a program of tests.

use std::sync::OnceLock;

use tokio::runtime::{Builder, Runtime};

/// One for the whole program, made when it is first asked for.
pub(crate) fn runtime() -> &'static Runtime {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    RUNTIME.get_or_init(started)
}

/// A runtime of a test's own.
pub(crate) fn started() -> Runtime {
    let mut builder = Builder::new_multi_thread();
    let builder = builder.worker_threads(super::THREADS).enable_all();
    builder.build().expect("two threads")
}
