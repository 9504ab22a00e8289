// SPDX-License-Identifier: MIT OR Apache-2.0
//! Invalid command lines: status 2, and one line on stderr that names the error.

use crate::support::run;

/// Asserts that `line` is rejected in one line that contains all of `words`.
fn rejected(line: &str, words: &[&str]) {
    let output = run(line);
    assert_eq!((output.status, output.stdout.as_str()), (2, ""), "{line}");
    assert_eq!(output.stderr.lines().count(), 1, "{}", output.stderr);
    assert!(output.stderr.starts_with("netpoll: "), "{}", output.stderr);
    for word in words {
        assert!(output.stderr.contains(word), "{word} in {}", output.stderr);
    }
}

#[test]
fn a_depth_of_zero_is_rejected_by_flag() {
    rejected(
        "load rpc --addr 127.0.0.1:1 --depth 0",
        &["--depth", "at least 1"],
    );
}

#[test]
fn zero_connections_are_rejected_by_flag() {
    rejected(
        "load rpc --addr 127.0.0.1:1 --connections 0",
        &["--connections", "at least 1"],
    );
}

#[test]
fn a_rate_of_zero_is_rejected_by_flag() {
    rejected(
        "load rpc --addr 127.0.0.1:1 --rate 0",
        &["--rate", "at least 1"],
    );
}

#[test]
fn zero_threads_are_rejected_by_flag() {
    rejected(
        "load rpc --addr 127.0.0.1:1 --threads 0",
        &["--threads", "at least 1"],
    );
}

#[test]
fn a_duration_of_zero_is_rejected_with_the_valid_form() {
    rejected(
        "load rpc --addr 127.0.0.1:1 --duration 0",
        &["--duration", "500ms"],
    );
    rejected(
        "load rpc --addr 127.0.0.1:1 --duration 0s",
        &["--duration", "500ms"],
    );
}

#[test]
fn a_warm_up_of_zero_is_rejected_with_the_word_none() {
    rejected(
        "load rpc --addr 127.0.0.1:1 --warm-up 0",
        &["--warm-up", "none"],
    );
}

#[test]
fn a_duration_without_a_unit_is_rejected() {
    rejected(
        "load rpc --addr 127.0.0.1:1 --duration 10",
        &["--duration", "unit"],
    );
}

#[test]
fn a_depth_with_a_rate_is_rejected() {
    rejected(
        "load rpc --addr 127.0.0.1:1 --rate 9 --depth 2",
        &["--depth", "--rate"],
    );
}

#[test]
fn an_empty_echo_request_is_rejected() {
    rejected(
        "load echo --addr 127.0.0.1:1 --size 0",
        &["--size", "at least 1"],
    );
}

#[test]
fn client_flags_that_do_not_fit_the_protocol_are_rejected() {
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
        rejected(&format!("load {flags} --addr 127.0.0.1:1"), words);
    }
}

#[test]
fn an_invalid_address_is_rejected_by_flag() {
    rejected("serve reference --addr 127.0.0.1", &["--addr", "host:port"]);
    rejected(
        "serve reference --addr 127.0.0.1:65536",
        &["--addr", "65535"],
    );
    rejected("load rpc --addr ::1:80", &["--addr", "[::1]:8080"]);
    rejected("serve rpc --addr unix:", &["--addr", "empty"]);
    let long = "x".repeat(200);
    rejected(&format!("serve rpc --addr unix:{long}"), &["107"]);
}

#[test]
fn a_load_without_an_address_is_rejected_by_flag() {
    rejected("load rpc", &["--addr"]);
}

#[test]
fn zero_pollers_are_rejected_by_flag() {
    rejected("serve rpc --pollers 0", &["--pollers", "at least 1"]);
}

#[test]
fn too_many_runner_threads_are_rejected_by_flag() {
    for runner in ["threads:4097", "tokio:100000"] {
        let line = format!("serve rpc --addr 127.0.0.1:0 --runner {runner}");
        rejected(&line, &["--runner", "at most 4096"]);
    }
}

