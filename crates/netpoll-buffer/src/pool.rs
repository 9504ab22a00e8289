// SPDX-License-Identifier: MIT OR Apache-2.0
//! Where blocks come from and where they go: free memory by size, in two places.
//!
//! ```text
//!   thread            thread                a thread's front: its own, without a lock
//!   ▒▒ ▒              ▒ ▒▒
//!      └───────┬────────┘
//!       256 B  ▒▒▒▒▒
//!       512 B  ▒                            the shelves: one a size, shared, each with a lock
//!         …
//!       8 MiB  ▒▒
//! ```
//!
//! A block is taken from the **front** of the calling thread, else from its **shelf**, else it is
//! allocated. It comes home to the front of the thread that its last owner lets go on, else to its
//! shelf. A thread has a front of one pool, the one it [entered](Pool::enter); what it takes from
//! others and gives back to others passes by it.
//!
//! A pool keeps what comes home until it holds as much as its bound, fronts and shelves together;
//! what is above the bound goes back to the allocator, and so does every block larger than the
//! largest class. It is a cloneable value: all clones are one pool. The hot paths do not come here:
//! a poller's read block and a thread's write block are used again in place (B4).
//!
//! Memory comes home as it was left, or, to a pool [for secrets](Pool::zeroing), zeroed.
//!
//! What a pool counts it counts exactly, whatever threads take and give back: each count is one
//! number that changes in one step. Nothing is decided by two of them together.

mod size_class;
mod thread_cache;

use std::sync::LazyLock;

use crate::block::{Block, Header, OnRelease};
use crate::sync::{Arc, AtomicUsize, Mutex, MutexGuard, Ordering, PoisonError};

pub(crate) use size_class::MIN_BLOCK_SIZE;
use size_class::{CLASS_COUNT, class_of, size_of_class};

/// What a pool holds at most unless told otherwise.
const DEFAULT_BOUND: usize = 64 << 20;

/// A bounded store of free blocks. Clones share it; any thread may take and give back.
#[derive(Clone, Debug)]
pub struct Pool {
    inner: Arc<PoolInner>,
}

/// What all clones of a pool and all fronts of it share.
#[derive(Debug)]
struct PoolInner {
    central_lists: [Mutex<Vec<FreeBlock>>; CLASS_COUNT],
    /// Bytes on the shelves and in fronts; never above the bound. A block is counted before it is
    /// kept and until after it is taken.
    cached: AtomicUsize,
    in_use: AtomicUsize,
    peak: AtomicUsize,
    bound: usize,
    /// What becomes of the contents of what comes home.
    on_release: OnRelease,
}

/// A block at home: no owners, no pool (B6).
struct FreeBlock(Box<Header>);

impl std::fmt::Debug for FreeBlock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} B", self.0.capacity())
    }
}

/// What a pool holds and lends, in bytes of whole blocks. A block that many connections share
/// counts once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PoolStats {
    /// Lent out now: blocks of every size, those above the largest class, which are never kept,
    /// among them.
    pub in_use: usize,
    /// Free and kept for the next taker now: what all threads can take, and what up to 256 KiB
    /// for each thread lies in front of that one. Never above the pool's bound.
    pub cached: usize,
    /// The most that was ever lent out at once.
    pub peak: usize,
}

impl Default for Pool {
    /// A pool that holds at most 64 MiB.
    fn default() -> Self {
        Self::with_bound(DEFAULT_BOUND)
    }
}

impl Pool {
    /// A pool that holds at most `bound` bytes of free memory. 0 holds nothing.
    #[must_use]
    pub fn with_bound(bound: usize) -> Self {
        Self::new(bound, OnRelease::Leave)
    }

    /// A pool for secrets: as [`with_bound`](Self::with_bound), but memory of it is zeroed as soon
    /// as what it held is over. That is, when the last owner of a block lets go, the whole block,
    /// before it is kept for the next taker and before it goes back to the allocator; and when a
    /// [`Tail`](crate::Tail) starts again at the front, all that it had filled. The compiler does
    /// not remove it.
    ///
    /// Costs one pass over that memory each time. [Enter](Self::enter) it on every thread that
    /// handles the secret: gathering, settling down and putting take memory from the pool of the
    /// thread that they happen on.
    ///
    /// It does not reach what is not in its blocks, or not over:
    ///
    /// * memory that was [pushed](crate::LinkBuffer::push) or inserted, which is its giver's;
    /// * what was copied out: by `read_exact`, `read_vec` and `read_string`, by a `slice` that
    ///   copies, and by whoever has seen the bytes;
    /// * reserved bytes that a commit dropped: those stay until they are overwritten or their
    ///   block is let go;
    /// * a block of which a slice or a buffer still owns a part;
    /// * the kernel's socket buffers, swap, core dumps, and registers and the stack.
    #[must_use]
    pub fn zeroing(bound: usize) -> Self {
        Self::new(bound, OnRelease::Zero)
    }

