// SPDX-License-Identifier: MIT OR Apache-2.0
//! Reference-counted memory: a header with the number of its owners, and the bytes.
//!
//! A block is an `Arc` with two additions: it can be reused in place when one owner is left (B4),
//! and its last owner releases it to a pool instead of freeing it. It hands out windows, never
//! itself as a whole (B5).
//!
//! Foreign memory is dropped by foreign code: the drop of the owner of a [`Bytes`]. That drop may
//! panic, and may use any buffer of the thread. So it runs while nothing of this crate is locked or
//! borrowed, and its panic is caught there: the remaining memory is still dropped, and every length
//! stays right.
//!
//! A block of a pool for secrets is **zeroed** whenever its contents are over. A tail that rewinds
//! zeroes the filled bytes. The drop of the last owner zeroes the whole block, before the pool
//! decides whether to cache or to free it.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr::NonNull;

use bytes::Bytes;
use zeroize::Zeroize;

use crate::pool::Pool;
use crate::sync::{AccessTracker, AtomicUsize, Ordering};

/// One owner of a block. The drop of the last owner releases the block.
pub(crate) struct Block {
    /// Alive as long as this owner (B7).
    header: NonNull<Header>,
}

/// The shared header of all owners of a block.
pub(crate) struct Header {
    /// Number of [`Block`]s. 0 while the block is free.
    owners: AtomicUsize,
    /// The first byte, `capacity` of which are initialised (B1).
    start: NonNull<u8>,
    capacity: usize,
    origin: MemoryOrigin,
    access: AccessTracker,
    /// The pool that takes the block after its last owner; `None` while it is free (B6), and for
    /// memory that no pool takes.
    pool: Option<Pool>,
    /// A copy of the pool's setting, next to the count, because each rewind of a tail reads it.
    on_release: OnRelease,
}

/// The treatment of a block's contents when they are over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OnRelease {
    /// They stay in memory until they are overwritten.
    Leave,
    /// They are zeroed at once.
    Zero,
}

/// The origin of the memory, which decides how it is freed.
enum MemoryOrigin {
    /// A `Box<[u8]>` of the block's capacity.
    Allocated,
    /// Foreign memory, kept alive by this handle.
    Foreign(Bytes),
}

// SAFETY: B1–B5: the memory is owned like a Box's, and no reference to it is held by the header.
unsafe impl Send for Header {}

// SAFETY: B7: the count is atomic; everything else is read-only while there are owners, and the
// memory is reached only through windows that do not overlap with what is written (B2, B3).
unsafe impl Send for Block {}
// SAFETY: as for Send: `&Block` gives shared reads of windows that nothing writes to (B3).
unsafe impl Sync for Block {}

impl Header {
    /// Allocates zeroed memory (B1): one allocation of `capacity` bytes and one for the header.
    pub(crate) fn allocate(capacity: usize) -> Box<Self> {
        let memory = vec![0u8; capacity].into_boxed_slice();
        let start = NonNull::new(Box::into_raw(memory).cast::<u8>()).unwrap_or(NonNull::dangling());
        let owners = AtomicUsize::new(0);
        Box::new(Self {
            owners,
            start,
            capacity,
            origin: MemoryOrigin::Allocated,
            access: AccessTracker::new(),
            pool: None,
            on_release: OnRelease::Leave,
        })
    }

    /// Creates a header over foreign memory. One allocation for the header.
    fn foreign(bytes: Bytes) -> Box<Self> {
        let start = NonNull::from(&bytes[..]).cast::<u8>();
        let (owners, capacity) = (AtomicUsize::new(0), bytes.len());
        Box::new(Self {
            owners,
            start,
            capacity,
            origin: MemoryOrigin::Foreign(bytes),
            access: AccessTracker::new(),
            pool: None,
            on_release: OnRelease::Leave,
        })
    }

    pub(crate) fn capacity(&self) -> usize {
        self.capacity
    }

    /// Overwrites the whole memory, so that its old contents cannot be read. Only while the block
    /// is free: then `&mut self` means that there are no owners.
    pub(crate) fn overwrite(&mut self, byte: u8) {
        debug_assert_eq!(self.owners.load(Ordering::Relaxed), 0);
        self.access.write();
        if matches!(self.origin, MemoryOrigin::Allocated) {
            // SAFETY: B1 and B2: the memory is ours, and without owners there are no windows.
            unsafe { self.start.write_bytes(byte, self.capacity) }
        }
    }

