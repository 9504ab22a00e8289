// SPDX-License-Identifier: MIT OR Apache-2.0
//! The comparison from outside. The measured values are not checked: tests share the machine.

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use rustix::process::Signal;
use serde_json::Value;

use crate::page::{assert_describes_its_run, assert_is_self_contained};
use crate::support::{Finished, children, has_ended, netpoll, run, signal, wait, within_limit};

/// Returns a path in the build directory for one test.
fn output_path(name: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    fs::remove_file(&path).ok();
    path
}

/// Runs a short comparison and returns its rows.
fn compared(flags: &str, name: &str) -> (Finished, Vec<Value>) {
    let path = output_path(name);
    let line = format!(
        "compare {flags} --rounds 1 --duration 200ms --json {}",
        path.display()
    );
    let finished = run(&line);
    assert_eq!(finished.status, 0, "{}", finished.stderr);
    let rows = fs::read_to_string(&path).unwrap();
    let rows: Value = serde_json::from_str(&rows).unwrap();
    (finished, rows.as_array().unwrap().clone())
}

/// Returns the median of a metric, if there is one.
fn median(rows: &[Value], peer: &str, scenario: &str, metric: &str) -> Option<f64> {
    let is = |row: &&Value| {
        row["peer"] == peer && row["scenario"] == scenario && row["metric"] == metric
    };
    let row = rows.iter().find(is)?;
    let figure = |name: &str| row[name].as_f64().unwrap();
    assert!(row["unit"].is_string(), "{row}");
    assert!(figure("min") <= figure("median") && figure("median") <= figure("max"));
    Some(figure("median"))
}

#[test]
fn a_comparison_writes_rows_a_table_and_a_page() {
    let page = output_path("compare.html");
    let flags = format!(
        "--peers netpoll,reference --scenarios pingpong/100,pipelined/128Bx64 --html {}",
        page.display()
    );
    let (finished, rows) = compared(&flags, "compare.json");
    for peer in ["netpoll", "reference"] {
        let of = |scenario: &str, metric: &str| median(&rows, peer, scenario, metric);
        assert!(of("pingpong/100", "server_cpu_us_per_request").unwrap() > 0.0);
        assert!(of("pingpong/100", "p99_us").unwrap() > 0.0);
        let done = of("pingpong/100", "requests_per_second");
        let offered = of("pingpong/100", "offered_per_second");
        assert!(done.is_some() != offered.is_some(), "{rows:?}");
        assert!(of("pipelined/128Bx64", "requests_per_second").unwrap() > 0.0);
        assert!(finished.stdout.contains(peer), "{}", finished.stdout);
    }
    assert!(rows.iter().all(|row| row["metric"] != "unavailable"));
    let page = fs::read_to_string(page).unwrap();
    assert_eq!(page.matches("<svg ").count(), 2);
    assert!(page.contains("What was not measured"));
    assert_describes_its_run(&page);
    assert_is_self_contained(&page);
}

#[test]
fn every_other_scenario_has_its_figures() {
    let scenarios = "mux/100,large/64KiB,idle,churn,heavy,fixed-rate/30,proxy";
    let flags = format!("--peers netpoll,reference --scenarios {scenarios}");
    let (finished, rows) = compared(&flags, "compare-all.json");
    let netpoll = [
        ("mux/100", "requests_per_second"),
        ("large/64KiB", "bytes_per_second"),
        ("idle/8000", "resident_bytes_per_connection"),
        ("idle/busy", "p99_us"),
        ("churn", "server_cpu_us_per_connection"),
        ("heavy", "p999_us"),
        ("fixed-rate/30", "p50_us"),
        ("proxy", "bytes_per_second"),
        ("proxy", "cpu_us_per_MiB"),
    ];
    for (scenario, metric) in netpoll {
        let found = median(&rows, "netpoll", scenario, metric);
        assert!(
            found.is_some_and(|figure| figure > 0.0),
            "{scenario} {metric}"
        );
    }
    for scenario in ["mux/100", "heavy", "proxy"] {
        let is = |row: &&Value| row["peer"] == "reference" && row["scenario"] == scenario;
        let reference: Vec<_> = rows.iter().filter(is).collect();
        assert_eq!(reference.len(), 1);
        assert_eq!(reference[0]["metric"], "unavailable");
    }
    assert!(median(&rows, "reference", "churn", "server_busy").is_some());
    // The reference is a limit: it does not decide the rate at which peers are measured.
    assert!(finished.stdout.contains("the slowest peer, netpoll, does"));
    for line in finished.stdout.lines() {
        assert!(line.len() <= 100, "{line}");
    }
}

