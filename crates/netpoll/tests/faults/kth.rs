// SPDX-License-Identifier: MIT OR Apache-2.0
//! For every scenario: its first call fails, then its second, then its third, until the scenario
//! completes before the fault strikes.

use std::io::{self, ErrorKind};
use std::sync::{Arc, Mutex, PoisonError};

use netpoll_sys::faults::{Errno, Fault, FaultPlan, Syscall, Trigger};

use crate::cells::errnos;
use crate::client::is_end;
use crate::ledger::{account, alone};
use crate::scenarios::{ALL, Scenario};

/// The call that was struck, and its errno.
type Struck = Arc<Mutex<Option<(Syscall, Errno)>>>;

/// The `k`-th call fails with one of the errnos of its site, another for each `k`.
fn kth(k: u64, struck: &Struck) -> FaultPlan {
    let (struck, mut calls) = (Arc::clone(struck), 0);
    FaultPlan::new(Trigger::Nth(k), move |site| {
        calls += 1;
        let errnos = errnos(site);
        let errno = errnos[k as usize % errnos.len()];
        if calls == k {
            *struck.lock().unwrap_or_else(PoisonError::into_inner) = Some((site, errno));
        }
        Some(Fault::Errno(errno))
    })
}

/// Returns whether a call that failed with `errno` may cause `error`: the same errno, a missing
/// server, or the connection's end.
fn may_come_of(errno: Errno, error: &io::Error) -> bool {
    let no_server = matches!(
        error.kind(),
        ErrorKind::ConnectionRefused | ErrorKind::ConnectionAborted | ErrorKind::TimedOut
    );
    no_server || is_end(error) || error.raw_os_error() == Some(errno.raw_os_error())
}

/// Runs a scenario while its `k`-th call fails. Returns a description of any wrong result.
fn run(scenario: fn() -> io::Result<()>, k: u64, struck: &Struck) -> Result<(), String> {
    let installed = kth(k, struck).install();
    let done = scenario();
    drop(installed);
    let struck = *struck.lock().unwrap_or_else(PoisonError::into_inner);
    match (struck, done) {
        (_, Ok(())) => Ok(()),
        (Some((_, errno)), Err(error)) if may_come_of(errno, &error) => Ok(()),
        (struck, Err(error)) => Err(format!("{struck:?}: returned {error:?}")),
    }
}

/// Runs a scenario until no call of it fails, and adds each wrong result to `wrong`.
fn sweep((name, scenario): Scenario) -> Vec<String> {
    let mut wrong = Vec::new();
    for k in 1.. {
        let struck = Struck::default();
        let held = Arc::clone(&struck);
        let name = format!("{name}, call {k}");
        if let Err(why) = account(&name, move || run(scenario, k, &held)) {
            wrong.push(format!("{name}: {why}"));
        }
        if struck
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .is_none()
        {
            println!("{name}: over before, {} wrong", wrong.len());
            break;
        }
    }
    wrong
}

#[test]
fn every_scenario_ends_cleanly_whichever_call_fails() {
    let _alone = alone();
    let wrong: Vec<String> = ALL.into_iter().flat_map(sweep).collect();
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}
