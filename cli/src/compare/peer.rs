// SPDX-License-Identifier: MIT OR Apache-2.0
//! Who is compared: the framework as it is and on its other runners, the limits, and the peers.
//!
//! A limit is a bare loop that does nothing but answer; no framework is meant to reach it. A peer is
//! a program of `bench/peers` which answers the same requests by the means of another framework, and
//! says itself which kinds of servers it has (`PEER --kinds`). All are started the same way:
//! `PEER KIND --addr ADDR --threads 1`, with `--to ADDR` behind a proxy.

use std::fmt;

use crate::measurement::plot::SeriesColor;

/// One contender: where its program comes from and how it is started.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Peer {
    pub(crate) name: &'static str,
    pub(crate) source: PeerSource,
    pub(crate) flags: &'static [&'static str],
    pub(crate) kinds: ServedKinds,
}

/// Where a program comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum PeerSource {
    /// `netpoll serve KIND`: this executable.
    Netpoll,
    /// `netpoll serve reference`, which takes no other flags.
    Reference,
    /// A package of the workspace of peers, and its binary.
    Rust(&'static str),
    /// A main package of the Go module of peers.
    Go(&'static str),
}

/// Which servers a program has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ServedKinds {
    /// Known here.
    Fixed(&'static [ServerKind]),
    /// It says so.
    Queried,
}

/// What a server does with what comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ServerKind {
    /// Each frame back.
    Rpc,
    /// The same, each request in a task of its own.
    Mux,
    /// As rpc, and every tenth request of a connection computes for 100 us.
    Heavy,
    /// Bytes both ways between a client and another server.
    Proxy,
}

impl ServerKind {
    const ALL: [Self; 4] = [Self::Rpc, Self::Mux, Self::Heavy, Self::Proxy];

    /// Its name on a command line.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Rpc => "rpc",
            Self::Mux => "mux",
            Self::Heavy => "heavy",
            Self::Proxy => "proxy",
        }
    }

    /// Those of a line that `--kinds` printed. What nobody here asks for is skipped.
    pub(crate) fn read(line: &str) -> Vec<Self> {
        let kinds = line.split_ascii_whitespace();
        kinds
            .filter_map(|name| Self::ALL.into_iter().find(|kind| kind.name() == name))
            .collect()
    }
}

/// Everybody, in the order they are shown.
pub(crate) const PEERS: &[Peer] = &[
    own("netpoll", &[], &ServerKind::ALL),
    own(
        "netpoll-tokio",
        &["--runner", "tokio:1"],
        &[ServerKind::Rpc, ServerKind::Heavy],
    ),
    own(
        "netpoll-threads",
        &["--runner", "threads:1"],
        &[ServerKind::Rpc, ServerKind::Mux, ServerKind::Heavy],
    ),
    Peer {
        name: "reference",
        source: PeerSource::Reference,
        flags: &[],
        kinds: ServedKinds::Fixed(&[ServerKind::Rpc]),
    },
    rust("reference-uring", "peer-reference-uring", &[]),
    rust("tokio", "peer-tokio", &[]),
    rust("tokio-mt", "peer-tokio", &["--flavor", "multi-thread"]),
    rust("tokio-framed", "peer-tokio-framed", &[]),
    rust("tokio-framed-batched", "peer-tokio-framed", &["--batched"]),
    rust("monoio", "peer-monoio", &[]),
    rust("compio", "peer-compio", &[]),
    rust("smol", "peer-smol", &[]),
    rust("may", "peer-may", &[]),
    go("go-net", "go-net", &[]),
    go("go-netpoll", "go-netpoll", &[]),
    go("go-netpoll-default", "go-netpoll", &["--default-pollers"]),
    go("gnet", "gnet", &[]),
];

const fn own(
    name: &'static str,
    flags: &'static [&'static str],
    kinds: &'static [ServerKind],
) -> Peer {
    Peer {
        name,
        source: PeerSource::Netpoll,
        flags,
        kinds: ServedKinds::Fixed(kinds),
    }
}

const fn rust(name: &'static str, package: &'static str, flags: &'static [&'static str]) -> Peer {
    Peer {
        name,
        source: PeerSource::Rust(package),
        flags,
        kinds: ServedKinds::Queried,
    }
}

const fn go(name: &'static str, package: &'static str, flags: &'static [&'static str]) -> Peer {
    Peer {
        name,
        source: PeerSource::Go(package),
        flags,
        kinds: ServedKinds::Queried,
    }
}

impl Peer {
    /// The one that all others are set beside.
    pub(crate) fn is_netpoll(&self) -> bool {
        self.name == "netpoll"
    }

    /// Whether it is a bare loop, which no framework is measured against as a peer.
    pub(crate) fn is_limit(&self) -> bool {
        self.name.starts_with("reference")
    }

    /// How it is drawn.
    pub(crate) fn color(&self) -> SeriesColor {
        match self.source {
            _ if self.is_limit() => SeriesColor::Limit,
            PeerSource::Netpoll => SeriesColor::Ours,
            _ => SeriesColor::Peer,
        }
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_have_one_name() {
        for (index, peer) in PEERS.iter().enumerate() {
            let others = &PEERS[index + 1..];
            assert!(others.iter().all(|other| other.name != peer.name), "{peer}");
        }
    }

    #[test]
    fn the_two_references_are_the_limits() {
        let limits: Vec<_> = PEERS.iter().filter(|peer| peer.is_limit()).collect();
        let names: Vec<_> = limits.iter().map(|peer| peer.name).collect();
        assert_eq!(names, ["reference", "reference-uring"]);
        assert!(limits.iter().all(|peer| peer.color() == SeriesColor::Limit));
    }

    #[test]
    fn kinds_that_nobody_asks_for_are_skipped() {
        assert_eq!(
            ServerKind::read("echo mux rpc\n"),
            [ServerKind::Mux, ServerKind::Rpc]
        );
        assert!(ServerKind::read("").is_empty());
    }
}
