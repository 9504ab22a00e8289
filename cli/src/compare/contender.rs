// SPDX-License-Identifier: MIT OR Apache-2.0
//! A peer that takes part, with the program it is started from, or the reason why there is none.

use std::ffi::OsString;
use std::net::SocketAddr;

use crate::failure::Failure;
use crate::measure::child::{ANYWHERE, Program, SERVER_PROCESSOR, Server};

use super::build::Ready;
use super::peer::{Kind, Peer, Source};

/// Somebody who takes part.
#[derive(Debug)]
pub(crate) struct Contender {
    pub(crate) peer: &'static Peer,
    pub(crate) ready: Result<Ready, String>,
}

impl Contender {
    /// Why there is no such server of this contender, if so.
    pub(crate) fn lacks(&self, kind: Kind) -> Option<String> {
        match &self.ready {
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
    pub(crate) fn start(&self, kind: Kind, to: Option<SocketAddr>) -> Result<Server, Failure> {
        let ready = self.ready.as_ref().map_err(Failure::new)?;
        let program = Program {
            name: self.peer.name.to_owned(),
            path: ready.path.clone(),
            arguments: arguments(self.peer, kind, to),
        };
        Server::start(&program, SERVER_PROCESSOR)
    }
}

/// What its program is given.
fn arguments(peer: &Peer, kind: Kind, to: Option<SocketAddr>) -> Vec<OsString> {
    let before: &[&str] = match peer.source {
        Source::Netpoll => &["serve", kind.name(), "--pollers", "1"],
        Source::Reference => &["serve", "reference"],
        Source::Rust(_) | Source::Go(_) => &[kind.name(), "--threads", "1"],
    };
    let mut all: Vec<OsString> = before.iter().map(OsString::from).collect();
    all.extend(["--addr", ANYWHERE].map(OsString::from));
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
        let all = arguments(peer(name).unwrap(), Kind::Rpc, to);
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
