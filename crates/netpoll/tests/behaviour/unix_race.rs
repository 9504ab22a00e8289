// SPDX-License-Identifier: MIT OR Apache-2.0
//! Servers that start and end concurrently on one Unix socket path.

use std::fs;
use std::io::{self, ErrorKind};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Barrier};

use netpoll::Listener;
use netpoll::addr::UnixAddr;
use netpoll::error::{ErrorExt, ErrorKind as Kind, TakenBy};
use netpoll::listener::ListenOptions;

use crate::support::{Folder, LIMIT, Server, eventually, rpc};

/// The number of races for a path.
const ROUNDS: usize = 1000;

/// Checks that `error` reports a listening server on the path.
fn is_taken_by_a_listener(error: &io::Error) {
    assert_eq!(error.kind(), ErrorKind::AddrInUse, "{error:?}");
    assert!(matches!(
        error.netpoll_kind(),
        Some(Kind::PathTaken {
            by: TakenBy::Listener,
            ..
        })
    ));
}

/// Binds listeners to all of `paths`, spellings of one path, concurrently for `rounds` rounds.
/// `before` prepares the path for each round.
fn race(paths: &[PathBuf], rounds: usize, before: impl Fn(usize)) {
    let barrier = Arc::new(Barrier::new(paths.len()));
    for round in 0..rounds {
        before(round);
        let starting: Vec<_> = paths
            .iter()
            .map(|path| {
                let (barrier, path) = (Arc::clone(&barrier), path.clone());
                std::thread::spawn(move || {
                    barrier.wait();
                    Listener::unix(path)
                })
            })
            .collect();
        let results = starting
            .into_iter()
            .map(|starting| starting.join().expect("no panic"));
        let (won, lost): (Vec<_>, Vec<_>) = results.partition(Result::is_ok);
        assert_eq!(won.len(), 1, "round {round}: {lost:?}");
        for lost in lost {
            is_taken_by_a_listener(&lost.expect_err("a listener that lost"));
        }
        // The winner is reachable over the path.
        UnixStream::connect(&paths[0]).expect("the winner");
        drop(won);
        assert!(!paths[0].exists(), "round {round}");
    }
}

fn names(folder: &Path) -> Vec<String> {
    let name = |entry: io::Result<fs::DirEntry>| {
        let entry = entry.expect("an entry");
        entry.file_name().to_string_lossy().into_owned()
    };
    fs::read_dir(folder).expect("a folder").map(name).collect()
}

#[test]
fn one_of_two_concurrent_servers_gets_the_path_and_the_other_finds_it_in_use() {
    let folder = Folder::new();
    let path = folder.file("a.sock");
    // Every other round starts with the stale socket of a killed server.
    race(&[path.clone(), path.clone()], ROUNDS, |round| {
        if round % 2 == 0 {
            drop(UnixListener::bind(&path).unwrap());
        }
    });
    assert_eq!(names(&folder.file("")), [""; 0], "no files remain");
}

#[test]
fn different_spellings_of_a_path_are_one_path() {
    let folder = Folder::new();
    let (real, link) = (folder.file("real"), folder.file("link"));
    fs::create_dir(&real).unwrap();
    symlink(&real, &link).unwrap();
    let path = real.join("a.sock");
    let paths = [
        path.clone(),
        link.join("a.sock"),
        real.join("../real/a.sock"),
    ];
    race(&paths, ROUNDS / 4, |round| {
        if round % 2 == 0 {
            drop(UnixListener::bind(&path).unwrap());
        }
    });
    assert_eq!(names(&real), [""; 0]);
}

#[test]
fn a_server_that_starts_while_another_ends_gets_the_path_or_finds_it_in_use() {
    let folder = Folder::new();
    let path = folder.file("a.sock");
    let barrier = Arc::new(Barrier::new(2));
    for _ in 0..ROUNDS {
        let ends = Listener::unix(&path).unwrap();
        let ending = std::thread::spawn({
            let barrier = Arc::clone(&barrier);
            move || {
                barrier.wait();
                drop(ends);
            }
        });
        barrier.wait();
        let started = Listener::unix(&path);
        ending.join().unwrap();
        match started {
            Ok(_listener) => {
                drop(UnixStream::connect(&path).expect("the path leads to this listener"))
            }
            Err(error) => is_taken_by_a_listener(&error),
        }
    }
    assert_eq!(names(&folder.file("")), [""; 0]);
}

#[test]
fn concurrent_starts_and_ends_never_remove_the_path_of_a_listening_server() {
    let folder = Folder::new();
    let path = folder.file("a.sock");
    let over = Arc::new(AtomicBool::new(false));
    let had = Arc::new(AtomicUsize::new(0));
    let threads: Vec<_> = (0..3)
        .map(|_| {
            let (path, over, had) = (path.clone(), Arc::clone(&over), Arc::clone(&had));
            std::thread::spawn(move || {
                while !over.load(Ordering::Relaxed) {
                    match Listener::unix(&path) {
                        Ok(listener) => {
                            had.fetch_add(1, Ordering::Relaxed);
                            UnixStream::connect(&path).expect("the path leads to this listener");
                            drop(listener);
                        }
                        Err(error) => is_taken_by_a_listener(&error),
                    }
                }
            })
        })
        .collect();
    std::thread::sleep(std::time::Duration::from_millis(500));
    eventually("a start", || had.load(Ordering::Relaxed) > 0);
    over.store(true, Ordering::Relaxed);
    for thread in threads {
        thread.join().unwrap();
    }
    assert_eq!(names(&folder.file("")), [""; 0]);
}

