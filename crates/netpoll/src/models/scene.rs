// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the models are made of: a connection and its peer, a poller, and who is told of the end.

use std::future::Future;
use std::io::ErrorKind;
use std::os::fd::{AsFd, OwnedFd};
use std::pin::Pin;
use std::task::{Context, Wake, Waker};

use bytes::Bytes;
use netpoll_buffer::Pool;
use netpoll_sys::{socket, transfer};

use crate::addr::Addr;
use crate::budget::Budget;
use crate::connection::Connection;
use crate::connection::burst::{Finished, Stage, Verdict};
use crate::connection::calling::{Calls, Observer, Script};
use crate::connection::errand::{Away, Task};
use crate::connection::link::Link;
use crate::connection::service::Terms;
use crate::connection::session::Session;
use crate::error::CloseReason;
use crate::options::ConnOptions;
use crate::poll::bell::Bell;
use crate::poll::mailbox::Mailbox;
use crate::poll::set::PollerHandle;
use crate::poll::source::{Birth, Place};
use crate::poll::stepped::Stepped;
use crate::poll::token::Token;
use crate::sync::{Arc, AtomicUsize, Mutex, Ordering, lock, thread};

/// A task of an errand, which some thread of the model polls.
type Work = Pin<Box<dyn Future<Output = ()> + Send>>;

/// A connection that has no session yet.
pub(super) struct Scene {
    pub(super) handle: PollerHandle,
    pub(super) link: Arc<Link>,
    /// The other end.
    pub(super) peer: OwnedFd,
    pub(super) told: Arc<Told>,
    pub(super) tasks: Arc<Tasks>,
}

/// What the observer was told.
#[derive(Default)]
pub(super) struct Told {
    reasons: Mutex<Vec<CloseReason>>,
}

/// Tasks that nobody polls yet.
#[derive(Default)]
pub(super) struct Tasks {
    queue: Mutex<Vec<Work>>,
}

/// Counts wakes.
pub(super) struct Wakes(AtomicUsize);

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

impl Scene {
    /// A connection with `options`, of a poller that no thread is yet.
    pub(super) fn new(options: ConnOptions) -> Self {
        own_pool();
        let (fd, peer) = socket::pair().expect("two sockets");
        let handle = PollerHandle::new(Mailbox::new(Arc::default()).expect("a poller"));
        // The first source that a poller registers has this token.
        let bell = Bell::new(Arc::clone(handle.mailbox()), Token::source(0, 0));
        let link = Link::new(fd, Addr::Unnamed, bell, Arc::new(options), None);
        Self {
            handle,
            link: Arc::new(link),
            peer,
            told: Arc::default(),
            tasks: Arc::default(),
        }
    }

    /// Makes the calling thread the poller, with a session that has its handler called elsewhere:
    /// by whoever takes its tasks. The handler takes one byte a call.
    pub(super) fn served_elsewhere(&self) -> Stepped {
        let (tasks, link) = (Arc::clone(&self.tasks), Arc::clone(&self.link));
        let (told, caller) = (self.told.observer(), Arc::clone(&self.link));
        let launch = move |task: Task, connection: Connection, _stage: Stage| {
            let work: Work = Box::pin(task.carry(byte_by_byte(connection)));
            lock(&tasks.queue).push(work);
        };
        self.poller(Box::new(move |_place: Place| {
            let script = Script::new(
                Away {
                    link: caller,
                    launch,
                },
                Calls::PerRequest,
                Stage::Request,
                Some(terms(told)),
            );
            Box::new(Session::new(link, script, None))
        }))
    }

    /// Makes the calling thread the poller, with a session whose connection somebody owns.
    pub(super) fn owned(&self) -> Stepped {
        let link = Arc::clone(&self.link);
        let told = self.told.observer();
        let caller = Arc::clone(&self.link);
        self.poller(Box::new(move |_place: Place| {
            let script = Script::new(
                Away {
                    link: caller,
                    launch: |_: Task, _: Connection, _: Stage| {},
                },
                Calls::Never,
                Stage::Request,
                Some(terms(told)),
            );
            Box::new(Session::owned(link, script))
        }))
    }