#[test]
fn a_peer_without_a_program_is_unavailable_and_the_others_are_measured() {
    let flags = "--peers netpoll,tokio --scenarios pingpong/1 --bench /no/such/place";
    let (finished, rows) = compared(flags, "compare-bench.json");
    let tokio: Vec<_> = rows.iter().filter(|row| row["peer"] == "tokio").collect();
    assert_eq!(tokio.len(), 1, "{rows:?}");
    assert_eq!(tokio[0]["metric"], "unavailable");
    assert_eq!(tokio[0]["scenario"], "pingpong/1");
    let why = tokio[0]["why"].as_str().unwrap();
    assert!(why.contains("/no/such/place"), "{why}");
    assert!(finished.stdout.contains(why), "{}", finished.stdout);
    assert!(median(&rows, "netpoll", "pingpong/1", "p99_us").is_some());
}

#[test]
fn a_failed_build_makes_a_peer_unavailable_with_the_reason() {
    let bench = output_path("compare-broken").join("peers");
    fs::create_dir_all(&bench).unwrap();
    fs::write(bench.join("Cargo.toml"), "[workspace]\nmembers = []\n").unwrap();
    let flags = format!(
        "--peers tokio,go-net --scenarios pingpong/1,churn --bench {}",
        bench.display()
    );
    let (_, rows) = compared(&flags, "compare-broken.json");
    assert_eq!(rows.len(), 4, "{rows:?}");
    for row in rows {
        assert_eq!(row["metric"], "unavailable");
        let why = row["why"].as_str().unwrap();
        let reason = match row["peer"].as_str() {
            Some("tokio") => "cargo",
            _ => "has no go-net",
        };
        assert!(why.contains(reason), "{why}");
    }
}

/// A peer that builds, listens, and closes every connection.
const CLOSING_PEER: &str = r#"
fn main() {
    if std::env::args().nth(1).as_deref() == Some("--kinds") {
        return println!("echo rpc");
    }
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    println!("listening on {}", listener.local_addr().unwrap());
    listener.incoming().for_each(drop);
}
"#;

#[test]
fn a_failing_peer_is_unavailable_with_the_reason_and_the_others_are_measured() {
    let bench = output_path("compare-rude").join("peers");
    let package = "name = \"peer-tokio\"\nversion = \"0.0.0\"\n";
    fs::create_dir_all(bench.join("src")).unwrap();
    fs::write(bench.join("src/main.rs"), CLOSING_PEER).unwrap();
    let manifest = format!("[package]\n{package}edition = \"2021\"\n[workspace]\n");
    fs::write(bench.join("Cargo.toml"), manifest).unwrap();
    fs::write(bench.join("Cargo.lock"), format!("[[package]]\n{package}")).unwrap();
    let flags = format!(
        "--peers netpoll,tokio --scenarios pingpong/1,mux,fixed-rate/30 --bench {}",
        bench.display()
    );
    let (_, rows) = compared(&flags, "compare-rude.json");
    let why = |scenario: &str| {
        let is = |row: &&Value| row["peer"] == "tokio" && row["scenario"] == scenario;
        let tokio: Vec<_> = rows.iter().filter(is).collect();
        assert_eq!(tokio.len(), 1, "{rows:?}");
        tokio[0]["why"].as_str().unwrap().to_owned()
    };
    assert!(why("pingpong/1").contains("requests failed"), "{rows:?}");
    assert!(why("fixed-rate/30").contains("requests failed"), "{rows:?}");
    assert!(why("mux/100").contains("does not serve mux"), "{rows:?}");
    for scenario in ["pingpong/1", "mux/100", "fixed-rate/30"] {
        assert!(
            median(&rows, "netpoll", scenario, "p99_us").is_some(),
            "{rows:?}"
        );
    }
}