    /// Sets the pool that takes the block when its last owner is dropped.
    pub(crate) fn set_pool(&mut self, pool: Option<Pool>) {
        self.on_release = pool.as_ref().map_or(OnRelease::Leave, Pool::on_release);
        self.pool = pool;
    }

    /// Runs first when the last owner is dropped: zeroes the contents if the pool requires it, and
    /// takes the pool out (B6).
    pub(crate) fn retire(&mut self) -> Option<Pool> {
        self.access.write();
        if self.on_release == OnRelease::Zero {
            // SAFETY: B7: there are no owners left, so nothing looks at the memory.
            unsafe { self.zero(self.capacity) }
        }
        self.pool.take()
    }

    /// Zeroes the first `end` bytes. The compiler does not remove the zeroing, even where it sees
    /// that nothing reads the bytes again.
    ///
    /// # Safety
    ///
    /// * `end <= capacity`, and the memory is not foreign;
    /// * there is neither a window of it nor a reference to the spare capacity of its tail.
    #[cold]
    unsafe fn zero(&self, end: usize) {
        debug_assert!(end <= self.capacity && matches!(self.origin, MemoryOrigin::Allocated));
        let mut held = NonNull::slice_from_raw_parts(self.start, end);
        // SAFETY: B1: initialised; the caller has it in bounds and to itself; B5.
        unsafe { held.as_mut() }.zeroize();
    }
}

impl Drop for Header {
    fn drop(&mut self) {
        if matches!(self.origin, MemoryOrigin::Allocated) {
            let memory = NonNull::slice_from_raw_parts(self.start, self.capacity);
            // SAFETY: B7: `allocate` leaked this box with this capacity, and no owner is left.
            drop(unsafe { Box::from_raw(memory.as_ptr()) });
        }
    }
}

impl Block {
    /// Creates the first owner of a free block, which is released to `pool` in the end.
    pub(crate) fn from_header(mut header: Box<Header>, pool: Option<Pool>) -> Self {
        debug_assert_eq!(header.owners.load(Ordering::Relaxed), 0);
        header.access.write();
        // Relaxed: no other thread can reach the block before this owner is sent there.
        header.owners.store(1, Ordering::Relaxed);
        header.set_pool(pool);
        Self {
            header: NonNull::from(Box::leak(header)),
        }
    }

    /// Creates the first owner of foreign memory.
    pub(crate) fn foreign(bytes: Bytes) -> Self {
        Self::from_header(Header::foreign(bytes), None)
    }

    #[inline]
    fn header(&self) -> &Header {
        // SAFETY: B7: this owner is counted, so the header is alive.
        unsafe { self.header.as_ref() }
    }

    #[inline]
    pub(crate) fn capacity(&self) -> usize {
        self.header().capacity
    }

    /// Returns the whole memory, if it is foreign.
    pub(crate) fn as_foreign(&self) -> Option<&Bytes> {
        match &self.header().origin {
            MemoryOrigin::Foreign(bytes) => Some(bytes),
            MemoryOrigin::Allocated => None,
        }
    }

    /// Returns whether the block belongs to the calling thread's pool.
    pub(crate) fn is_from_current_pool(&self) -> bool {
        self.header().pool.as_ref().is_some_and(Pool::is_current)
    }

    /// Returns whether both own the same block.
    #[inline]
    pub(crate) fn ptr_eq(&self, other: &Self) -> bool {
        self.header == other.header
    }

    /// Returns whether this is the only owner. True stays true until this owner is cloned.
    #[inline]
    fn is_sole_owner(&self) -> bool {
        // Acquire: pairs with the Release in Drop (B4): all uses of other owners' windows happened
        // before.
        self.header().owners.load(Ordering::Acquire) == 1
    }

