// SPDX-License-Identifier: MIT OR Apache-2.0
//! [`Rare`]: a part of a buffer that few buffers have.

use std::ops::{Deref, DerefMut};

/// A part that is on the heap if there is one. Buffers are dropped with each request batch, so the
/// drop of an absent part is one comparison: the drop of a present one is not inlined.
pub(super) struct Rare<T>(Option<Box<T>>);

impl<T> Rare<T> {
    #[inline]
    pub(super) const fn none() -> Self {
        Self(None)
    }
}

impl<T> Default for Rare<T> {
    #[inline]
    fn default() -> Self {
        Self::none()
    }
}

impl<T> Deref for Rare<T> {
    type Target = Option<Box<T>>;

    #[inline]
    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl<T> DerefMut for Rare<T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.0
    }
}

impl<T> Drop for Rare<T> {
    #[inline]
    fn drop(&mut self) {
        if let Some(part) = self.0.take() {
            drop_present(part);
        }
    }
}

#[inline(never)]
fn drop_present<T>(part: Box<T>) {
    drop(part);
}
