// SPDX-License-Identifier: MIT OR Apache-2.0
//! A hook around the body of a loop's threads: for example, to enter another runtime.

use crate::sync::Arc;

/// Calls its argument, after it has entered another runtime or the like.
pub(crate) type ThreadHook = Arc<dyn Fn(&mut dyn FnMut()) + Send + Sync>;

/// Runs `body`, inside `thread_hook` if there is one.
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
