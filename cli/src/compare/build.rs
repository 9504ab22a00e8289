// SPDX-License-Identifier: MIT OR Apache-2.0
//! Where the programs of the peers are, and how they come about: by cargo and by go, out of
//! `bench/peers`, one after the other. What cannot be built is told and does not hold up the rest.
//!
//! A build is a group of processes, and ends as one when the comparison is interrupted.

use std::collections::BTreeMap;
use std::env;
use std::io::{ErrorKind, Read};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};

use crate::signal::Interrupt;

use super::peer::{Kind, Kinds, Peer, Source};

/// The directory with the programs of the peers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Bench {
    dir: Result<PathBuf, String>,
}

impl Bench {
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
pub(crate) struct Ready {
    pub(crate) path: PathBuf,
    pub(crate) kinds: Vec<Kind>,
}

/// Builds what is asked for, each program once.
#[derive(Debug)]
pub(crate) struct Workshop<'a> {
    bench: &'a Bench,
    interrupt: &'a Interrupt,
    done: BTreeMap<Source, Result<Ready, String>>,
}

impl<'a> Workshop<'a> {
    pub(crate) fn new(bench: &'a Bench, interrupt: &'a Interrupt) -> Self {
        Self {
            bench,
            interrupt,
            done: BTreeMap::new(),
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
    ) -> Result<Ready, String> {
        if let Some(done) = self.done.get(&peer.source) {
            return done.clone();
        }
        let ready = self.make(peer, building);
        self.done.insert(peer.source, ready.clone());
        ready
    }

    fn make(&self, peer: &Peer, building: &mut dyn FnMut()) -> Result<Ready, String> {
        let path = match peer.source {
            Source::Netpoll | Source::Reference => env::current_exe()
                .map_err(|error| format!("this executable cannot be found: {error}"))?,
            Source::Rust(package) => {
                let dir = self.bench.dir.clone()?;
                building();
                self.cargo(&dir, package)?
            }
            Source::Go(package) => {
                let dir = self.bench.dir.clone()?;
                building();
                self.go(&dir, package)?
            }
        };
        let kinds = match peer.kinds {
            Kinds::These(kinds) => kinds.to_vec(),
            Kinds::Asked => self.ask(&path)?,
        };
        Ok(Ready { path, kinds })
    }

    /// Into a directory of its own, wherever else this user's builds go.
    fn cargo(&self, dir: &Path, package: &str) -> Result<PathBuf, String> {
        let target = dir.join("target");
        let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        command
            .args(["build", "--release", "--locked", "--quiet"])
            .args(["--package", package, "--bin", package])
            .arg("--manifest-path")
            .arg(dir.join("Cargo.toml"))
            .arg("--target-dir")
            .arg(&target)
            .current_dir(dir);
        self.succeed(&mut command, "cargo")?;
        Ok(target.join("release").join(package))
    }

    fn go(&self, dir: &Path, package: &str) -> Result<PathBuf, String> {
        let module = dir.join("go");
        if !module.join(package).is_dir() {
            return Err(format!("{} has no {package}", module.display()));
        }
        let program = dir.join("target/go").join(package);
        let mut command = Command::new("go");
        command
            .arg("build")
            .arg("-o")
            .arg(&program)
            .arg(format!("./{package}"))
            .current_dir(module);
        self.succeed(&mut command, "go")?;
        Ok(program)
    }

    /// Which servers a program has.
    fn ask(&self, program: &Path) -> Result<Vec<Kind>, String> {
        let name = program.file_name().unwrap_or_default().to_string_lossy();
        let said = self.succeed(Command::new(program).arg("--kinds"), &name)?;
        Ok(Kind::read(&String::from_utf8_lossy(&said.stdout)))
    }

    /// Runs a command to its end.
    fn succeed(&self, command: &mut Command, name: &str) -> Result<Output, String> {
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0);
        let child = command.spawn().map_err(|error| match error.kind() {
            ErrorKind::NotFound => format!("there is no {name} on this machine"),
            _ => format!("{name} does not start: {error}"),
        })?;
        let output = Group(child).output(self.interrupt)?;
        if output.status.success() {
            return Ok(output);
        }
        let why = reason(&String::from_utf8_lossy(&output.stderr));
        Err(format!("{name} failed: {why}"))
    }
}

/// A process and those it has started, which end with this value.
struct Group(Child);

