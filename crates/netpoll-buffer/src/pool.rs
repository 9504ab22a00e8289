// SPDX-License-Identifier: MIT OR Apache-2.0
//! The pool of blocks: free memory by size class, in two places.
//!
//! ```text
//!   thread            thread                thread caches: one per thread, no lock
//!   ▒▒ ▒              ▒ ▒▒
//!      └───────┬────────┘
//!       256 B  ▒▒▒▒▒
//!       512 B  ▒                            central lists: one per size class, shared, one lock each
//!         …
//!       8 MiB  ▒▒
//! ```
//!
//! A block is taken from the **thread cache** of the calling thread, else from the **central list**
//! of its class, else it is allocated. It returns to the cache of the thread that drops its last
//! owner, else to its central list. A thread caches blocks of one pool, the one it
//! [entered](Pool::enter); blocks of other pools bypass the cache.
//!
//! A pool keeps released blocks up to its bound, which covers caches and central lists together.
//! Blocks above the bound go back to the allocator, and so does every block larger than the largest
//! class. A pool is a cloneable handle: all clones are one pool. The hot paths do not use it: a
//! poller's read block and a thread's write block are reused in place (B4).
//!
//! Memory is released with its contents, or, to a pool [for secrets](Pool::zeroing), zeroed.
//!
//! The counts of a pool are exact under concurrent use: each count is one number that changes in
//! one atomic step. No decision depends on two of them together.

mod size_class;
mod thread_cache;

use std::sync::LazyLock;

use crate::block::{Block, Header, OnRelease};
use crate::sync::{Arc, AtomicUsize, Mutex, MutexGuard, Ordering, PoisonError};

pub(crate) use size_class::MIN_BLOCK_SIZE;
use size_class::{CLASS_COUNT, class_of, size_of_class};

/// Default bound of a pool: 64 MiB.
const DEFAULT_BOUND: usize = 64 << 20;

/// A bounded store of free blocks. Clones share it; any thread may allocate and release.
#[derive(Clone, Debug)]
pub struct Pool {
    inner: Arc<PoolInner>,
}

/// The state that all clones and all thread caches of a pool share.
#[derive(Debug)]
struct PoolInner {
    central_lists: [Mutex<Vec<FreeBlock>>; CLASS_COUNT],
    /// Bytes in central lists and thread caches; never above the bound. A block is counted before
    /// it is stored and until after it is taken.
    cached: AtomicUsize,
    in_use: AtomicUsize,
    peak: AtomicUsize,
    bound: usize,
    /// The treatment of the contents of a released block.
    on_release: OnRelease,
}

/// A free block: no owners, no pool (B6).
struct FreeBlock(Box<Header>);

impl std::fmt::Debug for FreeBlock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} B", self.0.capacity())
    }
}

/// Counts of a pool, in bytes of whole blocks. A block that many connections share counts once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PoolStats {
    /// Bytes in use now: blocks of every size, including those above the largest class, which are
    /// never cached.
    pub in_use: usize,
    /// Free bytes that the pool caches now: those in central lists, and up to 256 KiB in the cache
    /// of each thread. Never above the pool's bound.
    pub cached: usize,
    /// The highest value that `in_use` has had.
    pub peak: usize,
}

impl Default for Pool {
    /// Creates a pool that caches at most 64 MiB.
    fn default() -> Self {
        Self::with_bound(DEFAULT_BOUND)
    }
}

impl Pool {
    /// Creates a pool that caches at most `bound` bytes of free memory. 0 caches nothing.
    #[must_use]
    pub fn with_bound(bound: usize) -> Self {
        Self::new(bound, OnRelease::Leave)
    }

