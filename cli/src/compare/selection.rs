// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which of the peers and scenarios a command line means. A name that is none is refused with those
//! there are, and everything that was named is run once, in the order of the tables.

use super::peer::{PEERS, Peer};
use super::scenario::{QUICK, SCENARIOS, Scenario};

/// The scenarios that one name stands for: a group, or one of its points.
#[derive(Clone, Debug)]
pub(crate) struct ScenarioSelection(Vec<&'static Scenario>);

/// The peer of this name.
///
/// # Errors
///
/// One line with all that there are.
pub(crate) fn peer(name: &str) -> Result<&'static Peer, String> {
    PEERS.iter().find(|peer| peer.name == name).ok_or_else(|| {
        let names: Vec<_> = PEERS.iter().map(|peer| peer.name).collect();
        format!("there are {}", names.join(", "))
    })
}

/// The scenarios of this name: `pingpong` has four, `pingpong/100` is one of them.
///
/// # Errors
///
/// As [`peer`].
pub(crate) fn scenarios(name: &str) -> Result<ScenarioSelection, String> {
    let named: Vec<_> = SCENARIOS
        .iter()
        .filter(|scenario| scenario.group == name || scenario.id() == name)
        .collect();
    if named.is_empty() {
        let names: Vec<_> = SCENARIOS.iter().map(Scenario::id).collect();
        return Err(format!("there are {}", names.join(", ")));
    }
    Ok(ScenarioSelection(named))
}

/// The peers that were named; everybody if none was.
pub(crate) fn peers_to_run(named: &[&'static Peer]) -> Vec<&'static Peer> {
    let runs = |peer: &&Peer| named.is_empty() || named.contains(peer);
    PEERS.iter().filter(runs).collect()
}

/// The scenarios that were named; if none was all, or the few of a quick comparison.
pub(crate) fn scenarios_to_run(named: &[ScenarioSelection], quick: bool) -> Vec<&'static Scenario> {
    let few = QUICK.iter().filter_map(|name| scenarios(name).ok());
    let few: Vec<ScenarioSelection> = if quick { few.collect() } else { Vec::new() };
    let named = if named.is_empty() { &few } else { named };
    let runs = |scenario: &&Scenario| {
        named
            .iter()
            .any(|ScenarioSelection(some)| some.contains(scenario))
    };
    let runs = |scenario: &&Scenario| named.is_empty() || runs(scenario);
    SCENARIOS.iter().filter(runs).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(named: &[&str], quick: bool) -> Vec<String> {
        let named: Vec<_> = named.iter().map(|name| scenarios(name).unwrap()).collect();
        let run = scenarios_to_run(&named, quick);
        run.iter().map(|scenario| scenario.id()).collect()
    }

    #[test]
    fn a_group_is_all_of_its_points() {
        let four = [
            "pingpong/1",
            "pingpong/100",
            "pingpong/1000",
            "pingpong/8000",
        ];
        assert_eq!(ids(&["pingpong"], false), four);
        assert_eq!(ids(&["pingpong/8000"], true), ["pingpong/8000"]);
    }

    #[test]
    fn what_is_named_twice_is_run_once_and_in_the_order_of_the_table() {
        let named = ["pipelined/128Bx64", "pingpong/1", "pipelined/128Bx64"];
        assert_eq!(ids(&named, false), ["pingpong/1", "pipelined/128Bx64"]);
        let peers = [peer("gnet").unwrap(), peer("netpoll").unwrap()];
        let names: Vec<_> = peers_to_run(&peers).iter().map(|peer| peer.name).collect();
        assert_eq!(names, ["netpoll", "gnet"]);
    }

    #[test]
    fn without_names_everything_runs_and_the_few_of_a_quick_comparison() {
        assert_eq!(ids(&[], false).len(), SCENARIOS.len());
        assert_eq!(peers_to_run(&[]).len(), PEERS.len());
        let quick = ids(&[], true);
        assert!(quick.len() < SCENARIOS.len());
        for name in QUICK {
            assert!(quick.iter().any(|id| id.starts_with(name)), "{name}");
        }
    }

    #[test]
    fn a_name_that_is_none_is_refused_with_those_there_are() {
        assert!(peer("tokyo").unwrap_err().contains("tokio-mt"));
        assert!(
            scenarios("pingpong/2")
                .unwrap_err()
                .contains("pingpong/100")
        );
        assert!(scenarios("").is_err());
    }
}