impl Group {
    /// What it printed, once it has ended.
    fn output(mut self, interrupt: &Interrupt) -> Result<Output, String> {
        let stdout = self.0.stdout.take().map(read);
        let stderr = self.0.stderr.take().map(read);
        let status = loop {
            match self.0.try_wait() {
                Ok(Some(status)) => break status,
                Ok(None) if interrupt.came() => return Err(String::from("interrupted")),
                Ok(None) => thread::sleep(LOOK),
                Err(error) => return Err(error.to_string()),
            }
        };
        let all = |reader: Option<thread::JoinHandle<Vec<u8>>>| {
            reader
                .and_then(|reader| reader.join().ok())
                .unwrap_or_default()
        };
        Ok(Output {
            status,
            stdout: all(stdout),
            stderr: all(stderr),
        })
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if matches!(self.0.try_wait(), Ok(None)) {
            // It fails only for a group that is gone already.
            kill_process_group(Pid::from_child(&self.0), Signal::KILL).ok();
            self.0.wait().ok();
        }
    }
}

fn read(mut from: impl Read + Send + 'static) -> thread::JoinHandle<Vec<u8>> {
    thread::spawn(move || {
        let mut all = Vec::new();
        // What came before an error is all there is.
        from.read_to_end(&mut all).ok();
        all
    })
}

/// The line that says most of what a build printed: the first error, else the last line.
fn reason(printed: &str) -> String {
    let mut lines = printed.lines().map(str::trim);
    let error = lines.clone().find(|line| line.starts_with("error"));
    let last = lines.rfind(|line| !line.is_empty());
    error.or(last).unwrap_or("it does not say why").to_owned()
}

/// How often a build is looked at.
const LOOK: Duration = Duration::from_millis(30);

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn the_first_error_says_why_a_build_failed() {
        let printed = "warning: old\nerror: no such crate\n\nCaused by:\n  offline\n";
        assert_eq!(reason(printed), "error: no such crate");
        assert_eq!(
            reason("go: cannot find module\n\n"),
            "go: cannot find module"
        );
        assert_eq!(reason(""), "it does not say why");
    }

    #[test]
    fn outside_of_a_checkout_there_is_a_reason_and_no_directory() {
        let bench = Bench::find(None, Path::new("/"));
        assert!(bench.missing().unwrap().contains("not in a checkout"));
        let given = Bench::find(Some(Path::new("/no/such")), Path::new("/"));
        assert!(given.missing().unwrap().contains("/no/such"));
    }

    #[test]
    fn an_interrupt_ends_all_processes_of_a_build() {
        let (bench, interrupt) = (Bench::find(None, Path::new("/")), Interrupt::default());
        let workshop = Workshop::new(&bench, &interrupt);
        let note = env::temp_dir().join(format!("netpoll-build-{}", std::process::id()));
        let script = format!("sleep 1000 & echo $! > {}; wait", note.display());
        let started = || {
            let text = fs::read_to_string(&note).unwrap_or_default();
            text.strip_suffix('\n').map(str::to_owned)
        };
        let (ended, child) = thread::scope(|scope| {
            let build = || workshop.succeed(Command::new("sh").args(["-c", &script]), "sh");
            let build = scope.spawn(build);
            let child = loop {
                if let Some(child) = started() {
                    break child;
                }
                thread::yield_now();
            };
            interrupt.come();
            (build.join().unwrap(), child)
        });
        fs::remove_file(&note).unwrap();
        assert_eq!(ended.unwrap_err(), "interrupted");
        // Whoever inherits a process that has ended may not have looked at it yet.
        let is_over = || {
            let stat = fs::read_to_string(format!("/proc/{child}/stat"));
            stat.is_err() || stat.is_ok_and(|stat| stat.contains(") Z "))
        };
        while !is_over() {
            thread::yield_now();
        }
    }

    #[test]
    fn what_is_not_there_is_named() {
        let (bench, interrupt) = (Bench::find(None, Path::new("/")), Interrupt::default());
        let workshop = Workshop::new(&bench, &interrupt);
        let why = workshop.succeed(&mut Command::new("no-such-tool"), "a tool");
        assert_eq!(why.unwrap_err(), "there is no a tool on this machine");
        let why = workshop.succeed(Command::new("sh").args(["-c", "echo x >&2; exit 3"]), "sh");
        assert_eq!(why.unwrap_err(), "sh failed: x");
    }
}
