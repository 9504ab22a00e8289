// SPDX-License-Identifier: MIT OR Apache-2.0
//! An executor of some threads, for handlers that block or compute.
//!
//! All threads take from one queue, so a thread that is held up holds up nobody as long as another
//! is free. What is in the queue is work that has not begun, or that may go on anywhere. Work whose
//! future stays on one thread is made by whichever thread takes it, and from then on waits in that
//! thread's own queue.
//!
//! ```text
//!   make, spawn ──▶ queue ──▶ thread 0 ◀── woken: futures that were made there
//!                       └───▶ thread 1 ◀── woken
//! ```
//!
//! All queues and who sleeps are behind one lock, held to push or to pop. A thread is woken for a
//! piece of work only if it sleeps.

mod task;

use std::collections::VecDeque;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::time::{Duration, Instant};

use netpoll_buffer::Pool;
use slab::Slab;

use super::Spawn;
use crate::around::{Around, within};
use crate::guard::guard;
use crate::per_thread::PerThread;
use crate::sync::{Arc, Condvar, Mutex, lock, wait, wait_timeout};
use task::{Home, Task};

/// A future that stays on its thread.
pub(crate) type LocalFuture = Pin<Box<dyn Future<Output = ()>>>;

/// Makes a future on the thread that will poll it.
pub(crate) type Make = Box<dyn FnOnce(&PerThread) -> LocalFuture + Send>;

/// Some threads that poll futures.
pub(crate) struct Threads {
    work: Arc<Work>,
}

/// What the threads take from.
struct Work {
    queues: Mutex<Queues>,
    /// One for each thread.
    bells: Vec<Condvar>,
    /// The last thread has ended.
    ended: Condvar,
}

struct Queues {
    jobs: VecDeque<Job>,
    /// Woken futures of each thread.
    woken: Vec<VecDeque<Arc<Task>>>,
    /// Threads that sleep.
    asleep: Vec<usize>,
    stopped: bool,
    alive: usize,
}

/// Work for any thread.
enum Job {
    Make(Make),
    Poll(Arc<Task>),
}

/// What a thread does next.
enum Next {
    Job(Job),
    /// One of its own futures.
    Own(Arc<Task>),
    Stop,
}

impl Threads {
    /// So many threads, which do not run yet.
    pub(crate) fn new(count: usize) -> Self {
        let queues = Queues {
            jobs: VecDeque::new(),
            woken: (0..count).map(|_| VecDeque::new()).collect(),
            asleep: Vec::new(),
            stopped: false,
            alive: 0,
        };
        let work = Work {
            queues: Mutex::new(queues),
            bells: (0..count).map(|_| Condvar::new()).collect(),
            ended: Condvar::new(),
        };
        Self {
            work: Arc::new(work),
        }
    }

    /// Starts them, with their memory from `pool`, each inside of what is `around`.
    pub(crate) fn start(&self, pool: &Pool, around: Option<&Around>) -> io::Result<()> {
        for index in 0..self.work.bells.len() {
            let (work, around) = (Arc::clone(&self.work), around.cloned());
            let pool = pool.clone();
            lock(&self.work.queues).alive += 1;
            let started = std::thread::Builder::new()
                .name(format!("netpoll-run-{index}"))
                .spawn(move || {
                    within(around.as_ref(), || {
                        pool.enter();
                        live(&work, index);
                    })
                });
            if let Err(error) = started {
                lock(&self.work.queues).alive -= 1;
                self.stop(Duration::ZERO);
                return Err(error);
            }
        }
        Ok(())
    }

    /// Has a thread make a future and poll it to its end.
    pub(crate) fn make(&self, make: Make) {
        self.work.push(Job::Make(make));
    }