    /// Returns whether the block can be written from its start again, because this is its only
    /// owner (B4). If so, zeroes the first `filled` bytes if the pool requires it.
    ///
    /// # Safety
    ///
    /// * `filled <= capacity`;
    /// * the caller is the block's one tail (B2).
    #[inline]
    pub(crate) unsafe fn try_reclaim(&mut self, filled: usize) -> bool {
        if !self.is_sole_owner() {
            return false;
        }
        self.header().access.write();
        if self.header().on_release == OnRelease::Zero {
            // SAFETY: B4: no other owner is left that could have a window, and `&mut self` is the
            // tail's; only a tail's block is written, so it is not foreign (B2).
            unsafe { self.header().zero(filled) }
        }
        true
    }

    /// Returns the bytes `start..end`.
    ///
    /// # Safety
    ///
    /// * `start <= end <= capacity`;
    /// * nothing writes to that range while the result lives (a segment has this from B3).
    #[inline]
    pub(crate) unsafe fn window(&self, start: usize, end: usize) -> &[u8] {
        debug_assert!(start <= end && end <= self.capacity());
        self.header().access.read();
        // SAFETY: the caller keeps `start` within the capacity, so the result stays inside.
        let first = unsafe { self.header().start.add(start) };
        let window = NonNull::slice_from_raw_parts(first, end - start);
        // SAFETY: B1: initialised; the caller has the range in bounds and unwritten; B5.
        unsafe { window.as_ref() }
    }

    /// Returns the bytes `start..capacity`, to write.
    ///
    /// # Safety
    ///
    /// * `start <= capacity`;
    /// * the caller is the block's one tail, and no segment reaches past `start` (B2, B3).
    #[inline]
    pub(crate) unsafe fn spare_capacity_mut(&mut self, start: usize) -> &mut [u8] {
        debug_assert!(start <= self.capacity());
        // SAFETY: the caller keeps `start` within the capacity, so the result stays inside.
        let first = unsafe { self.header().start.add(start) };
        let mut room = NonNull::slice_from_raw_parts(first, self.capacity() - start);
        // SAFETY: B1: initialised; B2: the caller alone writes here, and `&mut self` is that
        // right; B5: no window overlaps it.
        unsafe { room.as_mut() }
    }
}

impl Clone for Block {
    #[inline]
    fn clone(&self) -> Self {
        // Relaxed: a new owner is made from one that is counted, as in Arc (B7).
        let owners = self.header().owners.fetch_add(1, Ordering::Relaxed);
        if owners > isize::MAX as usize {
            // A count that wraps would free memory in use; Arc aborts for the same reason.
            std::process::abort();
        }
        Self {
            header: self.header,
        }
    }
}

impl Drop for Block {
    #[inline]
    fn drop(&mut self) {
        // Release: pairs with the Acquire below and with the one in `is_sole_owner` (B4).
        if self.header().owners.fetch_sub(1, Ordering::Release) == 1 {
            // Acquire: all uses by other owners happened before the block is used again.
            self.header().owners.load(Ordering::Acquire);
            // SAFETY: B7: `from_header` leaked this box, and this was its last owner.
            free(unsafe { Box::from_raw(self.header.as_ptr()) });
        }
    }
}

#[cold]
fn free(mut header: Box<Header>) {
    if let Some(pool) = header.retire() {
        pool.release(header);
    } else if matches!(header.origin, MemoryOrigin::Foreign(_)) {
        drop_foreign(header);
    }
}

/// The number of panic payloads that are dropped, one after the other, before the last one is
/// leaked.
const MAX_PANIC_PAYLOADS: u32 = 8;

/// Drops foreign memory, which runs foreign code. A panic is caught here, after the panic hook has
/// reported it. Nothing of this crate is in use meanwhile: the header has no owners, and a panic
/// frees it, too.
fn drop_foreign(foreign: Box<Header>) {
    let mut dropped = catch_unwind(AssertUnwindSafe(|| drop(foreign)));
    for _ in 0..MAX_PANIC_PAYLOADS {
        // The drop of a payload is foreign code, too, and may panic with another payload.
        let Err(payload) = dropped else { return };
        dropped = catch_unwind(AssertUnwindSafe(|| drop(payload)));
    }
    if let Err(payload) = dropped {
        Box::leak(payload);
    }
}

impl fmt::Debug for Block {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let owners = self.header().owners.load(Ordering::Relaxed);
        f.debug_struct("Block")
            .field("capacity", &self.capacity())
            .field("owners", &owners)
            .finish()
    }
}
