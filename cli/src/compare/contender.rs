// SPDX-License-Identifier: MIT OR Apache-2.0
//! A peer that takes part, with the program it is started from, or the reason why there is none.

use std::ffi::OsString;
use std::net::SocketAddr;

use crate::error::CliError;
use crate::measurement::server_process::{ANY_PORT, Program, SERVER_PROCESSOR, ServerProcess};

use super::build::PeerProgram;
use super::peer::{Peer, PeerSource, ServerKind};

/// Somebody who takes part.
#[derive(Debug)]
pub(crate) struct Contender {
    pub(crate) peer: &'static Peer,
    pub(crate) program: Result<PeerProgram, String>,
}

impl Contender {
    /// Why there is no such server of this contender, if so.
    pub(crate) fn missing_reason(&self, kind: ServerKind) -> Option<String> {
        match &self.program {
            Ok(ready) if ready.kinds.contains(&kind) => None,
            Ok(_) => Some(format!("it does not serve {}", kind.name())),
            Err(why) => Some(why.clone()),
        }
    }

    /// Starts its server.
    ///
    /// # Errors
    ///
    /// What keeps the server from listening.
    pub(crate) fn start(
        &self,
        kind: ServerKind,
        to: Option<SocketAddr>,
    ) -> Result<ServerProcess, CliError> {
        let ready = self.program.as_ref().map_err(CliError::new)?;
        let program = Program {
            name: self.peer.name.to_owned(),
            path: ready.path.clone(),
            arguments: arguments(self.peer, kind, to),
        };
        ServerProcess::start(&program, SERVER_PROCESSOR)
    }
}

/// What its program is given.
fn arguments(peer: &Peer, kind: ServerKind, to: Option<SocketAddr>) -> Vec<OsString> {
    let before: &[&str] = match peer.source {
        PeerSource::Netpoll => &["serve", kind.name(), "--pollers", "1"],
        PeerSource::Reference => &["serve", "reference"],
        PeerSource::Rust(_) | PeerSource::Go(_) => &[kind.name(), "--threads", "1"],
    };
    let mut all: Vec<OsString> = before.iter().map(OsString::from).collect();
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
    fn each_program_is_given_what_it_understands() {
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
