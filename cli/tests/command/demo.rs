// SPDX-License-Identifier: MIT OR Apache-2.0
//! The demo from outside.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};

use rustix::process::Signal;
use serde_json::Value;

use crate::page::{assert_describes_its_run, assert_is_self_contained};
use crate::support::{children, netpoll, run, signal, wait, within_limit};

/// Returns a path in the build directory for one test.
fn output_path(name: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    fs::remove_file(&path).ok();
    path
}

#[test]
fn a_demo_prints_a_table_and_the_path_of_a_self_contained_page() {
    let path = output_path("demo.html");
    let line = format!("demo --quick --output {}", path.display());
    let finished = run(&line);
    assert_eq!(finished.status, 0, "{}", finished.stderr);
    assert_eq!(finished.stdout.lines().last(), path.to_str());
    for word in [
        "ping-pong",
        "pipelined",
        "small",
        "large",
        "idle",
        "p99.9",
        "bytes of memory",
    ] {
        assert!(
            finished.stdout.contains(word),
            "{word} in {}",
            finished.stdout
        );
    }
    let page = fs::read_to_string(&path).unwrap();
    assert_eq!(page.matches("<svg ").count(), 7);
    assert_describes_its_run(&page);
    assert_is_self_contained(&page);
}

#[test]
fn the_json_of_a_demo_is_one_object_with_every_scenario() {
    let path = output_path("demo-json.html");
    let line = format!("demo --quick --json --output {}", path.display());
    let finished = run(&line);
    assert_eq!(finished.status, 0, "{}", finished.stderr);
    let found: Value = serde_json::from_str(&finished.stdout).unwrap();
    let scenarios = found["scenarios"].as_array().unwrap();
    let names: Vec<_> = scenarios
        .iter()
        .map(|one| one["name"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["ping-pong", "pipelined", "small", "large"]);
    for one in scenarios {
        for side in ["netpoll", "bare_loop"] {
            assert!(one[side]["requests"].as_u64().unwrap() > 0, "{one}");
            assert!(one[side]["server_cpu_us_per_request"].is_f64(), "{one}");
        }
    }
    assert!(found["idle"]["netpoll_bytes"].is_f64());
    assert_eq!(found["page"].as_str(), path.to_str());
}

#[test]
fn an_interrupted_demo_leaves_no_child_and_no_page() {
    let path = output_path("interrupted.html");
    let line = format!("demo --output {}", path.display());
    let mut demo = netpoll(&line).spawn().unwrap();
    assert!(within_limit(|| children(&demo).len() == 2 && path.exists()));
    let servers = children(&demo);
    signal(&demo, Signal::INT);
    assert_eq!(wait(&mut demo).code(), Some(1));
    for server in servers {
        assert!(within_limit(
            || !Path::new(&format!("/proc/{server}")).exists()
        ));
    }
    assert!(!path.exists());
    let stderr = BufReader::new(demo.stderr.take().unwrap());
    let last = stderr.lines().map(Result::unwrap).last().unwrap();
    assert!(last.contains("interrupted"), "{last}");
}

#[test]
fn an_unwritable_page_is_reported_before_measuring() {
    let finished = run("demo --output /no/such/directory/page.html");
    assert_eq!((finished.status, finished.stdout.as_str()), (1, ""));
    let last = finished.stderr.lines().last().unwrap();
    assert!(
        last.starts_with("netpoll: cannot write /no/such/"),
        "{last}"
    );
}
