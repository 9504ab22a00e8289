// SPDX-License-Identifier: MIT OR Apache-2.0
//! The works during which calls fail, and the errors that each of them may return.

use std::io;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use netpoll::addr::UnixAddr;
use netpoll::{Addr, Builder, CloseReason, Dialer, Listener, Runner};
use netpoll_sys::faults::{Errno, Fault, Syscall, Trigger};

use crate::cells::Strike;
use crate::client::{Client, is_end};
use crate::place::{self, Place};
use crate::support::{Kind, LIMIT, RESET, block_on, bytes, call, errno_of, frame, free_path};

/// The rounds of each work, one after the other.
const ROUNDS: usize = 3;

/// How long a permanent fault lasts after it has first struck.
const SPELL: Duration = Duration::from_millis(15);

/// The most accepts in a spell; more are a loop that spins.
const MOST_ACCEPTS: u64 = 200;

/// The timeout of a dial that always fails.
const SOON: Duration = Duration::from_millis(100);

/// The time limit of a shutdown.
const WITHIN: Duration = LIMIT.checked_div(2).expect("by two");

/// One of the works.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Work {
    /// Clients are served.
    Serving,
    /// Clients are served by handlers on threads of their own, which also send.
    Threads,
    /// A server with requests in progress shuts down.
    Draining,
    /// Connections are dialed and used.
    Dialing,
    /// Servers are created, used and ended.
    Making,
    /// A server resets its clients.
    Aborting,
}

/// The calls that a plan has seen, and how many of them it struck.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Met {
    pub(crate) seen: u64,
    pub(crate) struck: u64,
}

/// The result of one round.
type Outcome = io::Result<()>;

impl Work {
    /// Does the work under the fault. An error describes a broken promise.
    pub(crate) fn under(self, strike: Strike, kind: Kind) -> Result<Met, String> {
        match self {
            Self::Serving => serving(place::rpc(), strike, kind),
            Self::Threads => serving(place::rpc().handler_threads(2), strike, kind),
            Self::Draining => draining(strike, kind),
            Self::Dialing => dialing(strike, kind),
            Self::Making => making(strike, kind),
            Self::Aborting => aborting(strike, kind),
        }
    }
}

fn because(what: &'static str) -> impl Fn(io::Error) -> String {
    move |error| format!("{what}: {error:?}")
}

/// Runs `rounds` on another thread while `strike` is installed: until they complete, or for a spell
/// if a permanent fault keeps them from completing. Errors are returned while the fault lasts.
fn under<T: Send + 'static>(
    strike: Strike,
    rounds: impl FnOnce() -> T + Send + 'static,
) -> Result<(T, Met), String> {
    let installed = strike.install();
    let (done, results) = channel();
    let thread = std::thread::spawn(move || {
        // The receiver may have timed out.
        let _sent = done.send(rounds()).is_ok();
    });
    let met = || Met {
        seen: installed.seen(),
        struck: installed.injected(),
    };
    let early = if strike.is_for_good() && strike.is_harmless() {
        await_spell(&results, || met().struck > 0)
    } else {
        results.recv().ok()
    };
    let met = met();
    drop(installed);
    let result = early.or_else(|| results.recv().ok());
    thread.join().map_err(|_| "a round panicked")?;
    Ok((result.ok_or("no result")?, met))
}

/// Returns the result if it arrives within a spell after the fault first struck.
fn await_spell<T>(results: &Receiver<T>, struck: impl Fn() -> bool) -> Option<T> {
    let mut since = None;
    loop {
        match results.recv_timeout(Duration::from_millis(1)) {
            Ok(result) => return Some(result),
            Err(RecvTimeoutError::Disconnected) => return None,
            Err(RecvTimeoutError::Timeout) if struck() => {
                if since.get_or_insert_with(Instant::now).elapsed() > SPELL {
                    return None;
                }
            }
            Err(RecvTimeoutError::Timeout) => {}
        }
    }
}