    /// Stops the threads and drops what they have. A thread that is held up by a handler is waited
    /// for as long as `patience`, and then left to itself. Says how many those are.
    pub(crate) fn stop(&self, patience: Duration) -> usize {
        let mut queues = lock(&self.work.queues);
        queues.stopped = true;
        let jobs = std::mem::take(&mut queues.jobs);
        drop(queues);
        // Their futures are user code.
        jobs.into_iter().for_each(discard);
        self.work.bells.iter().for_each(Condvar::notify_all);
        let deadline = Instant::now() + patience;
        let mut queues = lock(&self.work.queues);
        while queues.alive > 0 {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            queues = wait_timeout(&self.work.ended, queues, left).0;
        }
        queues.alive
    }
}

impl Spawn for Threads {
    fn spawn(&self, task: Pin<Box<dyn Future<Output = ()> + Send>>) {
        let task = Task::anywhere(task, &self.work);
        self.work.push(Job::Poll(task));
    }
}

impl Work {
    /// Has any thread do `job`. After the stop it is dropped.
    fn push(&self, job: Job) {
        let mut queues = lock(&self.queues);
        if queues.stopped {
            drop(queues);
            return discard(job);
        }
        queues.jobs.push_back(job);
        let sleeper = queues.asleep.pop();
        drop(queues);
        if let Some(index) = sleeper {
            self.bells[index].notify_one();
        }
    }

    /// Has a thread poll one of its own futures.
    fn push_own(&self, task: Arc<Task>, index: usize) {
        let mut queues = lock(&self.queues);
        queues.woken[index].push_back(task);
        let asleep = queues.asleep.iter().position(|&sleeper| sleeper == index);
        if let Some(place) = asleep {
            queues.asleep.swap_remove(place);
        }
        drop(queues);
        if asleep.is_some() {
            self.bells[index].notify_one();
        }
    }

    /// Waits for what the thread at `index` is to do next. Its own futures and those of all take
    /// turns, for neither to wait for the other's end.
    fn next(&self, index: usize, own_first: bool) -> Next {
        let mut queues = lock(&self.queues);
        loop {
            if queues.stopped {
                return Next::Stop;
            }
            let own = |queues: &mut Queues| queues.woken[index].pop_front().map(Next::Own);
            let job = |queues: &mut Queues| queues.jobs.pop_front().map(Next::Job);
            let next = if own_first {
                own(&mut queues).or_else(|| job(&mut queues))
            } else {
                job(&mut queues).or_else(|| own(&mut queues))
            };
            if let Some(next) = next {
                return next;
            }
            if !queues.asleep.contains(&index) {
                queues.asleep.push(index);
            }
            queues = wait(&self.bells[index], queues);
        }
    }
}

/// The life of a thread.
fn live(work: &Arc<Work>, index: usize) {
    let things = PerThread::default();
    let mut futures: Slab<LocalFuture> = Slab::new();
    let mut own_first = true;
    loop {
        match work.next(index, own_first) {
            Next::Stop => break,
            Next::Job(Job::Poll(task)) => task.poll(),
            Next::Job(Job::Make(make)) => {
                // What makes a future may be user code, too: a handler for each thread is.
                if let Ok(future) = guard(|| make(&things)) {
                    let key = futures.insert(future);
                    let task = Task::at_home(Home { index, key }, work);
                    poll_own(&task, &mut futures);
                }
            }
            Next::Own(task) => poll_own(&task, &mut futures),
        }
        own_first = !own_first;
    }
    for future in futures.drain() {
        discard(future);
    }
    discard(things);
    let mut queues = lock(&work.queues);
    queues.alive -= 1;
    if queues.alive == 0 {
        drop(queues);
        work.ended.notify_all();
    }
}

/// Polls one of this thread's futures, and drops it if it is done.
fn poll_own(task: &Arc<Task>, futures: &mut Slab<LocalFuture>) {
    let Some(key) = task.key() else {
        return;
    };
    // A wake that came late finds nothing, or another's future, which it does no harm to poll.
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

/// Drops what holds user code.
fn discard<T>(thing: T) {
    let _panicked = guard(|| drop(thing)).is_err();
}
