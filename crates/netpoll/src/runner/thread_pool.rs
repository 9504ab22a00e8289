// SPDX-License-Identifier: MIT OR Apache-2.0
//! A thread pool executor, for handlers that block or compute.
//!
//! All threads take jobs from one queue, so a blocked thread delays no other job while another
//! thread is free. Jobs in that queue have not started, or may continue on any thread. A future
//! that stays on one thread is created by the thread that takes its job; from then on its wakeups
//! go to that thread's own queue.
//!
//! ```text
//!   spawn ──▶ queue ──▶ thread 0 ◀── wakeups of futures created there
//!                 └───▶ thread 1 ◀── wakeups
//! ```
//!
//! One lock protects all queues and the list of idle threads; it is held to push or to pop. A push
//! notifies a thread only if that thread sleeps.
//!
//! Our own, because executors either move futures between threads or stay on one thread, and this
//! one does both over one queue of jobs.

mod task;

use std::collections::VecDeque;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::time::{Duration, Instant};

use netpoll_buffer::Pool;
use slab::Slab;

use super::Spawn;
use crate::guard::guard;
use crate::per_thread::PerThread;
use crate::sync::{Arc, Condvar, Mutex, lock, wait, wait_timeout};
use crate::thread_hook::{ThreadHook, run_in_hook};
use task::{LocalSlot, PoolTask};

/// A future that stays on its thread.
pub(crate) type LocalFuture = Pin<Box<dyn Future<Output = ()>>>;

/// Makes a future on the thread that will poll it.
pub(crate) type FutureFactory = Box<dyn FnOnce(&PerThread) -> LocalFuture + Send>;

/// A fixed number of threads that poll futures.
pub(crate) struct ThreadPool {
    shared: Arc<ThreadPoolShared>,
}

/// The state that the threads share.
struct ThreadPoolShared {
    queues: Mutex<WorkQueues>,
    /// Wakes a thread; one for each.
    ready: Vec<Condvar>,
    /// Notified when the last thread has ended.
    all_stopped: Condvar,
}

struct WorkQueues {
    jobs: VecDeque<PoolJob>,
    /// Woken local futures of each thread.
    local: Vec<VecDeque<Arc<PoolTask>>>,
    /// Threads that sleep.
    idle_threads: Vec<usize>,
    stopped: bool,
    running_threads: usize,
}

/// A job for any thread.
enum PoolJob {
    Start(FutureFactory),
    Poll(Arc<PoolTask>),
}

/// The next action of a thread.
enum NextWork {
    Shared(PoolJob),
    /// A woken local future.
    Local(Arc<PoolTask>),
    Stop,
}

impl ThreadPool {
    /// Creates a pool of `count` threads, which are not started yet.
    pub(crate) fn new(count: usize) -> Self {
        let queues = WorkQueues {
            jobs: VecDeque::new(),
            local: (0..count).map(|_| VecDeque::new()).collect(),
            idle_threads: Vec::new(),
            stopped: false,
            running_threads: 0,
        };
        let shared = ThreadPoolShared {
            queues: Mutex::new(queues),
            ready: (0..count).map(|_| Condvar::new()).collect(),
            all_stopped: Condvar::new(),
        };
        Self {
            shared: Arc::new(shared),
        }
    }

    /// Starts the threads inside `hook`; they allocate from `pool`.
    pub(crate) fn start(&self, pool: &Pool, hook: Option<&ThreadHook>) -> io::Result<()> {
        for index in 0..self.shared.ready.len() {
            let (shared, hook) = (Arc::clone(&self.shared), hook.cloned());
            let pool = pool.clone();
            lock(&self.shared.queues).running_threads += 1;
            let started = std::thread::Builder::new()
                .name(format!("netpoll-run-{index}"))
                .spawn(move || {
                    run_in_hook(hook.as_ref(), || {
                        pool.enter();
                        run_worker(&shared, index);
                    })
                });
            if let Err(error) = started {
                lock(&self.shared.queues).running_threads -= 1;
                self.stop(Duration::ZERO);
                return Err(error);
            }
        }
        Ok(())
    }

    /// Creates a future on one of the threads, which polls it to completion.
    pub(crate) fn spawn_pinned(&self, factory: FutureFactory) {
        self.shared.push(PoolJob::Start(factory));
    }

