// SPDX-License-Identifier: MIT OR Apache-2.0
//! Command lines that cannot be meant: status 2, and one line on stderr that names what is wrong.

use crate::support::run;

/// Asserts that `line` is refused in one line that contains all of `words`.
fn refused(line: &str, words: &[&str]) {
    let refusal = run(line);
    assert_eq!((refusal.status, refusal.stdout.as_str()), (2, ""), "{line}");
    assert_eq!(refusal.stderr.lines().count(), 1, "{}", refusal.stderr);
    assert!(
        refusal.stderr.starts_with("netpoll: "),
        "{}",
        refusal.stderr
    );
    for word in words {
        assert!(
            refusal.stderr.contains(word),
            "{word} in {}",
            refusal.stderr
        );
    }
}

#[test]
fn a_depth_of_zero_is_refused_by_name() {
    refused(
        "load rpc --addr 127.0.0.1:1 --depth 0",
        &["--depth", "at least 1"],
    );
}

#[test]
fn no_connections_are_refused_by_name() {
    refused(
        "load rpc --addr 127.0.0.1:1 --connections 0",
        &["--connections", "at least 1"],
    );
}

#[test]
fn a_rate_of_zero_is_refused_by_name() {
    refused(
        "load rpc --addr 127.0.0.1:1 --rate 0",
        &["--rate", "at least 1"],
    );
}

#[test]
fn no_threads_are_refused_by_name() {
    refused(
        "load rpc --addr 127.0.0.1:1 --threads 0",
        &["--threads", "at least 1"],
    );
}

#[test]
fn a_duration_of_zero_is_refused_with_what_would_be_right() {
    refused(
        "load rpc --addr 127.0.0.1:1 --duration 0",
        &["--duration", "500ms"],
    );
    refused(
        "load rpc --addr 127.0.0.1:1 --duration 0s",
        &["--duration", "500ms"],
    );
}

#[test]
fn a_warm_up_of_zero_is_refused_with_the_word_for_it() {
    refused(
        "load rpc --addr 127.0.0.1:1 --warm-up 0",
        &["--warm-up", "none"],
    );
}

#[test]
fn a_duration_without_a_unit_is_refused() {
    refused(
        "load rpc --addr 127.0.0.1:1 --duration 10",
        &["--duration", "unit"],
    );
}

#[test]
fn a_depth_beside_a_rate_is_refused() {
    refused(
        "load rpc --addr 127.0.0.1:1 --rate 9 --depth 2",
        &["--depth", "--rate"],
    );
}

#[test]
fn an_echo_of_nothing_is_refused() {
    refused(
        "load echo --addr 127.0.0.1:1 --size 0",
        &["--size", "at least 1"],
    );
}

#[test]
fn a_client_that_does_not_fit_the_protocol_is_refused() {
    let flags: [(&str, &[&str]); 8] = [
        ("rpc --ids", &["--ids", "mux"]),
        ("mux --ids --size 7", &["--size", "at least 8"]),
        ("mux --ids --rate 5", &["--ids", "--rate"]),
        ("mux --pool 5", &["--pool", "rpc"]),
        ("rpc --pool 0", &["--pool", "1"]),
        ("mux --churn", &["--churn", "rpc"]),
        ("rpc --churn --depth 2", &["--churn", "--depth"]),
        ("rpc --churn --rate 5", &["--churn", "--rate"]),
    ];
    for (flags, words) in flags {
        refused(&format!("load {flags} --addr 127.0.0.1:1"), words);
    }
}

#[test]
fn an_address_that_does_not_parse_is_refused_by_name() {
    refused("serve reference --addr 127.0.0.1", &["--addr", "host:port"]);
    refused(
        "serve reference --addr 127.0.0.1:65536",
        &["--addr", "65535"],
    );
    refused("load rpc --addr ::1:80", &["--addr", "[::1]:8080"]);
    refused("serve rpc --addr unix:", &["--addr", "empty"]);
    let long = "x".repeat(200);
    refused(&format!("serve rpc --addr unix:{long}"), &["107"]);
}

#[test]
fn a_load_without_an_address_is_refused_by_name() {
    refused("load rpc", &["--addr"]);
}

#[test]
fn zero_pollers_are_refused_by_name() {
    refused("serve rpc --pollers 0", &["--pollers", "at least 1"]);
}

#[test]
fn more_threads_than_a_runner_may_have_are_refused_by_name() {
    for runner in ["threads:4097", "tokio:100000"] {
        let line = format!("serve rpc --addr 127.0.0.1:0 --runner {runner}");
        refused(&line, &["--runner", "at most 4096"]);
    }
}

#[test]
fn more_pollers_than_a_loop_may_have_are_refused_by_name() {
    for pollers in ["1025", "100000"] {
        let line = format!("serve rpc --addr 127.0.0.1:0 --pollers {pollers}");
        refused(&line, &["--pollers", "at most 1024"]);
    }
}

#[test]
fn a_time_to_stay_awake_that_cannot_be_meant_is_refused_by_name() {
    for to_whom in [
        "serve rpc",
        "serve reference",
        "load rpc --addr 127.0.0.1:1",
    ] {
        for (time, right) in [
            ("1001ms", "at most 1s"),
            ("0", "`none`"),
            ("50", "unit"),
            ("long", "whole number"),
        ] {
            refused(
                &format!("{to_whom} --busy-poll {time}"),
                &["--busy-poll", right],
            );
        }
    }
    for client in ["mux --ids", "rpc --pool 1"] {
        refused(
            &format!("load {client} --addr 127.0.0.1:1 --busy-poll 50us"),
            &["--busy-poll"],
        );
    }
}

#[test]
fn a_proxy_without_anywhere_to_go_is_refused() {
    refused("serve proxy", &["--to"]);
    refused("serve rpc --to 127.0.0.1:1", &["--to", "proxy"]);
}

#[test]
fn no_connections_to_serve_are_refused_by_name() {
    refused(
        "serve rpc --max-connections 0",
        &["--max-connections", "at least 1"],
    );
    refused(
        "serve reference --max-connections 9",
        &["--max-connections"],
    );
}

#[test]
fn a_second_poller_of_the_reference_is_refused() {
    refused("serve reference --pollers 2", &["--pollers"]);
}

#[test]
fn an_unknown_kind_of_server_is_refused_with_those_there_are() {
    refused("serve http", &["http", "echo", "rpc", "reference"]);
}

#[test]
fn peers_and_scenarios_that_are_none_are_refused_with_those_there_are() {
    refused(
        "compare --peers netpoll,tokyo",
        &["--peers", "tokyo", "tokio-framed-batched", "gnet"],
    );
    refused(
        "compare --scenarios pingpong/7",
        &[
            "--scenarios",
            "pingpong/7",
            "pingpong/8000",
            "pipelined/128Bx64",
        ],
    );
    refused("compare --rounds 0", &["--rounds", "at least 1"]);
}

#[test]
fn an_unknown_flag_is_refused_by_name() {
    refused("load rpc --addr 127.0.0.1:1 --speed 9", &["--speed"]);
}

#[test]
fn help_and_version_are_results_and_not_errors() {
    for line in ["--help", "--version", "load --help"] {
        let help = run(line);
        assert_eq!((help.status, help.stderr.as_str()), (0, ""), "{line}");
        assert!(help.stdout.contains("netpoll"), "{}", help.stdout);
    }
}