    fn new(bound: usize, on_release: OnRelease) -> Self {
        let shelves = PoolInner {
            central_lists: std::array::from_fn(|_| Mutex::new(Vec::new())),
            cached: AtomicUsize::new(0),
            in_use: AtomicUsize::new(0),
            peak: AtomicUsize::new(0),
            bound,
            on_release,
        };
        Self {
            inner: Arc::new(shelves),
        }
    }

    /// The pool the calling thread takes from: the one it [entered](Self::enter), else one that
    /// all threads share, which it enters with this call.
    #[must_use]
    pub fn current() -> Self {
        thread_cache::current_pool().unwrap_or_else(|| {
            let shared = DEFAULT_POOL.clone();
            shared.make_current();
            shared
        })
    }

    /// Makes this the pool that the calling thread takes from, and leaves the front of the one
    /// before to all its threads.
    pub(crate) fn make_current(&self) {
        thread_cache::enter(self.clone());
    }

    /// Whether this is the pool of the calling thread. `false` if that has none yet.
    pub(crate) fn is_current(&self) -> bool {
        thread_cache::is_current(self)
    }

    /// An empty block of at least `capacity` bytes, but never above 4 GiB, where positions in a
    /// block end. Allocates if none of its size is free.
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
        // The shelf is unlocked again at the end of this statement.
        let home = thread_cache::pop(self, class).or_else(|| self.central_list(class).pop());
        let FreeBlock(header) = home?;
        self.inner
            .cached
            .fetch_sub(header.capacity(), Ordering::Relaxed);
        Some(header)
    }

    /// What the pool holds and lends. The three are read one after the other, not at once.
    #[must_use]
    pub fn stats(&self) -> PoolStats {
        PoolStats {
            in_use: self.in_use(),
            cached: self.inner.cached.load(Ordering::Relaxed),
            peak: self.inner.peak.load(Ordering::Relaxed),
        }
    }

    /// What is lent out now, in bytes of whole blocks: [`PoolStats::in_use`] alone. One relaxed
    /// load.
    #[must_use]
    #[inline]
    pub fn in_use(&self) -> usize {
        self.inner.in_use.load(Ordering::Relaxed)
    }

    /// Takes a block that is [retired](Header::retire); frees it if the pool is full.
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
        if let Err(home) = thread_cache::push(self, class, FreeBlock(header)) {
            self.central_list(class).push(home);
        }
    }

    /// Counts `size` bytes more as cached, if that is within the bound.
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

    /// Whether both are clones of one pool.
    fn ptr_eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.inner, &other.inner)
    }

    fn central_list(&self, class: usize) -> MutexGuard<'_, Vec<FreeBlock>> {
        // Nothing in here panics half-way, so a poisoned shelf is a whole one.
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
    fn what_comes_home_is_lent_again() {
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
    fn what_is_above_the_bound_is_freed() {
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
    fn a_block_that_would_go_above_the_bound_leaves_room_for_a_smaller_one() {
        let pool = Pool::with_bound(1024);
        let (small, large, other) = (pool.take(256), pool.take(1024), pool.take(512));
        drop(small);
        drop(large);
        assert_eq!(pool.stats().cached, 256);
        drop(other);
        assert_eq!(pool.stats().cached, 256 + 512);
    }

    #[test]
    fn memory_above_the_largest_class_is_never_kept() {
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
    fn a_block_comes_home_from_another_thread() {
        let pool = Pool::with_bound(1 << 20);
        let tail = pool.take(256);
        std::thread::spawn(move || drop(tail)).join().unwrap();
        assert_eq!(pool.stats().cached, 256);
    }

    #[test]
    fn a_thread_takes_from_the_pool_it_entered() {
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
