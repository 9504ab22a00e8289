// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the life of a loop's threads happens inside of: another runtime that was entered, say.

use crate::sync::Arc;

/// Runs what it is given, inside of something.
pub(crate) type ThreadHook = Arc<dyn Fn(&mut dyn FnMut()) + Send + Sync>;

/// Runs `life`, inside of what is `around`, if something is.
pub(crate) fn run_in_hook(thread_hook: Option<&ThreadHook>, body: impl FnOnce()) {
    let mut body = Some(body);
    let mut once = || {
        if let Some(body) = body.take() {
            body();
        }
    };
    match thread_hook {
        Some(thread_hook) => thread_hook(&mut once),
        None => once(),
    }
}
