// SPDX-License-Identifier: MIT OR Apache-2.0
//! Where the programs of the peers are, and how they come about: by cargo and by go, out of
//! `bench/peers`, one after the other. What cannot be built is told and does not hold up the rest.

use std::collections::BTreeMap;
use std::env;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::measurement::launcher;
use crate::signal::Interrupt;

use super::peer::{Peer, PeerSource, ServedKinds, ServerKind};
use super::tool;

/// The directory with the programs of the peers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PeerDirectory {
    dir: Result<PathBuf, String>,
}

impl PeerDirectory {
    /// The directory that was given, or `bench/peers` of the checkout that `here` is in.
    pub(crate) fn find(given: Option<&Path>, here: &Path) -> Self {
        let is_one = |dir: &Path| dir.join("Cargo.toml").is_file();
        let dir = match given {
            Some(dir) if is_one(dir) => Ok(dir.to_owned()),
            Some(dir) => Err(format!("{} has no programs of peers", dir.display())),
            None => here
                .ancestors()
                .map(|dir| dir.join("bench/peers"))
                .find(|dir| is_one(dir))
                .ok_or_else(|| String::from("there is no bench/peers here: not in a checkout")),
        };
        // A program is started from wherever; its path must not depend on that.
        Self {
            dir: dir.map(|dir| dir.canonicalize().unwrap_or(dir)),
        }
    }

    /// Why there are no peers, if so.
    pub(crate) fn missing(&self) -> Option<&str> {
        self.dir.as_ref().err().map(String::as_str)
    }
}

/// A program that can be started, and the servers it has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PeerProgram {
    pub(crate) path: PathBuf,
    pub(crate) kinds: Vec<ServerKind>,
}

/// Builds what is asked for, each program once.
#[derive(Debug)]
pub(crate) struct PeerBuilder<'a> {
    bench: &'a PeerDirectory,
    interrupt: &'a Interrupt,
    built: BTreeMap<PeerSource, Result<PathBuf, String>>,
}

impl<'a> PeerBuilder<'a> {
    pub(crate) fn new(bench: &'a PeerDirectory, interrupt: &'a Interrupt) -> Self {
        Self {
            bench,
            interrupt,
            built: BTreeMap::new(),
        }
    }

    /// The program of `peer`; `building` is told before something is built that may take minutes.
    ///
    /// # Errors
    ///
    /// Why there is none, in a line.
    pub(crate) fn program(
        &mut self,
        peer: &Peer,
        building: &mut dyn FnMut(),
    ) -> Result<PeerProgram, String> {
        let path = match self.built.get(&peer.source) {
            Some(done) => done.clone(),
            None => {
                let made = self.build(peer.source, building);
                self.built.insert(peer.source, made.clone());
                made
            }
        }?;
        let kinds = match peer.kinds {
            ServedKinds::Fixed(kinds) => kinds.to_vec(),
            ServedKinds::Queried => self.query_kinds(&path)?,
        };
        Ok(PeerProgram { path, kinds })
    }

    fn build(&self, source: PeerSource, building: &mut dyn FnMut()) -> Result<PathBuf, String> {
        match source {
            PeerSource::Netpoll | PeerSource::Reference => env::current_exe()
                .map_err(|error| format!("this executable cannot be found: {error}")),
            PeerSource::Rust(package) => {
                let dir = self.bench.dir.clone()?;
                building();
                self.cargo(&dir, package)
            }
            PeerSource::Go(package) => {
                let dir = self.bench.dir.clone()?;
                building();
                self.go(&dir, package)
            }
        }
    }

    /// Into a directory of its own, wherever else this user's builds go.
    fn cargo(&self, dir: &Path, package: &str) -> Result<PathBuf, String> {
        let target = dir.join("target");
        let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let mut command = launcher(&cargo)?;
        command
            .args(["build", "--release", "--locked", "--quiet"])
            .args(["--package", package, "--bin", package])
            .arg("--manifest-path")
            .arg(dir.join("Cargo.toml"))
            .arg("--target-dir")
            .arg(&target)
            .current_dir(dir);
        tool::run_to_success(&mut command, "cargo", self.interrupt)?;
        Ok(target.join("release").join(package))
    }

    fn go(&self, dir: &Path, package: &str) -> Result<PathBuf, String> {
        let module = dir.join("go");
        if !module.join(package).is_dir() {
            return Err(format!("{} has no {package}", module.display()));
        }
        let program = dir.join("target/go").join(package);
        let mut command = launcher("go")?;
        command
            .arg("build")
            .arg("-o")
            .arg(&program)
            .arg(format!("./{package}"))
            .current_dir(module);
        tool::run_to_success(&mut command, "go", self.interrupt)?;
        Ok(program)
    }

    /// Which servers a program has.
    fn query_kinds(&self, program: &Path) -> Result<Vec<ServerKind>, String> {
        let name = program.file_name().unwrap_or_default().to_string_lossy();
        let said = tool::run_to_success(launcher(program)?.arg("--kinds"), &name, self.interrupt)?;
        let kinds = ServerKind::read(&String::from_utf8_lossy(&said.stdout));
        if kinds.is_empty() {
            return Err(format!("{name} does not say what it serves"));
        }
        Ok(kinds)
    }
}

/// A command that ends `program` when this process does.
fn launcher(program: impl AsRef<OsStr>) -> Result<Command, String> {
    launcher::build(program).map_err(|error| format!("this executable cannot be found: {error}"))
}

#[cfg(test)]
mod tests {
    use super::super::selection;
    use super::*;

    #[test]
    fn outside_of_a_checkout_there_is_a_reason_and_no_directory() {
        let bench = PeerDirectory::find(None, Path::new("/"));
        assert!(bench.missing().unwrap().contains("not in a checkout"));
        let given = PeerDirectory::find(Some(Path::new("/no/such")), Path::new("/"));
        assert!(given.missing().unwrap().contains("/no/such"));
    }

    #[test]
    fn two_peers_of_one_program_have_the_kinds_of_their_own_rows() {
        let (bench, interrupt) = (
            PeerDirectory::find(None, Path::new("/")),
            Interrupt::default(),
        );
        let mut workshop = PeerBuilder::new(&bench, &interrupt);
        let mut kinds = |name| {
            let peer = selection::peer(name).unwrap();
            let ready = workshop.program(peer, &mut || ()).unwrap();
            ready.kinds.contains(&ServerKind::Proxy)
        };
        assert!(kinds("netpoll"));
        assert!(!kinds("netpoll-tokio"));
    }
}
