// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the life of a loop's threads happens inside of: another runtime that was entered, say.

use crate::sync::Arc;

/// Runs what it is given, inside of something.
pub(crate) type Around = Arc<dyn Fn(&mut dyn FnMut()) + Send + Sync>;

/// Runs `life`, inside of what is `around`, if something is.
pub(crate) fn within(around: Option<&Around>, life: impl FnOnce()) {
    let mut life = Some(life);
    let mut once = || {
        if let Some(life) = life.take() {
            life();
        }
    };
    match around {
        Some(around) => around(&mut once),
        None => once(),
    }
}