fn serving(builder: Builder, strike: Strike, kind: Kind) -> Result<Met, String> {
    let place = Place::start(kind, builder).map_err(because("a server"))?;
    let addr = place.addr;
    let mut bystander = Client::connect(addr).map_err(because("a bystander"))?;
    bystander.call(b"before").map_err(because("before"))?;
    let rounds = move || (0..ROUNDS).map(|_| Client::whole_life(addr)).collect();
    let (outcomes, met): (Vec<Outcome>, Met) = under(strike, rounds)?;
    bystander.call(b"after").map_err(because("another"))?;
    Client::whole_life(addr).map_err(because("afterwards"))?;
    bystander.finish().map_err(because("another's end"))?;
    let endings = place.end(WITHIN);
    let endings = endings.map_err(because("the server's end"))?;
    judge(strike, met, &outcomes, is_end)?;
    judge_endings(strike, met, &endings)?;
    judge_breaks(strike, &endings)?;
    judge_pauses(strike, met)?;
    Ok(met)
}

fn draining(strike: Strike, kind: Kind) -> Result<Met, String> {
    let place = Place::rpc(kind).map_err(because("a server"))?;
    let mut clients = Vec::new();
    for _ in 0..ROUNDS {
        let mut client = Client::connect(place.addr).map_err(because("a client"))?;
        client.call(b"before").map_err(because("before"))?;
        clients.push(client);
    }
    let request = frame(&bytes(500, 1));
    let rounds = move || {
        for client in &mut clients {
            // A client that finds the connection closed reports that below.
            let _sent = client.send(&request).is_ok();
        }
        let endings = place.end(WITHIN);
        let answered = |mut client: Client| {
            client.expect(&request)?;
            client.expect_end()
        };
        let outcomes = clients.into_iter().map(answered).collect();
        (outcomes, endings)
    };
    let ((outcomes, endings), met): ((Vec<Outcome>, _), Met) = under(strike, rounds)?;
    judge(strike, met, &outcomes, is_end)?;
    judge_endings(strike, met, &endings.map_err(because("the server's end"))?)?;
    making_once(kind, &free_path()).map_err(because("afterwards"))?;
    Ok(met)
}

fn dialing(strike: Strike, kind: Kind) -> Result<Met, String> {
    let place = Place::rpc(kind).map_err(because("a server"))?;
    let addr = place.addr;
    let dial = move |time| {
        let dialer = Dialer::new().connect_timeout(time);
        let mut conn = block_on(dialer.dial(addr))?;
        block_on(call(&mut conn, b"dialed"))
    };
    // The server is up before anything fails.
    dial(LIMIT).map_err(because("before"))?;
    let time = if strike.is_for_good() { SOON } else { LIMIT };
    let rounds = move || (0..ROUNDS).map(|_| dial(time)).collect();
    let (outcomes, met): (Vec<Outcome>, Met) = under(strike, rounds)?;
    judge(strike, met, &outcomes, |error| {
        let waited = strike.is_for_good() && error.kind() == io::ErrorKind::TimedOut;
        waited || strike.matches_error(error) || strike.is_of_an_engine() && is_end(error)
    })?;
    let again = kind == Kind::Unix && strike.fault == Fault::Errno(Errno::AGAIN);
    let must_report = !strike.is_harmless() && !strike.is_of_an_engine() && !again;
    if must_report && met.struck > 0 && outcomes.iter().all(Result::is_ok) {
        return Err("no round reported the fault".to_owned());
    }
    dial(LIMIT).map_err(because("afterwards"))?;
    let endings = place.end(WITHIN);
    judge_endings(strike, met, &endings.map_err(because("the server's end"))?)?;
    Ok(met)
}

fn making(strike: Strike, kind: Kind) -> Result<Met, String> {
    let paths: Vec<_> = (0..ROUNDS).map(|_| free_path()).collect();
    let made = paths.clone();
    let rounds = move || made.iter().map(|path| making_once(kind, path)).collect();
    let (outcomes, met): (Vec<Outcome>, Met) = under(strike, rounds)?;
    judge(strike, met, &outcomes, |error| {
        strike.matches_error(error) || strike.is_of_an_engine() && is_end(error)
    })?;
    if let Some(path) = paths.iter().find(|path| path.exists()) {
        return Err(format!("leaves {}", path.display()));
    }
    making_once(kind, &free_path()).map_err(because("afterwards"))?;
    Ok(met)
}