#[test]
fn an_interrupted_comparison_leaves_no_child_and_no_file() {
    let path = output_path("compare-interrupted.json");
    let line = format!(
        "compare --peers netpoll,reference --scenarios pingpong/100 --json {}",
        path.display()
    );
    let mut compare = netpoll(&line).spawn().unwrap();
    assert!(within_limit(
        || children(&compare).len() == 1 && path.exists()
    ));
    let servers = children(&compare);
    signal(&compare, Signal::INT);
    assert_eq!(wait(&mut compare).code(), Some(1));
    for server in servers {
        assert!(within_limit(
            || !Path::new(&format!("/proc/{server}")).exists()
        ));
    }
    assert!(!path.exists());
    let stderr = BufReader::new(compare.stderr.take().unwrap());
    let last = stderr.lines().map(Result::unwrap).last().unwrap();
    assert!(last.contains("interrupted"), "{last}");
}

/// A peer that echoes bytes and has no code for the end of its parent.
const ECHO_PEER: &str = r#"
use std::io::{Read, Write};
fn main() {
    if std::env::args().nth(1).as_deref() == Some("--kinds") {
        return println!("rpc");
    }
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    println!("listening on {}", listener.local_addr().unwrap());
    for stream in listener.incoming() {
        let mut stream = stream.unwrap();
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(count @ 1..) = stream.read(&mut bytes) {
                stream.write_all(&bytes[..count]).unwrap();
            }
        });
    }
}
"#;

/// Starts `line`, kills it once it has a server, and waits for the end of the server.
fn killed(line: &str, is_server: impl Fn(u32) -> bool) {
    let mut process = netpoll(line).spawn().unwrap();
    let mut servers = Vec::new();
    let begun = within_limit(|| {
        servers = children(&process);
        servers.retain(|server| is_server(*server));
        !servers.is_empty()
    });
    assert!(begun, "{line} starts no server");
    signal(&process, Signal::KILL);
    process.wait().unwrap();
    for server in servers {
        assert!(within_limit(|| has_ended(server)), "{line} left a server");
    }
}

fn command_line(process: u32) -> String {
    let line = fs::read(format!("/proc/{process}/cmdline")).unwrap_or_default();
    String::from_utf8_lossy(&line).replace('\0', " ")
}

#[test]
fn servers_end_with_a_command_that_is_killed() {
    let is_ours = |process| command_line(process).contains(" serve ");
    killed(
        "compare --peers netpoll,reference --scenarios pingpong/100",
        is_ours,
    );
    killed("compare --peers netpoll --scenarios proxy", is_ours);
    killed(
        &format!(
            "demo --quick --output {}",
            output_path("demo-killed.html").display()
        ),
        is_ours,
    );
    let bench = output_path("compare-plain").join("peers");
    let package = "name = \"peer-tokio\"\nversion = \"0.0.0\"\n";
    fs::create_dir_all(bench.join("src")).unwrap();
    fs::write(bench.join("src/main.rs"), ECHO_PEER).unwrap();
    let manifest = format!("[package]\n{package}edition = \"2021\"\n[workspace]\n");
    fs::write(bench.join("Cargo.toml"), manifest).unwrap();
    fs::write(bench.join("Cargo.lock"), format!("[[package]]\n{package}")).unwrap();
    let line = format!(
        "compare --peers tokio --scenarios pingpong/100 --bench {}",
        bench.display()
    );
    killed(&line, |process| {
        let line = command_line(process);
        line.contains("peer-tokio") && line.contains("--threads")
    });
}

#[test]
fn a_build_and_its_children_end_when_the_command_is_killed() {
    let bench = output_path("compare-killed-build").join("peers");
    fs::create_dir_all(&bench).unwrap();
    fs::write(bench.join("Cargo.toml"), "[workspace]\n").unwrap();
    // A compiler that starts a process, which does not end with it.
    let (cargo, note) = (bench.join("cargo"), bench.join("note"));
    fs::remove_file(&note).ok();
    let script = format!(
        "#!/bin/sh\nsleep 1000 &\necho $$ $! > {0}.part\nmv {0}.part {0}\nwait\n",
        note.display()
    );
    fs::write(&cargo, script).unwrap();
    fs::set_permissions(&cargo, fs::Permissions::from_mode(0o755)).unwrap();
    let line = format!(
        "compare --peers tokio --scenarios pingpong/100 --bench {}",
        bench.display()
    );
    let mut process = netpoll(&line).env("CARGO", &cargo).spawn().unwrap();
    assert!(within_limit(|| note.exists()), "the build did not start");
    signal(&process, Signal::KILL);
    process.wait().unwrap();
    for id in fs::read_to_string(&note).unwrap().split_whitespace() {
        let build = id.parse().unwrap();
        assert!(within_limit(|| has_ended(build)), "process {id} is left");
    }
}
