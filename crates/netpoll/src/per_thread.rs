// SPDX-License-Identifier: MIT OR Apache-2.0
//! Values that the sources of one thread share, without a lock and without reference counts that
//! other threads touch.

use std::any::{Any, TypeId};
use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use crate::foreign::DeferredDrop;

/// The values of one thread, by type.
#[derive(Default)]
pub(crate) struct PerThread {
    values: RefCell<HashMap<TypeId, Rc<dyn Any>>>,
}

impl Drop for PerThread {
    /// Drops each value guarded: user's handlers are among them, and one that panics must not stop
    /// the others.
    fn drop(&mut self) {
        for (_, value) in self.values.take() {
            drop(DeferredDrop::new(value));
        }
    }
}

impl PerThread {
    /// Returns the one `T` of this thread, created on first use.
    pub(crate) fn get<T: Default + 'static>(&self) -> Rc<T> {
        let mut values = self.values.borrow_mut();
        let value = values
            .entry(TypeId::of::<T>())
            .or_insert_with(|| Rc::<T>::default());
        // The map is keyed by type, so the value is a `T`; the default is never taken.
        Rc::clone(value).downcast().unwrap_or_default()
    }
}
