// SPDX-License-Identifier: MIT OR Apache-2.0
//! A waker whose wake, clone and drop are a test's own: what safe code cannot make.
//!
//! For the tests of netpoll alone, with the feature `test-waker`. It is here because this crate is where
//! unsafe code is explained:
//!
//! * **W1.** The pointer of such a waker is of [`Arc::into_raw`], and each waker owns one count.
//! * **W2.** A wake by value and a drop give up that count; a clone adds one first.

use std::mem::ManuallyDrop;
use std::sync::Arc;
use std::task::{RawWaker, RawWakerVTable, Waker};

/// What a waker does. Each may panic, and call whatever it likes.
pub trait WakerHooks: Send + Sync + 'static {
    /// It is woken, by value or by reference.
    fn on_wake(&self);
    /// It is about to be cloned.
    fn on_clone(&self);
    /// It is about to be dropped. Not called after a wake by value.
    fn on_drop(&self);
}

/// A waker that does what `hooks` say.
pub fn waker<H: WakerHooks>(hooks: Arc<H>) -> Waker {
    let raw = RawWaker::new(Arc::into_raw(hooks).cast(), vtable::<H>());
    // SAFETY: W1 and W2 are what the functions of the table keep to; `WakerHooks` is `Send` and `Sync`.
    unsafe { Waker::from_raw(raw) }
}

fn vtable<H: WakerHooks>() -> &'static RawWakerVTable {
    &const { RawWakerVTable::new(clone::<H>, wake::<H>, wake_by_ref::<H>, drop_waker::<H>) }
}

/// The hooks of a waker that keeps its count.
///
/// # Safety
///
/// `data` is of a waker that lives (W1).
unsafe fn borrowed<H: WakerHooks>(data: *const ()) -> ManuallyDrop<Arc<H>> {
    // SAFETY: W1, and the count stays with the waker, since this one is never dropped.
    ManuallyDrop::new(unsafe { Arc::from_raw(data.cast::<H>()) })
}

unsafe fn clone<H: WakerHooks>(data: *const ()) -> RawWaker {
    // SAFETY: the waker that is cloned lives.
    let hooks = unsafe { borrowed::<H>(data) };
    hooks.on_clone();
    let clone = Arc::clone(&hooks);
    RawWaker::new(Arc::into_raw(clone).cast(), vtable::<H>())
}

unsafe fn wake<H: WakerHooks>(data: *const ()) {
    // SAFETY: W2, the count goes with this.
    let hooks = unsafe { Arc::from_raw(data.cast::<H>()) };
    hooks.on_wake();
}

unsafe fn wake_by_ref<H: WakerHooks>(data: *const ()) {
    // SAFETY: the waker that is woken lives.
    let hooks = unsafe { borrowed::<H>(data) };
    hooks.on_wake();
}

unsafe fn drop_waker<H: WakerHooks>(data: *const ()) {
    // SAFETY: W2, the count goes with this.
    let hooks = unsafe { Arc::from_raw(data.cast::<H>()) };
    hooks.on_drop();
}
