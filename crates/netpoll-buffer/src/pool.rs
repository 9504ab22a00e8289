// SPDX-License-Identifier: MIT OR Apache-2.0
//! Where blocks come from and where they go: shelves of free memory by size.
//!
//! A pool keeps what comes home until it holds more than its bound; what is above the bound goes
//! back to the allocator, and so does every block larger than [`LARGEST`]. It is a cloneable
//! value: all clones are one pool. The hot paths do not come here: a poller's read block and a
//! thread's write block are used again in place (B4).
//!
//! Sizes are powers of two from 256 B. From 64 KiB on a class has a page more than that, so that a
//! frame of a round size lies in one block together with its header.

use std::cell::RefCell;
use std::sync::LazyLock;

use crate::block::{Block, Header};
use crate::sync::{Arc, AtomicUsize, Mutex, MutexGuard, Ordering, PoisonError};

/// The smallest class.
pub(crate) const SMALLEST: usize = 256;
/// The largest class that is kept; larger memory is allocated and freed each time.
const LARGEST: usize = 8 << 20;
/// 256 B, 512 B, … 8 MiB.
const CLASSES: usize = (LARGEST / SMALLEST).trailing_zeros() as usize + 1;
/// From this size on a class has room for a header beside a round frame.
const WITH_PAGE: usize = 64 << 10;
/// What such a class has more.
const PAGE: usize = 4 << 10;
/// What a pool holds at most unless told otherwise.
const DEFAULT_BOUND: usize = 64 << 20;

/// A bounded store of free blocks. Clones share it; any thread may take and give back.
#[derive(Clone, Debug)]
pub struct Pool {
    shelves: Arc<Shelves>,
}

#[derive(Debug)]
struct Shelves {
    free: [Mutex<Vec<Home>>; CLASSES],
    /// Bytes on the shelves. May be above the bound for the blink between count and drop.
    cached: AtomicUsize,
    in_use: AtomicUsize,
    peak: AtomicUsize,
    bound: usize,
}

/// A block at home: no owners, no pool (B6).
struct Home(Box<Header>);

impl std::fmt::Debug for Home {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} B", self.0.capacity())
    }
}

/// What a pool holds and lends, in bytes of whole blocks. A block that many connections share
/// counts once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PoolStats {
    /// Lent out now.
    pub in_use: usize,
    /// On the shelves now.
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
        let shelves = Shelves {
            free: std::array::from_fn(|_| Mutex::new(Vec::new())),
            cached: AtomicUsize::new(0),
            in_use: AtomicUsize::new(0),
            peak: AtomicUsize::new(0),
            bound,
        };
        Self {
            shelves: Arc::new(shelves),
        }
    }

    /// The pool the calling thread takes from: the one it [entered](Self::enter), else one that
    /// all threads share.
    #[must_use]
    pub fn of_thread() -> Self {
        let own = OF_THREAD
            .try_with(|pool| pool.borrow().clone())
            .ok()
            .flatten();
        own.unwrap_or_else(|| SHARED.clone())
    }

    /// Makes this the pool of the calling thread from now on.
    pub fn enter(&self) {
        // A thread that is being torn down has no use for a pool.
        let _gone = OF_THREAD
            .try_with(|pool| pool.replace(Some(self.clone())))
            .ok();
    }

    /// An empty block of at least `capacity` bytes, but never above 4 GiB, where positions in a
    /// block end. Allocates if the shelf is empty.
    pub(crate) fn lend(&self, capacity: usize) -> Block {
        let capacity = capacity.min(u32::MAX as usize);
        let Some(class) = class_of(capacity) else {
            return Block::leave_home(Header::allocate(capacity), None);
        };
        let home = self.shelf(class).pop();
        let size = size_of_class(class);
        let header = match home {
            Some(Home(header)) => {
                self.shelves.cached.fetch_sub(size, Ordering::Relaxed);
                header
            }
            None => Header::allocate(size),
        };
        let in_use = self.shelves.in_use.fetch_add(size, Ordering::Relaxed) + size;
        self.shelves.peak.fetch_max(in_use, Ordering::Relaxed);
        Block::leave_home(header, Some(self.clone()))
    }

    /// What the pool holds and lends. The three are read one after the other, not at once.
    #[must_use]
    pub fn stats(&self) -> PoolStats {
        PoolStats {
            in_use: self.shelves.in_use.load(Ordering::Relaxed),
            cached: self.shelves.cached.load(Ordering::Relaxed),
            peak: self.shelves.peak.load(Ordering::Relaxed),
        }
    }

    /// Takes a block whose last owner has let go; frees it if the pool is full.
    pub(crate) fn give_back(&self, mut header: Box<Header>) {
        let size = header.capacity();
        self.shelves.in_use.fetch_sub(size, Ordering::Relaxed);
        let Some(class) = class_of(size) else { return };
        let cached = self.shelves.cached.fetch_add(size, Ordering::Relaxed) + size;
        if cached > self.shelves.bound {
            self.shelves.cached.fetch_sub(size, Ordering::Relaxed);
            return;
        }
        if cfg!(debug_assertions) {
            header.overwrite(0xDB);
        }
        self.shelf(class).push(Home(header));
    }

    fn shelf(&self, class: usize) -> MutexGuard<'_, Vec<Home>> {
        // Nothing in here panics half-way, so a poisoned shelf is a whole one.
        self.shelves.free[class]
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// The smallest class with room for `capacity`, `None` above the largest.
fn class_of(capacity: usize) -> Option<usize> {
    let bare = if capacity > WITH_PAGE {
        capacity.saturating_sub(PAGE)
    } else {
        capacity
    };
    if bare > LARGEST {
        return None;
    }
    let size = bare.max(SMALLEST).next_power_of_two();
    Some((size / SMALLEST).trailing_zeros() as usize)
}

fn size_of_class(class: usize) -> usize {
    let size = SMALLEST << class;
    if size >= WITH_PAGE { size + PAGE } else { size }
}

thread_local! {
    static OF_THREAD: RefCell<Option<Pool>> = const { RefCell::new(None) };
}

/// The pool of every thread that has not entered another.
static SHARED: LazyLock<Pool> = LazyLock::new(Pool::default);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tail::Tail;

    #[test]
    fn a_class_holds_what_was_asked_for() {
        for capacity in [
            0,
            1,
            255,
            256,
            257,
            4096,
            65_535,
            65_536,
            65_540,
            69_632,
            69_633,
            1 << 20,
        ] {
            let class = class_of(capacity).unwrap();
            assert!(size_of_class(class) >= capacity, "{capacity}");
            let below = class.checked_sub(1).map_or(0, size_of_class);
            assert!(
                below < capacity.max(1),
                "{capacity} would fit in the class below"
            );
        }
        assert_eq!(class_of(usize::MAX), None);
        assert_eq!(class_of(LARGEST + PAGE), Some(CLASSES - 1));
        assert_eq!(class_of(LARGEST + PAGE + 1), None);
    }

    #[test]
    fn a_round_frame_and_its_header_fit_one_block() {
        assert_eq!(
            size_of_class(class_of((64 << 10) + 4).unwrap()),
            (64 << 10) + PAGE
        );
        assert_eq!(
            size_of_class(class_of((1 << 20) + 4).unwrap()),
            (1 << 20) + PAGE
        );
    }

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
    fn memory_above_the_largest_class_is_never_kept() {
        let pool = Pool::default();
        drop(pool.take(LARGEST * 2));
        assert_eq!(pool.stats(), PoolStats::default());
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
