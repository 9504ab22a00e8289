// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a poller does each time a source has run: it sends what the source wants to send, watches
//! what it wants to hear of, takes over its deadline, and puts it back into its slot or lets it go.

use std::io;

use netpoll_sys::Interest;

use super::Poller;
use super::bell;
use super::registry::Run;
use super::source::{End, Next, Source};
use super::token::Token;
use crate::guard::guard;
use crate::moment::Moment;

/// Whether a source stays with its poller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stays {
    Yes,
    No,
}

impl Poller {
    /// After a source has run: sends, watches, and puts it back or lets it go.
    pub(super) fn conclude(&mut self, mut run: Run, next: Next) {
        let stays = match next {
            Next::AsBefore => Stays::Yes,
            next => self.see_to(&mut run, next),
        };
        bell::set_running(None);
        match stays {
            Stays::Yes => self.registry.put_back(run),
            Stays::No => self.remove(run),
        }
    }

    /// Sends what the source gives, and has the driver and the timers do what it wants then. Says
    /// whether it stays.
    #[inline]
    fn see_to(&mut self, run: &mut Run, next: Next) -> Stays {
        let mut next = self.send_for(run, next);
        if let Next::Become(successor) = next {
            next = self.succeed(run, successor);
        }
        let interest = match next {
            Next::Gone => return Stays::No,
            Next::Unwatched => None,
            Next::Again(interest) => {
                self.call_again(run.token);
                Some(interest)
            }
            Next::Wait(interest) => Some(interest),
            Next::Rest => Some(Interest::READABLE),
            Next::Become(_) | Next::AsBefore => None,
        };
        if let Err(error) = self.watch(run, interest) {
            // The kernel has no room for the registration. No event will ever come, so this is
            // the end of the input, and nothing is sent any more.
            bell::set_running(None);
            match run.source.ended(End::Broken(error), &mut self.turn) {
                Next::Gone => return Stays::No,
                Next::Again(_) => self.call_again(run.token),
                Next::Wait(_) | Next::Rest | Next::AsBefore | Next::Unwatched | Next::Become(_) => {
                }
            }
        }
        self.set_deadline(run.token);
        Stays::Yes
    }

    /// Puts `successor` in the place of the source that ran, and whoever it makes way for at once.
    #[cold]
    fn succeed(&mut self, run: &mut Run, successor: Box<dyn Source>) -> Next {
        let mut next = Next::Become(successor);
        while let Next::Become(successor) = next {
            discard(std::mem::replace(&mut run.source, successor));
            run.watch.succeed(run.source.as_ref());
            next = run.source.born(&mut self.turn);
            if let Some(ask) = self.asked {
                // The one before may have had nothing to do with it.
                next = run.source.asked(ask, &mut self.turn);
            }
            next = self.send_for(run, next);
        }
        next
    }

    /// Makes the driver watch what the source wants, and writing while its output is blocked.
    #[inline]
    fn watch(&mut self, run: &mut Run, interest: Option<Interest>) -> io::Result<()> {
        let mut wanted = interest.map(|interest| interest.and(run.watch.beside));
        if !self.useless.is_empty() && self.useless.is_off(run.token) {
            wanted = None;
        }
        if wanted == run.watch.interest {
            return Ok(());
        }
        let Some(fd) = run.source.fd() else {
            return Ok(());
        };
        let before = std::mem::replace(&mut run.watch.interest, wanted);
        let watched = self.driver.watch(fd, run.token, before, wanted);
        if watched.is_err() {
            run.watch.interest = None;
        }
        watched
    }

    pub(super) fn remove(&mut self, mut run: Run) {
        let (token, watch) = (run.token, run.watch);
        let source = run.take_source();
        // Where the descriptor has a duplicate, the kernel goes on watching: it would tell of what is
        // there without end, and of an arrival once.
        if let Some(watched) = watch.interest
            && let Some(fd) = source.fd()
            && !(watched.is_of_arrivals() && source.is_silent())
        {
            // A descriptor that the kernel has already forgotten needs no deleting.
            let _deleted = self.driver.watch(fd, token, Some(watched), None).ok();
        }
        if let Some(entry) = self.registry.get_mut(token)
            && let Some(key) = entry.look.take()
        {
            self.timers.cancel(key);
        }
        self.registry.remove(token);
        if !self.useless.is_empty() {
            self.useless.forget(token);
        }
        self.turn.deadline = None;
        discard(source);
    }