#[test]
fn one_of_several_loops_started_concurrently_on_a_path_serves_it() {
    let folder = Folder::new();
    let path = folder.file("a.sock");
    for _ in 0..20 {
        let start = || {
            let path = path.clone();
            std::thread::spawn(move || {
                let listener = Listener::unix(path)?;
                let builder = crate::support::builder().pollers(1);
                Ok::<_, io::Error>(Server::start_on(listener, builder, rpc))
            })
        };
        let starting = [start(), start(), start()];
        let started = starting.map(|starting| starting.join().unwrap());
        let mut served = started.into_iter().flatten();
        let server = served.next().expect("a server");
        assert!(served.next().is_none());
        let stream = socket2::Socket::from(UnixStream::connect(&path).unwrap());
        crate::support::Peer::of(stream).call(b"hello");
        assert_eq!(server.shut_down(LIMIT), 0);
        assert!(!path.exists());
    }
}

/// The test that the child processes run.
const PROCESSES: &str = "unix_race::one_of_several_processes_started_concurrently_gets_the_path";

/// The environment variable with the path for a child process.
const PATH: &str = "NETPOLL_TEST_PATH";

#[test]
fn one_of_several_processes_started_concurrently_gets_the_path() {
    if let Some(path) = std::env::var_os(PATH) {
        match Listener::unix(path) {
            // The process aborts, so the socket file stays.
            Ok(_listener) => {
                io::Read::read(&mut io::stdin(), &mut [0]).unwrap();
                std::process::abort();
            }
            Err(error) => return is_taken_by_a_listener(&error),
        }
    }
    let folder = Folder::new();
    let path = folder.file("a.sock");
    for round in 0..5 {
        let start = |_| {
            let mut command = Command::new(std::env::current_exe().unwrap());
            let command = command.args(["--exact", PROCESSES]).env(PATH, &path);
            let command = command.stdin(std::process::Stdio::piped());
            command.stdout(std::process::Stdio::null()).spawn().unwrap()
        };
        let mut children: Vec<_> = (0..4).map(start).collect();
        eventually("three processes that found the path in use", || {
            let over = |child: &mut std::process::Child| {
                let status = child.try_wait().unwrap();
                assert!(
                    status.is_none_or(|status| status.success()),
                    "round {round}"
                );
                status.is_some()
            };
            children.iter_mut().map(over).filter(|over| *over).count() == 3
        });
        UnixStream::connect(&path).expect("the winner");
        children.iter_mut().for_each(|child| {
            drop(child.stdin.take());
            // The process may have ended already.
            child.wait().unwrap();
        });
        assert_eq!(
            names(&folder.file("")),
            ["a.sock"],
            "the stale file of the aborted server"
        );
    }
    drop(Listener::unix(&path).expect("a reusable path"));
    assert_eq!(names(&folder.file("")), [""; 0]);
}

#[test]
fn the_longest_path_and_one_in_an_unreadable_directory_can_be_bound() {
    let folder = Folder::new();
    let own = folder.file("");
    let length = own.as_os_str().len();
    let longest = own.join("x".repeat(107 - length));
    assert_eq!(longest.as_os_str().len(), 107);
    for _ in 0..2 {
        drop(UnixListener::bind(&longest).unwrap());
        let listener = Listener::unix(&longest).unwrap();
        is_taken_by_a_listener(&Listener::unix(&longest).unwrap_err());
        drop(listener);
    }
    let unreadable = folder.file("unreadable");
    fs::create_dir(&unreadable).unwrap();
    fs::set_permissions(&unreadable, fs::Permissions::from_mode(0o300)).unwrap();
    let listener = Listener::unix(unreadable.join("a")).unwrap();
    is_taken_by_a_listener(&Listener::unix(unreadable.join("a")).unwrap_err());
    drop(listener);
    fs::set_permissions(&unreadable, fs::Permissions::from_mode(0o700)).unwrap();
    assert_eq!(names(&unreadable), [""; 0]);
}

#[test]
fn a_path_in_a_missing_directory_keeps_its_errno() {
    let folder = Folder::new();
    let error = Listener::unix(folder.file("missing/a.sock")).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(2));
    fs::write(folder.file("file"), "").unwrap();
    let error = Listener::unix(folder.file("file/a.sock")).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(20));
}

#[test]
fn a_path_has_its_permissions_before_any_connection_is_possible() {
    let folder = Folder::new();
    let path = folder.file("a.sock");
    let watched = path.clone();
    let over = Arc::new(AtomicBool::new(false));
    let until = Arc::clone(&over);
    let watching = std::thread::spawn(move || {
        let mut seen = 0;
        while !until.load(Ordering::Relaxed) {
            if let Ok(found) = fs::symlink_metadata(&watched) {
                assert_eq!(found.mode() & 0o777, 0o600);
                seen += 1;
            }
        }
        seen
    });
    for _ in 0..ROUNDS {
        let addr = UnixAddr::path(&path).unwrap();
        drop(Listener::bind_with(addr, ListenOptions::default()).unwrap());
    }
    over.store(true, Ordering::Relaxed);
    watching.join().unwrap();
}
