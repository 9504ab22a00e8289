// SPDX-License-Identifier: MIT OR Apache-2.0
//! Selects peers and scenarios by name. An unknown name is rejected with the list of known ones.
//! Each selected item runs once, in the order of its table.

use super::peer::{PEERS, Peer};
use super::scenario::{QUICK, SCENARIOS, Scenario};

/// The scenarios of one name: a group, or one point of it.
#[derive(Clone, Debug)]
pub(crate) struct ScenarioSelection(Vec<&'static Scenario>);

/// Returns the peer with this name.
///
/// # Errors
///
/// One line with all names.
pub(crate) fn peer(name: &str) -> Result<&'static Peer, String> {
    PEERS.iter().find(|peer| peer.name == name).ok_or_else(|| {
        let names: Vec<_> = PEERS.iter().map(|peer| peer.name).collect();
        format!("the known names are {}", names.join(", "))
    })
}

/// Returns the scenarios of this name: `pingpong` has four, `pingpong/100` is one of them.
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
        return Err(format!("the known names are {}", names.join(", ")));
    }
    Ok(ScenarioSelection(named))
}

/// Returns the named peers; all peers if none is named.
pub(crate) fn peers_to_run(named: &[&'static Peer]) -> Vec<&'static Peer> {
    let runs = |peer: &&Peer| named.is_empty() || named.contains(peer);
    PEERS.iter().filter(runs).collect()
}

/// Returns the named scenarios. If none is named, all of them, or those of a quick comparison.
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
    fn a_group_selects_all_of_its_points() {
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
    fn an_item_named_twice_runs_once_in_table_order() {
        let named = ["pipelined/128Bx64", "pingpong/1", "pipelined/128Bx64"];
        assert_eq!(ids(&named, false), ["pingpong/1", "pipelined/128Bx64"]);
        let peers = [peer("gnet").unwrap(), peer("netpoll").unwrap()];
        let names: Vec<_> = peers_to_run(&peers).iter().map(|peer| peer.name).collect();
        assert_eq!(names, ["netpoll", "gnet"]);
    }

    #[test]
    fn without_names_all_scenarios_run_or_the_quick_ones() {
        assert_eq!(ids(&[], false).len(), SCENARIOS.len());
        assert_eq!(peers_to_run(&[]).len(), PEERS.len());
        let quick = ids(&[], true);
        assert!(quick.len() < SCENARIOS.len());
        for name in QUICK {
            assert!(quick.iter().any(|id| id.starts_with(name)), "{name}");
        }
    }

    #[test]
    fn an_unknown_name_is_rejected_with_the_known_ones() {
        assert!(peer("tokyo").unwrap_err().contains("tokio-mt"));
        assert!(
            scenarios("pingpong/2")
                .unwrap_err()
                .contains("pingpong/100")
        );
        assert!(scenarios("").is_err());
    }
}
