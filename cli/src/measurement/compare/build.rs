// SPDX-License-Identifier: MIT OR Apache-2.0
//! Locates and builds the programs of the peers: by cargo and by go, from `bench/peers`, one after
//! the other. A program that fails to build is reported and skipped.

use std::collections::BTreeMap;
use std::env;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::measurement::process::launcher;
use crate::signal::Interrupt;

use super::peer::{Peer, PeerSource, ServedKinds, ServerKind};
use super::tool;

/// The directory with the programs of the peers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PeerDirectory {
    dir: Result<PathBuf, String>,
}

impl PeerDirectory {
    /// Returns the given directory, or `bench/peers` of the checkout that contains `here`.
    pub(crate) fn find(given: Option<&Path>, here: &Path) -> Self {
        let is_one = |dir: &Path| dir.join("Cargo.toml").is_file();
        let dir = match given {
            Some(dir) if is_one(dir) => Ok(dir.to_owned()),
            Some(dir) => Err(format!("{} has no peer programs", dir.display())),
            None => here
                .ancestors()
                .map(|dir| dir.join("bench/peers"))
                .find(|dir| is_one(dir))
                .ok_or_else(|| String::from("no bench/peers here: not in a checkout")),
        };
        // The path must not depend on the working directory of a program's start.
        Self {
            dir: dir.map(|dir| dir.canonicalize().unwrap_or(dir)),
        }
    }

    /// Returns the reason why there are no peers, if there are none.
    pub(crate) fn missing(&self) -> Option<&str> {
        self.dir.as_ref().err().map(String::as_str)
    }
}

/// An executable program and the servers that it provides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PeerProgram {
    pub(crate) path: PathBuf,
    pub(crate) kinds: Vec<ServerKind>,
}

/// Builds programs on demand, each once.
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

    /// Returns the program of `peer`. Calls `building` before a build, which may take minutes.
    ///
    /// # Errors
    ///
    /// The reason why there is no program, in one line.
    pub(crate) fn program(
        &mut self,
        peer: &Peer,
        building: &mut dyn FnMut(),
    ) -> Result<PeerProgram, String> {
        let path = match self.built.get(&peer.source) {
            Some(done) => done.clone(),
            None => {
                let result = self.build(peer.source, building);
                self.built.insert(peer.source, result.clone());
                result
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

    /// Builds into the peers' own target directory, independent of the user's configuration.
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

    /// Runs the program with `--kinds` and returns the servers that it provides.
    fn query_kinds(&self, program: &Path) -> Result<Vec<ServerKind>, String> {
        let name = program.file_name().unwrap_or_default().to_string_lossy();
        let output =
            tool::run_to_success(launcher(program)?.arg("--kinds"), &name, self.interrupt)?;
        let kinds = ServerKind::parse(&String::from_utf8_lossy(&output.stdout));
        if kinds.is_empty() {
            return Err(format!("{name} --kinds lists no known server"));
        }
        Ok(kinds)
    }
}

/// Returns a command that kills `program` when this process ends.
fn launcher(program: impl AsRef<OsStr>) -> Result<Command, String> {
    launcher::build(program).map_err(|error| format!("this executable cannot be found: {error}"))
}

#[cfg(test)]
mod tests {
    use super::super::selection;
    use super::*;

    #[test]
    fn a_missing_peers_directory_has_a_reason() {
        let bench = PeerDirectory::find(None, Path::new("/"));
        assert!(bench.missing().unwrap().contains("not in a checkout"));
        let given = PeerDirectory::find(Some(Path::new("/no/such")), Path::new("/"));
        assert!(given.missing().unwrap().contains("/no/such"));
    }

    #[test]
    fn peers_of_the_same_program_keep_their_own_kinds() {
        let (bench, interrupt) = (
            PeerDirectory::find(None, Path::new("/")),
            Interrupt::default(),
        );
        let mut builder = PeerBuilder::new(&bench, &interrupt);
        let mut kinds = |name| {
            let peer = selection::peer(name).unwrap();
            let program = builder.program(peer, &mut || ()).unwrap();
            program.kinds.contains(&ServerKind::Proxy)
        };
        assert!(kinds("netpoll"));
        assert!(!kinds("netpoll-tokio"));
    }
}
