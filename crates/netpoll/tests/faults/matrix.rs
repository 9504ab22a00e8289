// SPDX-License-Identifier: MIT OR Apache-2.0
//! Each call with each errno that it may have: at its first, at a middle, and at every call.

use std::collections::HashMap;
use std::sync::mpsc::channel;

use netpoll_sys::faults::{Fault, Syscall, Trigger};

use crate::cells::{Cell, Strike, cells};
use crate::ledger::{account, alone};
use crate::support::Kind;
use crate::work::Work;

/// How often a work is repeated until its fault strikes.
const GOES: usize = 10;

/// The number of calls of each cell without a fault.
#[derive(Default)]
struct Calm(HashMap<(Work, Syscall), u64>);

impl Calm {
    /// Returns a call in the middle of the work.
    fn middle(&mut self, cell: Cell) -> u64 {
        let calls = self.0.entry((cell.work, cell.site));
        let calls = *calls.or_insert_with(|| {
            let count = Strike {
                site: cell.site,
                fault: Fault::AtMost(usize::MAX),
                when: Trigger::Never,
            };
            let (seen, counted) = channel();
            let undisturbed = move || {
                let met = cell.work.under(count, cell.kind)?;
                seen.send(met.seen).map_err(|error| error.to_string())
            };
            let done = account("nothing fails", undisturbed);
            assert_eq!(done, Ok(()), "{cell:?}");
            counted.recv().expect("a count")
        });
        // The calls that depend on the scheduling of threads are the last ones.
        (calls / 3).max(2)
    }
}

/// Repeats a work until its fault strikes: whether a socket is full depends on scheduling, so a
/// call that follows from it may be missing once.
fn until_struck(cell: Cell, strike: Strike) -> Result<(), String> {
    for _ in 0..GOES {
        if cell.work.under(strike, cell.kind)?.struck > 0 {
            return Ok(());
        }
    }
    Err("the fault did not strike".to_owned())
}

/// Runs all cells over `kind`, and fails with a list of all wrong results.
fn run(kind: Kind) {
    let _alone = alone();
    let mut calm = Calm::default();
    let (mut runs, mut wrong) = (0, Vec::new());
    let cells = cells(kind);
    for &cell in &cells {
        let middle = calm.middle(cell);
        for when in [Trigger::Nth(1), Trigger::Nth(middle), Trigger::From(1)] {
            let Cell { site, fault, .. } = cell;
            let strike = Strike { site, fault, when };
            let name = format!("{:?} over {kind:?}, {site:?} {when:?} {fault:?}", cell.work);
            let body = move || until_struck(cell, strike);
            runs += 1;
            if let Err(cause) = account(&name, body) {
                wrong.push(format!("{name}: {cause}"));
            }
        }
    }
    println!(
        "over {kind:?}: {} cells, {runs} runs, {} wrong",
        cells.len(),
        wrong.len()
    );
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn tcp_faults_affect_only_the_connections_they_strike() {
    run(Kind::Tcp);
}

#[test]
fn unix_faults_affect_only_the_connections_they_strike() {
    run(Kind::Unix);
}
