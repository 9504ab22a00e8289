// SPDX-License-Identifier: MIT OR Apache-2.0
//! A waker with custom wake, clone and drop, which safe code cannot make.
//!
//! For the tests of netpoll alone, with the feature `test-waker`. It lives in this crate because
//! unsafe code is allowed here:
//!
//! * **W1.** The pointer of such a waker is from [`Arc::into_raw`], and each waker owns one count.
//! * **W2.** A wake by value and a drop release that count; a clone adds one first.

use std::mem::ManuallyDrop;
use std::sync::Arc;
use std::task::{RawWaker, RawWakerVTable, Waker};

/// The actions of a waker. Each may panic and may call any code.
pub trait WakerHooks: Send + Sync + 'static {
    /// Runs when the waker is woken, by value or by reference.
    fn on_wake(&self);
    /// Runs before the waker is cloned.
    fn on_clone(&self);
    /// Runs before the waker is dropped. Not called after a wake by value.
    fn on_drop(&self);
}

/// Creates a waker that calls `hooks`.
pub fn waker<H: WakerHooks>(hooks: Arc<H>) -> Waker {
    let raw = RawWaker::new(Arc::into_raw(hooks).cast(), vtable::<H>());
    // SAFETY: the functions of the table keep W1 and W2; `WakerHooks` is `Send` and `Sync`.
    unsafe { Waker::from_raw(raw) }
}

fn vtable<H: WakerHooks>() -> &'static RawWakerVTable {
    &const { RawWakerVTable::new(clone::<H>, wake::<H>, wake_by_ref::<H>, drop_waker::<H>) }
}

/// Returns the hooks of a waker without taking its count.
///
/// # Safety
///
/// `data` is of a live waker (W1).
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
    // SAFETY: W2, this takes the count over.
    let hooks = unsafe { Arc::from_raw(data.cast::<H>()) };
    hooks.on_wake();
}

unsafe fn wake_by_ref<H: WakerHooks>(data: *const ()) {
    // SAFETY: the waker that is woken lives.
    let hooks = unsafe { borrowed::<H>(data) };
    hooks.on_wake();
}

unsafe fn drop_waker<H: WakerHooks>(data: *const ()) {
    // SAFETY: W2, this takes the count over.
    let hooks = unsafe { Arc::from_raw(data.cast::<H>()) };
    hooks.on_drop();
}
