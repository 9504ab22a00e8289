// SPDX-License-Identifier: MIT OR Apache-2.0
//! Things that those who live on one thread share, without a lock and without counts that other
//! threads touch.

use std::any::{Any, TypeId};
use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use crate::foreign::DeferredDrop;

/// Things of one thread, by type.
#[derive(Default)]
pub(crate) struct PerThread {
    values: RefCell<HashMap<TypeId, Rc<dyn Any>>>,
}

impl Drop for PerThread {
    /// Handlers of the user's are among them: one that panics leaves the others, and the thread.
    fn drop(&mut self) {
        for (_, thing) in self.values.take() {
            drop(DeferredDrop::new(thing));
        }
    }
}

impl PerThread {
    /// The one `T` of this thread, made when first asked for.
    pub(crate) fn get<T: Default + 'static>(&self) -> Rc<T> {
        let mut things = self.values.borrow_mut();
        let thing = things
            .entry(TypeId::of::<T>())
            .or_insert_with(|| Rc::<T>::default());
        // The map is keyed by type, so the entry is a T; the alternative is never taken.
        Rc::clone(thing).downcast().unwrap_or_default()
    }
}