    /// Creates a pool for secrets: as [`with_bound`](Self::with_bound), and its memory is zeroed as
    /// soon as its contents are over. When the last owner of a block is dropped, the whole block is
    /// zeroed, before it is cached and before it goes back to the allocator. When a
    /// [`Tail`](crate::Tail) rewinds, all the bytes it had filled are zeroed. The compiler does not
    /// remove the zeroing.
    ///
    /// Costs one pass over that memory each time. [Enter](Self::enter) the pool on every thread
    /// that handles the secret: `peek` across segments, `compact` and `put_*` allocate from the
    /// pool of the thread that they run on.
    ///
    /// These bytes are not zeroed:
    ///
    /// * memory that was [pushed](crate::LinkBuffer::push) or inserted, which its owner frees;
    /// * copies: those of `read_exact`, `read_vec` and `read_string`, those of a `slice` that
    ///   copies, and those that the program makes;
    /// * reserved bytes that a commit dropped: they stay until they are overwritten or their block
    ///   is released;
    /// * a block of which a slice or a buffer still owns a part;
    /// * the kernel's socket buffers, swap, core dumps, registers and the stack.
    #[must_use]
    pub fn zeroing(bound: usize) -> Self {
        Self::new(bound, OnRelease::Zero)
    }

    fn new(bound: usize, on_release: OnRelease) -> Self {
        let inner = PoolInner {
            central_lists: std::array::from_fn(|_| Mutex::new(Vec::new())),
            cached: AtomicUsize::new(0),
            in_use: AtomicUsize::new(0),
            peak: AtomicUsize::new(0),
            bound,
            on_release,
        };
        Self {
            inner: Arc::new(inner),
        }
    }

    /// Returns the pool that the calling thread allocates from: the one it [entered](Self::enter),
    /// else a default pool that all such threads share, which it enters with this call.
    #[must_use]
    pub fn current() -> Self {
        thread_cache::current_pool().unwrap_or_else(|| {
            let shared = DEFAULT_POOL.clone();
            shared.make_current();
            shared
        })
    }

    /// Makes this the pool that the calling thread allocates from, and flushes the thread's cache
    /// of the previous pool to the central lists.
    pub(crate) fn make_current(&self) {
        thread_cache::enter(self.clone());
    }

    /// Returns whether this is the pool of the calling thread. `false` if the thread has none yet.
    pub(crate) fn is_current(&self) -> bool {
        thread_cache::is_current(self)
    }

    /// Allocates an empty block of at least `capacity` bytes, at most 4 GiB, where positions in a
    /// block end. Takes memory from the allocator if the pool has no free block of that size.
    pub(crate) fn allocate_block(self, capacity: usize) -> Block {
        let capacity = capacity.min(u32::MAX as usize);
        let header = match class_of(capacity) {
            Some(class) => self
                .take_cached(class)
                .unwrap_or_else(|| Header::allocate(size_of_class(class))),
            None => Header::allocate(capacity),
        };
        let size = header.capacity();
        let in_use = self.inner.in_use.fetch_add(size, Ordering::Relaxed) + size;
        self.inner.peak.fetch_max(in_use, Ordering::Relaxed);
        Block::from_header(header, Some(self))
    }

    fn take_cached(&self, class: usize) -> Option<Box<Header>> {
        // The central list is unlocked at the end of this statement.
        let block = thread_cache::pop(self, class).or_else(|| self.central_list(class).pop());
        let FreeBlock(header) = block?;
        self.inner
            .cached
            .fetch_sub(header.capacity(), Ordering::Relaxed);
        Some(header)
    }

    /// Returns the counts of the pool. The three are read one after the other, not at once.
    #[must_use]
    pub fn stats(&self) -> PoolStats {
        PoolStats {
            in_use: self.in_use(),
            cached: self.inner.cached.load(Ordering::Relaxed),
            peak: self.inner.peak.load(Ordering::Relaxed),
        }
    }

    /// Returns the bytes in use now: [`PoolStats::in_use`] alone. One relaxed load.
    #[must_use]
    #[inline]
    pub fn in_use(&self) -> usize {
        self.inner.in_use.load(Ordering::Relaxed)
    }

