// SPDX-License-Identifier: MIT OR Apache-2.0
//! A contender: a peer with its program, or with the reason there is none.

use std::ffi::OsString;
use std::net::SocketAddr;

use crate::error::CliError;
use crate::measurement::process::server::{ANY_PORT, Program, SERVER_PROCESSOR, ServerProcess};

use super::build::PeerProgram;
use super::peer::{Peer, PeerSource, ServerKind};

/// A peer with its program, or with the reason there is none.
#[derive(Debug)]
pub(crate) struct Contender {
    pub(crate) peer: &'static Peer,
    pub(crate) program: Result<PeerProgram, String>,
}

impl Contender {
    /// Returns the reason this contender has no such server, if it has none.
    pub(crate) fn missing_reason(&self, kind: ServerKind) -> Option<String> {
        match &self.program {
            Ok(program) if program.kinds.contains(&kind) => None,
            Ok(_) => Some(format!("it does not serve {}", kind.name())),
            Err(reason) => Some(reason.clone()),
        }
    }

    /// Starts a server of this contender.
    ///
    /// # Errors
    ///
    /// The reason reason the server does not listen.
    pub(crate) fn start(
        &self,
        kind: ServerKind,
        to: Option<SocketAddr>,
    ) -> Result<ServerProcess, CliError> {
        let program = self.program.as_ref().map_err(CliError::new)?;
        let program = Program {
            name: self.peer.name.to_owned(),
            path: program.path.clone(),
            arguments: arguments(self.peer, kind, to),
        };
        ServerProcess::start(&program, SERVER_PROCESSOR)
    }
}

/// Returns the arguments of its program.
fn arguments(peer: &Peer, kind: ServerKind, to: Option<SocketAddr>) -> Vec<OsString> {
    let first: &[&str] = match peer.source {
        PeerSource::Netpoll => &["serve", kind.name(), "--pollers", "1"],
        PeerSource::Reference => &["serve", "reference"],
        PeerSource::Rust(_) | PeerSource::Go(_) => &[kind.name(), "--threads", "1"],
    };
    let mut all: Vec<OsString> = first.iter().map(OsString::from).collect();
    all.extend(["--addr", ANY_PORT].map(OsString::from));
    all.extend(peer.flags.iter().map(OsString::from));
    if let Some(to) = to {
        all.extend([OsString::from("--to"), OsString::from(to.to_string())]);
    }
    all
}

#[cfg(test)]
mod tests {
    use super::super::selection::peer;
    use super::*;

    fn line(name: &str, to: Option<SocketAddr>) -> String {
        let all = arguments(peer(name).unwrap(), ServerKind::Rpc, to);
        let all: Vec<_> = all.iter().map(|part| part.to_string_lossy()).collect();
        all.join(" ")
    }

    #[test]
    fn each_program_receives_its_own_arguments() {
        assert_eq!(
            line("netpoll-threads", None),
            "serve rpc --pollers 1 --addr 127.0.0.1:0 --runner threads:1"
        );
        assert_eq!(
            line("reference", None),
            "serve reference --addr 127.0.0.1:0"
        );
        assert_eq!(
            line("tokio-mt", "127.0.0.1:9".parse().ok()),
            "rpc --threads 1 --addr 127.0.0.1:0 --flavor multi-thread --to 127.0.0.1:9"
        );
    }
}