    /// Takes over the deadline that the source which ran has left in the turn.
    #[inline]
    fn set_deadline(&mut self, token: Token) {
        let Some(deadline) = self.turn.deadline.take() else {
            return;
        };
        let Some(entry) = self.registry.get_mut(token) else {
            return;
        };
        entry.deadline = deadline;
        if let Some(when) = deadline.map(Moment::of) {
            match entry.look {
                Some(look) if self.timers.comes_by(look, when) => {}
                look => {
                    look.into_iter().for_each(|key| self.timers.cancel(key));
                    entry.look = Some(self.timers.set(token, when));
                }
            }
        }
    }
}

/// Drops a source: it may hold a handler's future and state, which are user code.
fn discard(source: Box<dyn Source>) {
    let _panicked = guard(|| drop(source)).is_err();
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::poll::source::{Ask, Outgoing, Turn};
    use netpoll_sys::{Readiness, socket};
    use std::cell::RefCell;
    use std::fs::File;
    use std::io::{Read, Write};
    use std::net::Shutdown;
    use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
    use std::os::unix::net::UnixStream;
    use std::rc::Rc;
    use std::time::Duration;

    const LIMIT: Duration = Duration::from_secs(10);

    /// What a source sends, and what it was told.
    #[derive(Default)]
    struct Script {
        output: Outgoing,
        told: Vec<String>,
        /// What it answers when the bell has rung, and when its input has ended; else it waits.
        woken: Option<Next>,
        ended: Option<Next>,
    }

    /// What a source is told of.
    #[derive(Clone, Copy, PartialEq, Eq)]
    enum Hears {
        Levels,
        Arrivals,
        /// Arrivals, of which it says that there will be none.
        Nothing,
    }

    struct Scripted {
        fd: OwnedFd,
        hears: Hears,
        script: Rc<RefCell<Script>>,
    }

    impl Scripted {
        fn hears(&self, what: impl Into<String>) -> Next {
            self.script.borrow_mut().told.push(what.into());
            Next::Wait(Interest::READABLE)
        }
    }

    impl Source for Scripted {
        fn fd(&self) -> Option<BorrowedFd<'_>> {
            Some(self.fd.as_fd())
        }

        fn short_read_empties(&self) -> bool {
            self.hears != Hears::Levels
        }

        fn is_silent(&self) -> bool {
            self.hears == Hears::Nothing
        }

        fn born(&mut self, _turn: &mut Turn) -> Next {
            Next::Wait(Interest::READABLE)
        }

        fn ended(&mut self, _end: End, _turn: &mut Turn) -> Next {
            let wait = self.hears("ended");
            self.script.borrow_mut().ended.take().unwrap_or(wait)
        }

        fn outgoing(&mut self) -> Option<Outgoing> {
            let output = std::mem::take(&mut self.script.borrow_mut().output);
            (!output.is_empty()).then_some(output)
        }

        fn sent(&mut self, rest: Outgoing, result: io::Result<usize>, _turn: &mut Turn) -> Next {
            let news = match (&result, rest.is_empty()) {
                (Err(_), _) => "failed",
                (Ok(_), true) => "sent",
                (Ok(_), false) => "blocked",
            };
            if result.is_ok() {
                self.script.borrow_mut().output.prepend(rest);
            }
            self.hears(news)
        }

        fn ready(&mut self, _readiness: Readiness, _turn: &mut Turn) -> Next {
            self.hears("ready")
        }

        fn woken(&mut self, _turn: &mut Turn) -> Next {
            let next = self.script.borrow_mut().woken.take();
            next.unwrap_or(Next::Wait(Interest::READABLE))
        }

        fn again(&mut self, _turn: &mut Turn) -> Next {
            self.hears("again")
        }

        fn asked(&mut self, _ask: Ask, _turn: &mut Turn) -> Next {
            Next::Gone
        }
    }

    impl Drop for Scripted {
        fn drop(&mut self) {
            self.hears("dropped");
        }
    }

    /// A poller that the test turns, its one source, and what that does and hears.
    struct Scene {
        poller: Poller,
        token: Token,
        script: Rc<RefCell<Script>>,
    }

    impl Scene {
        fn new(fd: impl Into<OwnedFd>) -> Self {
            Self::of(fd.into(), Hears::Levels)
        }

        fn of(fd: OwnedFd, hears: Hears) -> Self {
            let mut poller = Poller::by_hand();
            let script = Rc::<RefCell<Script>>::default();
            let token = poller.take_in(Scripted {
                fd,
                hears,
                script: Rc::clone(&script),
            });
            Self {
                poller,
                token,
                script,
            }
        }

        /// Told as `hears` says, with its peer and a duplicate of its descriptor.
        fn with_duplicate(hears: Hears) -> (Self, UnixStream, OwnedFd) {
            let (ours, theirs) = socket::pair().unwrap();
            let kept = ours.try_clone().unwrap();
            (Self::of(ours, hears), UnixStream::from(theirs), kept)
        }

        /// The source goes.
        fn end(&mut self) {
            self.script.borrow_mut().woken = Some(Next::Gone);
            self.wake();
        }

        /// With a peer that reads what there is, and does not wait.
        fn with_peer() -> (Self, UnixStream) {
            let (ours, theirs) = socket::pair().unwrap();
            (Self::new(ours), UnixStream::from(theirs))
        }

        /// Puts `bytes` to be sent, and has the source run.
        fn send(&mut self, bytes: usize) {
            self.script.borrow_mut().output.put_slice(&vec![1; bytes]);
            self.wake();
        }

        fn wake(&mut self) {
            self.poller
                .call(self.token, |source, turn| source.woken(turn));
        }

        fn turn(&mut self) {
            self.poller.turn_by_hand();
        }

        /// Whether the kernel has something to tell.
        fn is_told(&mut self) -> bool {
            self.poller.driver.wait(Some(Duration::ZERO)).unwrap() > 0
        }

        /// What the source has been told since this was asked last.
        fn told(&self) -> Vec<String> {
            std::mem::take(&mut self.script.borrow_mut().told)
        }

        /// What is watched, and whether the last send was short.
        fn watch(&mut self) -> (Option<Interest>, bool) {
            let watch = self.poller.watch_of(self.token);
            (watch.interest, watch.is_blocked())
        }
    }

    /// As much as the socket has for `peer`.
    fn read_all(peer: &mut UnixStream) -> usize {
        let (mut all, mut bytes) = (0, vec![0; 1 << 20]);
        while let Ok(count @ 1..) = peer.read(&mut bytes) {
            all += count;
        }
        all
    }

    #[test]
    fn what_blocked_is_sent_for_again_when_its_descriptor_is_writable_and_not_before() {
        const BOTH: Interest = Interest::READABLE.and(Interest::WRITABLE);
        let (mut scene, mut peer) = Scene::with_peer();
        assert_eq!(scene.watch(), (Some(Interest::READABLE), false));
        scene.send(8 << 20);
        assert_eq!(scene.told(), ["blocked"]);
        assert_eq!(scene.watch(), (Some(BOTH), true));
        for _ in 0..3 {
            scene.send(1);
            assert_eq!(scene.told(), [""; 0], "it is not asked");
            assert_eq!(scene.watch(), (Some(BOTH), true));
        }
        peer.write_all(b"x").unwrap();
        scene.turn();
        assert_eq!(scene.told(), ["ready"], "to be read, and no more than that");
        assert_eq!(scene.watch(), (Some(BOTH), true));

        let mut received = 0;
        for _ in 0..10_000 {
            if !scene.watch().1 {
                break;
            }
            received += read_all(&mut peer);
            scene.turn();
        }
        received += read_all(&mut peer);
        assert_eq!(received, (8 << 20) + 3);
        assert_eq!(scene.watch(), (Some(Interest::READABLE), false));
        assert_eq!(scene.told().last().map(String::as_str), Some("sent"));
    }

    #[test]
    fn what_blocked_is_sent_for_when_the_peer_is_gone_and_learns_that() {
        let (mut scene, peer) = Scene::with_peer();
        scene.send(8 << 20);
        assert_eq!(scene.told(), ["blocked"]);
        // Not writable: what was sent still lies there.
        peer.shutdown(Shutdown::Both).unwrap();
        scene.turn();
        assert_eq!(scene.told(), ["ready", "failed"]);
    }

    #[test]
    fn what_cannot_be_watched_has_ended_and_is_not_taken_for_watched() {
        // The kernel has no readiness of it.
        let mut scene = Scene::new(File::open("/dev/null").unwrap());
        assert_eq!(scene.told(), ["ended"]);
        assert_eq!(scene.watch(), (None, false));
        scene.wake();
        assert_eq!(scene.told(), ["ended"], "it is tried again");
        scene.script.borrow_mut().ended = Some(Next::Again(Interest::READABLE));
        scene.wake();
        scene.poller.work(0);
        assert_eq!(scene.told(), ["ended", "again", "ended"]);
        scene.script.borrow_mut().ended = Some(Next::Gone);
        scene.wake();
        assert_eq!(scene.told(), ["ended", "dropped"]);
        assert!(scene.poller.registry.tokens().is_empty());
    }

    #[test]
    fn what_wants_no_events_gets_none_until_it_wants_some_again() {
        let (mut scene, mut peer) = Scene::with_peer();
        scene.script.borrow_mut().woken = Some(Next::Unwatched);
        scene.wake();
        assert_eq!(scene.watch(), (None, false));
        peer.write_all(b"x").unwrap();
        assert!(!scene.is_told());
        scene.script.borrow_mut().woken = Some(Next::AsBefore);
        scene.wake();
        assert!(!scene.is_told(), "and that is as it was before");
        scene.wake();
        assert_eq!(scene.watch(), (Some(Interest::READABLE), false));
        scene.turn();
        assert_eq!(scene.told(), ["ready"]);
    }

    #[test]
    fn nothing_is_heard_of_a_source_that_is_gone_though_its_socket_lives_on() {
        let (ours, mut theirs) = socket::pair()
            .map(|(ours, theirs)| (ours, UnixStream::from(theirs)))
            .unwrap();
        let kept = ours.try_clone().unwrap();
        let mut scene = Scene::new(ours);
        scene.script.borrow_mut().woken = Some(Next::Gone);
        scene.send(1);
        assert_eq!(scene.told(), ["dropped"], "and nothing is sent for it");
        assert!(scene.poller.registry.tokens().is_empty());
        theirs.write_all(b"x").unwrap();
        assert!(!scene.is_told());
        scene.wake();
        assert_eq!(scene.told(), [""; 0]);
        drop(kept);
    }

    #[test]
    fn what_is_silent_is_not_deleted_and_an_arrival_all_the_same_is_told_once_and_hits_nobody() {
        let (mut scene, mut peer, _kept) = Scene::with_duplicate(Hears::Nothing);
        scene.end();
        assert_eq!(scene.told(), ["dropped"]);
        peer.write_all(b"x").unwrap();
        scene.turn();
        assert_eq!(scene.told(), [""; 0]);
        assert!(!scene.is_told(), "it is there, and no news");
    }

    #[test]
    fn what_may_still_hear_of_arrivals_is_deleted() {
        let (mut scene, mut peer, _kept) = Scene::with_duplicate(Hears::Arrivals);
        scene.end();
        peer.write_all(b"x").unwrap();
        assert!(!scene.is_told(), "each would wake the poller for nothing");
    }

    #[test]
    fn what_is_silent_and_was_watched_for_what_is_there_is_deleted() {
        let (mut scene, peer, _kept) = Scene::with_duplicate(Hears::Nothing);
        scene.script.borrow_mut().woken = Some(Next::Wait(Interest::NONE));
        scene.wake();
        scene.end();
        drop(peer);
        assert!(!scene.is_told(), "a hang-up would be told without end");
    }

    #[test]
    fn a_look_at_the_deadline_of_a_source_that_is_gone_is_called_off() {
        let (mut scene, _peer) = Scene::with_peer();
        let later = std::time::Instant::now() + LIMIT;
        scene.poller.turn.expire_at(Some(later));
        scene.wake();
        assert!(!scene.poller.timers.is_empty());
        scene.script.borrow_mut().woken = Some(Next::Gone);
        scene.wake();
        assert!(scene.poller.timers.is_empty());
    }

    #[test]
    fn a_deadline_that_a_source_sets_as_it_goes_is_nobodys() {
        let (mut scene, _peer) = Scene::with_peer();
        let later = std::time::Instant::now() + LIMIT;
        scene.poller.turn.expire_at(Some(later));
        scene.script.borrow_mut().woken = Some(Next::Gone);
        scene.wake();
        assert!(scene.poller.turn.deadline.is_none());
    }

    #[test]
    fn a_source_that_runs_is_out_of_its_slot_and_comes_back() {
        let (mut scene, _peer) = Scene::with_peer();
        let run = scene.poller.registry.take_out(scene.token).unwrap();
        scene.wake();
        assert!(scene.poller.registry.take_out(scene.token).is_none());
        assert_eq!(scene.told(), [""; 0], "who runs is not called");
        scene.poller.conclude(run, Next::AsBefore);
        assert_eq!(scene.watch(), (Some(Interest::READABLE), false));
    }
}
