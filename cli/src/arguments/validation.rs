// SPDX-License-Identifier: MIT OR Apache-2.0
//! What no single value of a command line shows: flags that do not go together.

use clap::CommandFactory;
use clap::error::ErrorKind;

use crate::load::ID_LEN;

use super::{Cli, CliCommand, Protocol, ServeArgs, ServeKind};

/// What no single value shows.
pub(super) fn validate(command: CliCommand) -> Result<CliCommand, clap::Error> {
    let refused: String = match &command {
        CliCommand::Load(load) if load.protocol == Protocol::Echo && load.size == 0 => {
            "--size 0 is for rpc; an echo of nothing has no answer, give at least 1".into()
        }
        CliCommand::Load(load) if load.ids && load.protocol != Protocol::Mux => {
            "--ids is for mux: in the others answers come in the order of their requests".into()
        }
        CliCommand::Load(load) if load.pool.is_some() && load.protocol != Protocol::Rpc => {
            "--pool is for rpc: each call has a connection of its own".into()
        }
        CliCommand::Load(load) if load.churn_args.churn && load.protocol != Protocol::Rpc => {
            "--churn is for rpc: a connection ends with its answer".into()
        }
        CliCommand::Load(load) if load.ids && (load.size as usize) < ID_LEN => {
            format!(
                "--size {} has no room for an id, give at least {ID_LEN}",
                load.size
            )
        }
        CliCommand::Serve(serve) if serve.kind == ServeKind::Proxy && serve.to.is_none() => {
            "--to is missing: where does the proxy pass its connections on to".into()
        }
        CliCommand::Serve(serve) if serve.kind == ServeKind::Proxy && serve.runner.is_some() => {
            "--runner is not for proxy, both directions of which run on a poller".into()
        }
        CliCommand::Serve(serve) if serve.kind != ServeKind::Proxy && serve.to.is_some() => {
            "--to is for proxy; the others answer themselves".into()
        }
        CliCommand::Serve(serve)
            if serve.kind != ServeKind::Proxy && serve.half_open_timeout.is_some() =>
        {
            "--half-open-timeout is for proxy; the others have one side".into()
        }
        CliCommand::Serve(serve)
            if serve.kind == ServeKind::Reference && serve.pollers.is_some_and(|n| n.get() > 1) =>
        {
            "--pollers must be 1 for the reference, which is a single thread".into()
        }
        CliCommand::Serve(serve)
            if serve.kind == ServeKind::Reference && serve.max_connections.is_some() =>
        {
            "--max-connections is not for the reference, which knows no bounds".into()
        }
        CliCommand::Serve(serve) if serve.kind == ServeKind::Reference => {
            match (serve.unsupported_by_reference(), serve.limits.first_given()) {
                (Some(flag), _) => format!("{flag} is not for the reference, a bare loop"),
                (_, Some(flag)) => {
                    format!("{flag} is not for the reference, which knows no bounds")
                }
                (None, None) => return Ok(command),
            }
        }
        CliCommand::Serve(serve) => match serve.limits.budget_error(serve.pollers) {
            Some(refused) => refused,
            None => return Ok(command),
        },
        _ => return Ok(command),
    };
    Err(Cli::command().error(ErrorKind::ValueValidation, refused))
}

impl ServeArgs {
    /// The first flag that was given and says nothing to a bare loop.
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
    use super::super::tests::refusal;

    #[test]
    fn the_reference_refuses_a_second_poller() {
        assert!(refusal("netpoll serve reference --pollers 2").contains("--pollers"));
    }

    #[test]
    fn the_reference_refuses_bounds_by_name() {
        let line = refusal("netpoll serve reference --linger 1s");
        assert!(line.contains("--linger"), "{line}");
    }

    #[test]
    fn the_reference_refuses_what_a_bare_loop_has_not() {
        for flag in ["--runner inline", "--reuse-port", "--stats 1s"] {
            let line = refusal(&format!("netpoll serve reference {flag}"));
            assert!(line.contains(flag.split(' ').next().unwrap()), "{line}");
        }
    }

    #[test]
    fn a_proxy_and_nobody_else_is_told_where_to_go() {
        assert!(refusal("netpoll serve proxy").contains("--to"));
        let line = refusal("netpoll serve proxy --to a:1 --runner threads");
        assert!(line.contains("--runner"), "{line}");
        for kind in ["rpc", "heavy", "reference"] {
            let line = refusal(&format!("netpoll serve {kind} --to a:1"));
            assert!(line.contains("--to"), "{line}");
            let line = refusal(&format!("netpoll serve {kind} --half-open-timeout 1s"));
            assert!(line.contains("--half-open-timeout"), "{line}");
        }
    }
}