#[test]
fn too_many_pollers_are_rejected_by_flag() {
    for pollers in ["1025", "100000"] {
        let line = format!("serve rpc --addr 127.0.0.1:0 --pollers {pollers}");
        rejected(&line, &["--pollers", "at most 1024"]);
    }
}

#[test]
fn an_invalid_busy_poll_time_is_rejected_by_flag() {
    for command in [
        "serve rpc",
        "serve reference",
        "load rpc --addr 127.0.0.1:1",
    ] {
        for (time, valid) in [
            ("1001ms", "at most 1s"),
            ("0", "`none`"),
            ("50", "unit"),
            ("long", "500ms or 1m30s"),
        ] {
            rejected(
                &format!("{command} --busy-poll {time}"),
                &["--busy-poll", valid],
            );
        }
    }
    for client in ["mux --ids", "rpc --pool 1"] {
        rejected(
            &format!("load {client} --addr 127.0.0.1:1 --busy-poll 50us"),
            &["--busy-poll"],
        );
    }
}

#[test]
fn a_proxy_without_an_upstream_is_rejected() {
    rejected("serve proxy", &["--to"]);
    rejected("serve rpc --to 127.0.0.1:1", &["--to", "proxy"]);
}

#[test]
fn a_server_limit_of_zero_connections_is_rejected_by_flag() {
    rejected(
        "serve rpc --max-connections 0",
        &["--max-connections", "at least 1"],
    );
    rejected(
        "serve reference --max-connections 9",
        &["--max-connections"],
    );
}

#[test]
fn a_second_poller_of_the_reference_is_rejected() {
    rejected("serve reference --pollers 2", &["--pollers"]);
}

#[test]
fn an_unknown_server_kind_is_rejected_with_the_known_ones() {
    rejected("serve http", &["http", "echo", "rpc", "reference"]);
}

#[test]
fn unknown_peers_and_scenarios_are_rejected_with_the_known_ones() {
    rejected(
        "compare --peers netpoll,tokyo",
        &["--peers", "tokyo", "tokio-framed-batched", "gnet"],
    );
    rejected(
        "compare --scenarios pingpong/7",
        &[
            "--scenarios",
            "pingpong/7",
            "pingpong/8000",
            "pipelined/128Bx64",
        ],
    );
    rejected("compare --rounds 0", &["--rounds", "at least 1"]);
}

#[test]
fn an_unknown_flag_is_rejected_by_name() {
    rejected("load rpc --addr 127.0.0.1:1 --speed 9", &["--speed"]);
}

#[test]
fn help_and_version_are_printed_on_stdout_with_status_0() {
    for line in ["--help", "--version", "load --help"] {
        let help = run(line);
        assert_eq!((help.status, help.stderr.as_str()), (0, ""), "{line}");
        assert!(help.stdout.contains("netpoll"), "{}", help.stdout);
    }
}

#[test]
fn a_misspelt_word_is_rejected_with_the_similar_one() {
    rejected("laod rpc", &["did you mean 'load'?"]);
    rejected("serve hevy", &["did you mean 'heavy'?"]);
    // Too short for clap to call it similar; the list of all values answers.
    rejected("serve rcp", &["possible values", "rpc"]);
    rejected(
        "load rpc --addr 127.0.0.1:1 --conections 4",
        &["did you mean '--connections'?"],
    );
}

#[test]
fn a_short_option_out_of_range_is_rejected_by_its_long_name() {
    let load = "load rpc --addr 127.0.0.1:1";
    rejected(&format!("{load} -c 0"), &["--connections", "at least 1"]);
    rejected(&format!("{load} -n 0"), &["--requests", "at least 1"]);
    rejected(&format!("{load} -s 1G"), &["--size", "64M"]);
    rejected(&format!("{load} -d 169h"), &["--duration", "a week"]);
}
