// SPDX-License-Identifier: MIT OR Apache-2.0
//! What is being done when the kernel fails: the works, and what each of them may be told.

use std::io;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use netpoll::{Addr, Builder, CloseReason, Dialer, Listener, Runner, UnixAddr};
use netpoll_sys::faults::{Errno, Fault, Syscall, Trigger};

use crate::cells::Strike;
use crate::client::{Client, is_end};
use crate::place::{self, Place};
use crate::support::{Kind, LIMIT, RESET, block_on, bytes, call, errno_of, frame, free_path};

/// How often each work is done, one after the other.
const ROUNDS: usize = 3;

/// How long what always fails does so, once it has.
const SPELL: Duration = Duration::from_millis(15);

/// More accepts than that in a spell are a loop that spins.
const MOST_ACCEPTS: u64 = 200;

/// How long a dial may take that always fails.
const SOON: Duration = Duration::from_millis(100);

/// How long a shutdown may take.
const WITHIN: Duration = LIMIT.checked_div(2).expect("by two");

/// One of the works.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Work {
    /// Clients are served.
    Serving,
    /// Clients are served by handlers on threads of their own, which send, too.
    Threads,
    /// A server with requests on their way shuts down.
    Draining,
    /// Connections are dialed, and used.
    Dialing,
    /// Servers come into being, and end.
    Making,
    /// A server resets its clients.
    Aborting,
}

/// How many calls a plan has met, and how many of them came out as planned.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Met {
    pub(crate) seen: u64,
    pub(crate) struck: u64,
}

/// What came of one round.
type Told = io::Result<()>;

impl Work {
    /// Does the work under the fault, and says what is wrong with what came of it.
    pub(crate) fn under(self, strike: Strike, kind: Kind) -> Result<Met, String> {
        match self {
            Self::Serving => serving(place::rpc(), strike, kind),
            Self::Threads => serving(place::rpc().runner(Runner::Threads(2)), strike, kind),
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

/// Has `rounds` done on another thread while `strike` is in the table: until they are done, or for a
/// spell if nothing would ever be done. Who is told of it is told of it while it lasts.
fn under<T: Send + 'static>(
    strike: Strike,
    rounds: impl FnOnce() -> T + Send + 'static,
) -> Result<(T, Met), String> {
    let installed = strike.install();
    let (done, results) = channel();
    let thread = std::thread::spawn(move || {
        // Nobody hears it who has given up.
        let _heard = done.send(rounds()).is_ok();
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

/// The result, if it is there before what has struck has done so for a spell.
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
    let (told, met): (Vec<Told>, Met) = under(strike, rounds)?;
    bystander.call(b"after").map_err(because("another"))?;
    Client::whole_life(addr).map_err(because("afterwards"))?;
    bystander.finish().map_err(because("another's end"))?;
    let endings = place.end(WITHIN);
    let endings = endings.map_err(because("the server's end"))?;
    judge(strike, met, &told, is_end)?;
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
            // Who finds it closed is told so below.
            let _sent = client.send(&request).is_ok();
        }
        let endings = place.end(WITHIN);
        let answered = |mut client: Client| {
            client.expect(&request)?;
            client.expect_end()
        };
        let told = clients.into_iter().map(answered).collect();
        (told, endings)
    };
    let ((told, endings), met): ((Vec<Told>, _), Met) = under(strike, rounds)?;
    judge(strike, met, &told, is_end)?;
    judge_endings(strike, met, &endings.map_err(because("the server's end"))?)?;
    making_once(kind, &free_path()).map_err(because("afterwards"))?;
    Ok(met)
}

fn dialing(strike: Strike, kind: Kind) -> Result<Met, String> {
    let place = Place::rpc(kind).map_err(because("a server"))?;
    let addr = place.addr;
    let dial = move |time| {
        let dialer = Dialer::new().connect_timeout(Some(time));
        let mut conn = block_on(dialer.dial(addr))?;
        block_on(call(&mut conn, b"dialed"))
    };
    // The server is up before anything fails.
    dial(LIMIT).map_err(because("before"))?;
    let time = if strike.is_for_good() { SOON } else { LIMIT };
    let rounds = move || (0..ROUNDS).map(|_| dial(time)).collect();
    let (told, met): (Vec<Told>, Met) = under(strike, rounds)?;
    judge(strike, met, &told, |error| {
        let waited = strike.is_for_good() && error.kind() == io::ErrorKind::TimedOut;
        waited || strike.is_told_by(error) || strike.is_of_a_session() && is_end(error)
    })?;
    let again = kind == Kind::Unix && strike.fault == Fault::Errno(Errno::AGAIN);
    let is_told = !strike.is_harmless() && !strike.is_of_a_session() && !again;
    if is_told && met.struck > 0 && told.iter().all(Result::is_ok) {
        return Err("nobody was told".to_owned());
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
    let (told, met): (Vec<Told>, Met) = under(strike, rounds)?;
    judge(strike, met, &told, |error| {
        strike.is_told_by(error) || strike.is_of_a_session() && is_end(error)
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
    let (told, met): (Vec<Told>, Met) = under(strike, rounds)?;
    judge(strike, met, &told, |_| false)?;
    let endings = place.end(WITHIN);
    let endings = endings.map_err(because("the server's end"))?;
    let local = |ending: &&CloseReason| matches!(ending, CloseReason::Local);
    if endings.iter().filter(local).count() != endings.len() {
        return Err(format!("ended for {endings:?}"));
    }
    Ok(met)
}

/// Makes a server, uses it, and ends it. If it could not run, that is what is told.
fn making_once(kind: Kind, path: &std::path::Path) -> Told {
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

/// A fault that harms nobody is told to nobody; another to no more than it struck, and truly.
fn judge(
    strike: Strike,
    met: Met,
    told: &[Told],
    may_be_told: impl Fn(&io::Error) -> bool,
) -> Result<(), String> {
    let failures: Vec<_> = told.iter().filter_map(|told| told.as_ref().err()).collect();
    let untrue = failures.iter().find(|error| !may_be_told(error));
    if let Some(untrue) = untrue {
        return Err(format!("told {untrue:?}"));
    }
    let most = if strike.is_harmless() { 0 } else { met.struck };
    if failures.len() as u64 > most {
        return Err(format!("{failures:?} of {} struck", met.struck));
    }
    Ok(())
}

/// Connections end with their peer's FIN or the server, or else for what struck them.
fn judge_endings(strike: Strike, met: Met, endings: &[CloseReason]) -> Result<(), String> {
    let mut broken = 0;
    for ending in endings {
        match ending {
            CloseReason::PeerFin | CloseReason::Shutdown => {}
            CloseReason::Broken(error) if !strike.is_harmless() && strike.is_told_by(error) => {
                broken += 1;
            }
            // The other side was dialed, and broke with an answer unread.
            CloseReason::Broken(_)
                if strike.is_of_a_session() && is_end_of_peer(errno_of(ending)) => {}
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

/// What ends a connection is told as the reason, and not the end that follows from it.
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
        Trigger::From(_) if breaks && broken == 0 => Err("none was told to have broken".to_owned()),
        _ => Ok(()),
    }
}

/// Accepts that fail on and on are not made without end.
fn judge_pauses(strike: Strike, met: Met) -> Result<(), String> {
    let again = Fault::Errno(Errno::AGAIN);
    let interrupted = Fault::Errno(Errno::INTR);
    let pauses = strike.site == Syscall::Accept && ![again, interrupted].contains(&strike.fault);
    if pauses && met.struck > MOST_ACCEPTS {
        return Err(format!("{} accepts in a spell", met.struck));
    }
    Ok(())
}