fn aborting(strike: Strike, kind: Kind) -> Result<Met, String> {
    let place = Place::start(kind, place::resetting()).map_err(because("a server"))?;
    let addr = place.addr;
    let aborted = move || {
        let mut client = Client::connect(addr)?;
        client.send(b"?")?;
        match client.expect(b"!").map_err(|error| error.raw_os_error()) {
            Err(Some(RESET)) => Ok(()),
            other => Err(io::Error::other(format!("{other:?}"))),
        }
    };
    let rounds = move || (0..ROUNDS).map(|_| aborted()).collect();
    let (outcomes, met): (Vec<Outcome>, Met) = under(strike, rounds)?;
    judge(strike, met, &outcomes, |_| false)?;
    let endings = place.end(WITHIN);
    let endings = endings.map_err(because("the server's end"))?;
    let local = |ending: &&CloseReason| matches!(ending, CloseReason::Local);
    if endings.iter().filter(local).count() != endings.len() {
        return Err(format!("ended for {endings:?}"));
    }
    Ok(met)
}

/// Creates a server, uses it, and ends it. If its loop could not run, that is the error.
fn making_once(kind: Kind, path: &std::path::Path) -> Outcome {
    let listener = match kind {
        Kind::Tcp => Listener::from_fd(Listener::bind("127.0.0.1:0")?.into_fd())?,
        Kind::Unix => Listener::bind(Addr::Unix(UnixAddr::path(path)?))?,
    };
    let place = Place::start_on(listener, place::rpc())?;
    let used = Client::connect(place.addr).and_then(|mut client| {
        client.call(b"made")?;
        client.finish()
    });
    place.end(WITHIN)?;
    used
}

/// Checks the outcomes: a harmless fault causes no error; any other causes at most as many errors
/// as it struck calls, all of them expected.
fn judge(
    strike: Strike,
    met: Met,
    outcomes: &[Outcome],
    is_expected: impl Fn(&io::Error) -> bool,
) -> Result<(), String> {
    let failures: Vec<_> = outcomes
        .iter()
        .filter_map(|outcome| outcome.as_ref().err())
        .collect();
    let unexpected = failures.iter().find(|error| !is_expected(error));
    if let Some(unexpected) = unexpected {
        return Err(format!("unexpected {unexpected:?}"));
    }
    let most = if strike.is_harmless() { 0 } else { met.struck };
    if failures.len() as u64 > most {
        return Err(format!("{failures:?} of {} struck", met.struck));
    }
    Ok(())
}

/// Checks that connections close with their peer's FIN, with the shutdown, or for the fault.
fn judge_endings(strike: Strike, met: Met, endings: &[CloseReason]) -> Result<(), String> {
    let mut broken = 0;
    for ending in endings {
        match ending {
            CloseReason::PeerFin | CloseReason::Shutdown => {}
            CloseReason::Broken(error) if !strike.is_harmless() && strike.matches_error(error) => {
                broken += 1;
            }
            // The other side was dialed, and failed with an answer unread.
            CloseReason::Broken(_)
                if strike.is_of_an_engine() && is_end_of_peer(errno_of(ending)) => {}
            other => return Err(format!("ended for {other:?}")),
        }
    }
    if broken > met.struck {
        return Err(format!(
            "{broken} connections broke of {} struck",
            met.struck
        ));
    }
    Ok(())
}

fn is_end_of_peer(errno: Option<i32>) -> bool {
    errno == Some(RESET) || errno == Some(Errno::PIPE.raw_os_error())
}

/// Checks that a fault that breaks a connection is its close reason, and not the close that
/// follows.
fn judge_breaks(strike: Strike, endings: &[CloseReason]) -> Result<(), String> {
    let Strike { site, fault, when } = strike;
    let breaks = matches!(site, Syscall::Recv | Syscall::Send | Syscall::Sendmsg)
        && matches!(fault, Fault::Errno(_))
        && !strike.is_harmless();
    let broken = endings
        .iter()
        .filter(|ending| matches!(ending, CloseReason::Broken(_)))
        .count();
    match when {
        Trigger::Nth(_) if breaks && broken != 1 => Err(format!("{broken} broke of one struck")),
        Trigger::From(_) if breaks && broken == 0 => {
            Err("no connection reported that it broke".to_owned())
        }
        _ => Ok(()),
    }
}

/// Checks that accepts that keep failing pause.
fn judge_pauses(strike: Strike, met: Met) -> Result<(), String> {
    let again = Fault::Errno(Errno::AGAIN);
    let interrupted = Fault::Errno(Errno::INTR);
    let pauses = strike.site == Syscall::Accept && ![again, interrupted].contains(&strike.fault);
    if pauses && met.struck > MOST_ACCEPTS {
        return Err(format!("{} accepts in a spell", met.struck));
    }
    Ok(())
}