    /// Caches a [retired](Header::retire) block; frees it if the pool is full.
    pub(crate) fn release(&self, mut header: Box<Header>) {
        let size = header.capacity();
        self.inner.in_use.fetch_sub(size, Ordering::Relaxed);
        let Some(class) = class_of(size) else { return };
        if !self.try_reserve_cached(size) {
            return;
        }
        if cfg!(debug_assertions) && self.on_release() == OnRelease::Leave {
            header.overwrite(0xDB);
        }
        if let Err(block) = thread_cache::push(self, class, FreeBlock(header)) {
            self.central_list(class).push(block);
        }
    }

    /// Counts `size` more bytes as cached, if that is within the bound.
    fn try_reserve_cached(&self, size: usize) -> bool {
        let bound = self.inner.bound;
        let within = |cached: usize| Some(cached + size).filter(|&cached| cached <= bound);
        self.inner
            .cached
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, within)
            .is_ok()
    }

    pub(crate) fn on_release(&self) -> OnRelease {
        self.inner.on_release
    }

    /// Returns whether both are clones of one pool.
    fn ptr_eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.inner, &other.inner)
    }

    fn central_list(&self, class: usize) -> MutexGuard<'_, Vec<FreeBlock>> {
        // No code panics while it holds this lock, so a poisoned list is a consistent one.
        self.inner.central_lists[class]
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// The pool of every thread that has not entered another.
static DEFAULT_POOL: LazyLock<Pool> = LazyLock::new(Pool::default);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tail::Tail;

    #[test]
    fn a_released_block_is_reused() {
        let pool = Pool::with_bound(1 << 20);
        let first = pool.take(1000);
        assert_eq!(
            pool.stats(),
            PoolStats {
                in_use: 1024,
                cached: 0,
                peak: 1024
            }
        );
        assert_eq!(pool.in_use(), 1024);
        drop(first);
        assert_eq!(
            pool.stats(),
            PoolStats {
                in_use: 0,
                cached: 1024,
                peak: 1024
            }
        );
        let _again = pool.take(1024);
        assert_eq!(
            pool.stats(),
            PoolStats {
                in_use: 1024,
                cached: 0,
                peak: 1024
            }
        );
    }

    #[test]
    fn blocks_above_the_bound_are_freed() {
        let pool = Pool::with_bound(1024);
        let (one, two) = (pool.take(1024), pool.take(1024));
        drop(one);
        drop(two);
        assert_eq!(
            pool.stats(),
            PoolStats {
                in_use: 0,
                cached: 1024,
                peak: 2048
            }
        );
    }

    #[test]
    fn a_block_rejected_by_the_bound_does_not_use_it_up() {
        let pool = Pool::with_bound(1024);
        let (small, large, other) = (pool.take(256), pool.take(1024), pool.take(512));
        drop(small);
        drop(large);
        assert_eq!(pool.stats().cached, 256);
        drop(other);
        assert_eq!(pool.stats().cached, 256 + 512);
    }

    #[test]
    fn blocks_above_the_largest_size_class_are_not_cached() {
        let pool = Pool::default();
        let large = size_class::MAX_POOLED_SIZE * 2;
        let tail = pool.take(large);
        assert_eq!(
            pool.stats(),
            PoolStats {
                in_use: large,
                cached: 0,
                peak: large
            }
        );
        drop(tail);
        assert_eq!(
            pool.stats(),
            PoolStats {
                in_use: 0,
                cached: 0,
                peak: large
            }
        );
    }

    #[test]
    fn a_block_released_on_another_thread_returns_to_its_pool() {
        let pool = Pool::with_bound(1 << 20);
        let tail = pool.take(256);
        std::thread::spawn(move || drop(tail)).join().unwrap();
        assert_eq!(pool.stats().cached, 256);
    }

    #[test]
    fn a_thread_allocates_from_the_pool_it_entered() {
        let pool = Pool::with_bound(1 << 20);
        let inside = pool.clone();
        std::thread::spawn(move || {
            inside.enter();
            drop(Tail::with_capacity(300));
        })
        .join()
        .unwrap();
        assert_eq!(pool.stats().cached, 512);
    }
}
