// SPDX-License-Identifier: MIT OR Apache-2.0
//! Rejects combinations of flags that are invalid although each value alone is valid.

use clap::CommandFactory;
use clap::error::ErrorKind;

use crate::measurement::load::ID_LEN;

use super::{Cli, CliCommand, Protocol, ServeArgs, ServeKind};

/// Returns the command if its flags go together, else a rejection that names the flag.
pub(super) fn validate(command: CliCommand) -> Result<CliCommand, clap::Error> {
    let rejected: String = match &command {
        CliCommand::Load(load) if load.protocol == Protocol::Echo && load.size == 0 => {
            "--size 0 is for rpc; an empty echo request has no response; give at least 1".into()
        }
        CliCommand::Load(load) if load.ids && load.protocol != Protocol::Mux => {
            "--ids is for mux: responses of the other protocols arrive in request order".into()
        }
        CliCommand::Load(load) if load.pool.is_some() && load.protocol != Protocol::Rpc => {
            "--pool is for rpc: each call uses one connection of the pool".into()
        }
        CliCommand::Load(load) if load.churn_args.churn && load.protocol != Protocol::Rpc => {
            "--churn is for rpc: each connection closes after its response".into()
        }
        CliCommand::Load(load) if load.ids && (load.size as usize) < ID_LEN => {
            format!(
                "--size {} is too small for a call id; give at least {ID_LEN}",
                load.size
            )
        }
        CliCommand::Serve(serve) if serve.kind == ServeKind::Proxy && serve.to.is_none() => {
            "a proxy needs --to ADDR".into()
        }
        CliCommand::Serve(serve) if serve.kind == ServeKind::Proxy && serve.runner.is_some() => {
            "--runner is not for proxy: both directions of a proxied connection run on a poller"
                .into()
        }
        CliCommand::Serve(serve) if serve.kind != ServeKind::Proxy && serve.to.is_some() => {
            "--to is for proxy: the other servers have no upstream".into()
        }
        CliCommand::Serve(serve)
            if serve.kind != ServeKind::Proxy && serve.half_open_timeout.is_some() =>
        {
            "--half-open-timeout is for proxy: the other servers have no upstream".into()
        }
        CliCommand::Serve(serve)
            if serve.kind == ServeKind::Reference && serve.pollers.is_some_and(|n| n.get() > 1) =>
        {
            "--pollers must be 1 for the reference, which has a single thread".into()
        }
        CliCommand::Serve(serve)
            if serve.kind == ServeKind::Reference && serve.max_connections.is_some() =>
        {
            "--max-connections is not for the reference, which has no limits".into()
        }
        CliCommand::Serve(serve) if serve.kind == ServeKind::Reference => {
            match (serve.unsupported_by_reference(), serve.limits.first_given()) {
                (Some(flag), _) => format!("{flag} is not for the reference, which is a bare loop"),
                (_, Some(flag)) => {
                    format!("{flag} is not for the reference, which has no limits")
                }
                (None, None) => return Ok(command),
            }
        }
        CliCommand::Serve(serve) => match serve.limits.budget_error(serve.pollers) {
            Some(rejected) => rejected,
            None => return Ok(command),
        },
        _ => return Ok(command),
    };
    Err(Cli::command().error(ErrorKind::ValueValidation, rejected))
}

impl ServeArgs {
    /// Returns the first given flag that a bare loop does not support.
    fn unsupported_by_reference(&self) -> Option<&'static str> {
        [
            (self.runner.is_some(), "--runner"),
            (self.reuse_port, "--reuse-port"),
            (self.stats.is_some(), "--stats"),
        ]
        .into_iter()
        .find_map(|(given, flag)| given.then_some(flag))
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::rejection;

    #[test]
    fn the_reference_rejects_a_second_poller() {
        assert!(rejection("netpoll serve reference --pollers 2").contains("--pollers"));
    }

    #[test]
    fn the_reference_rejects_limits_by_name() {
        let line = rejection("netpoll serve reference --linger 1s");
        assert!(line.contains("--linger"), "{line}");
    }

    #[test]
    fn the_reference_rejects_flags_that_a_bare_loop_does_not_support() {
        for flag in ["--runner inline", "--reuse-port", "--stats 1s"] {
            let line = rejection(&format!("netpoll serve reference {flag}"));
            assert!(line.contains(flag.split(' ').next().unwrap()), "{line}");
        }
    }

    #[test]
    fn only_a_proxy_takes_an_upstream_address() {
        assert!(rejection("netpoll serve proxy").contains("--to"));
        let line = rejection("netpoll serve proxy --to a:1 --runner threads");
        assert!(line.contains("--runner"), "{line}");
        for kind in ["rpc", "heavy", "reference"] {
            let line = rejection(&format!("netpoll serve {kind} --to a:1"));
            assert!(line.contains("--to"), "{line}");
            let line = rejection(&format!("netpoll serve {kind} --half-open-timeout 1s"));
            assert!(line.contains("--half-open-timeout"), "{line}");
        }
    }
}