    fn poller(&self, birth: Birth) -> Stepped {
        own_pool();
        let mut poller = Stepped::new(&self.handle, &Budget::of(Pool::of_thread(), usize::MAX));
        poller.register(birth);
        poller
    }
}

/// What is agreed with `observer`, and nothing else.
fn terms(observer: Observer) -> Arc<Terms> {
    let census = Arc::default();
    Arc::new(Terms::new(ConnOptions::default(), &census, Some(observer)))
}

impl Told {
    fn observer(self: &Arc<Self>) -> Observer {
        let told = Arc::clone(self);
        Arc::new(move |_connection, reason| lock(&told.reasons).push(reason.clone()))
    }

    pub(super) fn is_told(&self) -> bool {
        !lock(&self.reasons).is_empty()
    }

    /// The one reason that was told.
    #[track_caller]
    pub(super) fn only(&self) -> CloseReason {
        let reasons = lock(&self.reasons);
        assert_eq!(reasons.len(), 1, "told once");
        reasons[0].clone()
    }
}

impl Tasks {
    /// Polls what there is, again and again when it is woken, until the end was told.
    pub(super) fn carry_out(&self, told: &Told) {
        let wakes = Arc::new(Wakes(AtomicUsize::new(0)));
        let waker = Waker::from(Arc::clone(&wakes));
        let mut mine: Vec<Work> = Vec::new();
        while !told.is_told() {
            let new = std::mem::take(&mut *lock(&self.queue));
            let is_new = !new.is_empty();
            mine.extend(new);
            if is_new || wakes.0.swap(0, Ordering::SeqCst) > 0 {
                let mut context = Context::from_waker(&waker);
                mine.retain_mut(|work| work.as_mut().poll(&mut context).is_pending());
            } else {
                thread::yield_now();
            }
        }
    }
}

/// A burst of calls that take one byte each.
async fn byte_by_byte(mut connection: Connection) -> Finished {
    let more = connection.reader().available() > 1;
    let verdict = match connection.reader().skip(1).await {
        Ok(()) => {
            // Foreign memory: a thread's own write block would end in an order of the checker's.
            connection.writer().push(Bytes::from_static(b"."));
            if more {
                Verdict::Yielded
            } else {
                Verdict::Spent
            }
        }
        Err(error) => Verdict::Failed(error.into()),
    };
    Finished {
        connection: Some(connection),
        verdict,
        requests: 1,
    }
}

/// Gives a thread of a model a pool of its own, for none of one interleaving to reach the next.
pub(super) fn own_pool() {
    Pool::with_bound(0).enter();
}

/// Polls `future` to its end, again only when it was woken.
pub(super) fn block_on<F: Future>(future: F) -> F::Output {
    let mut future = std::pin::pin!(future);
    let wakes = Arc::new(Wakes(AtomicUsize::new(1)));
    let waker = Waker::from(Arc::clone(&wakes));
    loop {
        if wakes.0.swap(0, Ordering::SeqCst) == 0 {
            thread::yield_now();
        } else if let std::task::Poll::Ready(output) =
            future.as_mut().poll(&mut Context::from_waker(&waker))
        {
            return output;
        }
    }
}

/// All that comes to `peer`, up to the end.
pub(super) fn receive_all(peer: &OwnedFd) -> Vec<u8> {
    let mut received = Vec::new();
    let mut room = [0; 64];
    loop {
        match transfer::receive(peer.as_fd(), &mut room) {
            Ok(0) => return received,
            Ok(count) => received.extend_from_slice(&room[..count]),
            Err(error) if error.kind() == ErrorKind::WouldBlock => thread::yield_now(),
            // It was never let in.
            Err(_) => return received,
        }
    }
}
