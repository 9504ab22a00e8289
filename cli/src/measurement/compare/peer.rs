// SPDX-License-Identifier: MIT OR Apache-2.0
//! The peers: the framework itself, its other runners, the limits, and other frameworks.
//!
//! A limit is a bare loop that only echoes frames; no framework is expected to reach it. Other
//! peers are programs in `bench/peers` that answer the same requests with another framework; `PEER
//! --kinds` prints the servers that a program provides. All are started alike: `PEER KIND --addr
//! ADDR --threads 1`, plus `--to ADDR` for a proxy.

use std::fmt;

use crate::measurement::plot::SeriesColor;

/// One peer: the source of its program and its flags.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Peer {
    pub(crate) name: &'static str,
    pub(crate) source: PeerSource,
    pub(crate) flags: &'static [&'static str],
    pub(crate) kinds: ServedKinds,
}

/// The source of a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum PeerSource {
    /// `netpoll serve KIND`: this executable.
    Netpoll,
    /// `netpoll serve reference`, which takes no other flags.
    Reference,
    /// A package in the workspace of peers, and its binary of the same name.
    Rust(&'static str),
    /// A main package in the Go module of peers.
    Go(&'static str),
}

/// The servers that a program provides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ServedKinds {
    /// Known in advance.
    Fixed(&'static [ServerKind]),
    /// Printed by the program.
    Queried,
}

/// The kinds of servers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ServerKind {
    /// Answers each frame with the same frame.
    Rpc,
    /// As rpc, each request in its own task.
    Mux,
    /// As rpc, with 100 us of computing in every tenth request of a connection.
    Heavy,
    /// Forwards bytes in both directions between a client and another server.
    Proxy,
}

impl ServerKind {
    const ALL: [Self; 4] = [Self::Rpc, Self::Mux, Self::Heavy, Self::Proxy];

    /// Returns its name on a command line.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Rpc => "rpc",
            Self::Mux => "mux",
            Self::Heavy => "heavy",
            Self::Proxy => "proxy",
        }
    }

    /// Parses the output of `--kinds`. Unknown kinds are skipped.
    pub(crate) fn parse(line: &str) -> Vec<Self> {
        let kinds = line.split_ascii_whitespace();
        kinds
            .filter_map(|name| Self::ALL.into_iter().find(|kind| kind.name() == name))
            .collect()
    }
}

/// All peers, in the order of the output.
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
    /// Returns whether this is the peer that all others are compared with.
    pub(crate) fn is_netpoll(&self) -> bool {
        self.name == "netpoll"
    }

    /// Returns whether this is a bare loop: a limit, not a peer.
    pub(crate) fn is_limit(&self) -> bool {
        self.name.starts_with("reference")
    }

    /// Returns its color in plots.
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
    fn peer_names_are_unique() {
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
    fn unknown_server_kinds_are_skipped() {
        assert_eq!(
            ServerKind::parse("echo mux rpc\n"),
            [ServerKind::Mux, ServerKind::Rpc]
        );
        assert!(ServerKind::parse("").is_empty());
    }
}