    /// Stops the threads and drops their jobs. Waits at most `timeout` for threads that a handler
    /// blocks, then abandons them, and returns their number.
    pub(crate) fn stop(&self, timeout: Duration) -> usize {
        let mut queues = lock(&self.shared.queues);
        queues.stopped = true;
        let jobs = std::mem::take(&mut queues.jobs);
        drop(queues);
        // Dropping their futures runs user code.
        jobs.into_iter().for_each(discard);
        self.shared.ready.iter().for_each(Condvar::notify_all);
        let deadline = Instant::now() + timeout;
        let mut queues = lock(&self.shared.queues);
        while queues.running_threads > 0 {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            queues = wait_timeout(&self.shared.all_stopped, queues, left).0;
        }
        queues.running_threads
    }
}

impl Spawn for ThreadPool {
    fn spawn(&self, task: Pin<Box<dyn Future<Output = ()> + Send>>) {
        let task = PoolTask::new_send(task, &self.shared);
        self.shared.push(PoolJob::Poll(task));
    }
}

impl ThreadPoolShared {
    /// Queues `job` for any thread. A stopped pool drops it.
    fn push(&self, job: PoolJob) {
        let mut queues = lock(&self.queues);
        if queues.stopped {
            drop(queues);
            return discard(job);
        }
        queues.jobs.push_back(job);
        let sleeper = queues.idle_threads.pop();
        drop(queues);
        if let Some(index) = sleeper {
            self.ready[index].notify_one();
        }
    }

    /// Queues the poll of a local future of the thread at `index`.
    fn push_local(&self, task: Arc<PoolTask>, index: usize) {
        let mut queues = lock(&self.queues);
        queues.local[index].push_back(task);
        let asleep = queues
            .idle_threads
            .iter()
            .position(|&sleeper| sleeper == index);
        if let Some(position) = asleep {
            queues.idle_threads.swap_remove(position);
        }
        drop(queues);
        if asleep.is_some() {
            self.ready[index].notify_one();
        }
    }

    /// Waits for the next action of the thread at `index`. Local futures and shared jobs alternate,
    /// so that neither starves the other.
    fn next_work(&self, index: usize, local_first: bool) -> NextWork {
        let mut queues = lock(&self.queues);
        loop {
            if queues.stopped {
                return NextWork::Stop;
            }
            let local =
                |queues: &mut WorkQueues| queues.local[index].pop_front().map(NextWork::Local);
            let job = |queues: &mut WorkQueues| queues.jobs.pop_front().map(NextWork::Shared);
            let next = if local_first {
                local(&mut queues).or_else(|| job(&mut queues))
            } else {
                job(&mut queues).or_else(|| local(&mut queues))
            };
            if let Some(next) = next {
                return next;
            }
            if !queues.idle_threads.contains(&index) {
                queues.idle_threads.push(index);
            }
            queues = wait(&self.ready[index], queues);
        }
    }
}

/// The main function of a thread.
fn run_worker(shared: &Arc<ThreadPoolShared>, index: usize) {
    let things = PerThread::default();
    let mut futures: Slab<LocalFuture> = Slab::new();
    let mut local_first = true;
    loop {
        match shared.next_work(index, local_first) {
            NextWork::Stop => break,
            NextWork::Shared(PoolJob::Poll(task)) => task.poll(),
            NextWork::Shared(PoolJob::Start(make)) => {
                // The factory may run user code: the factory of a per-thread handler does.
                if let Ok(future) = guard(|| make(&things)) {
                    let key = futures.insert(future);
                    let task = PoolTask::new_local(LocalSlot { thread: index, key }, shared);
                    poll_local(&task, &mut futures);
                }
            }
            NextWork::Local(task) => poll_local(&task, &mut futures),
        }
        local_first = !local_first;
    }
    for future in futures.drain() {
        discard(future);
    }
    discard(things);
    let mut queues = lock(&shared.queues);
    queues.running_threads -= 1;
    if queues.running_threads == 0 {
        drop(queues);
        shared.all_stopped.notify_all();
    }
}

/// Polls a local future of this thread, and drops it if it is complete.
fn poll_local(task: &Arc<PoolTask>, futures: &mut Slab<LocalFuture>) {
    let Some(key) = task.key() else {
        return;
    };
    // A late wake finds no future, or a later one in the same slot, where an extra poll is
    // harmless.
    let Some(future) = futures.get_mut(key) else {
        return;
    };
    if task
        .poll_with(|context| future.as_mut().poll(context))
        .is_ready()
    {
        discard(futures.remove(key));
    }
}

/// Drops a value that holds user code.
fn discard<T>(thing: T) {
    let _panicked = guard(|| drop(thing)).is_err();
}
