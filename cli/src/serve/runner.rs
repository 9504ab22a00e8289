// SPDX-License-Identifier: MIT OR Apache-2.0
//! The `--runner` flag: where the handlers of a server run.

use std::io;
use std::num::NonZeroUsize;
use std::thread::available_parallelism;

use netpoll::Runner;
use tokio::runtime;

/// Where handlers run, and on how many threads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum RunnerChoice {
    #[default]
    Inline,
    Threads(Option<NonZeroUsize>),
    Tokio(Option<NonZeroUsize>),
}

/// Parses `inline`, `threads`, `threads:4`, `tokio` or `tokio:4`.
///
/// # Errors
///
/// One line that states the valid form.
pub(crate) fn parse(text: &str) -> Result<RunnerChoice, String> {
    let wrong = || String::from("must be inline, threads[:N] or tokio[:N], such as threads:4");
    let (name, count) = match text.split_once(':') {
        Some((name, count)) => (name, Some(count.parse().map_err(|_| wrong())?)),
        None => (text, None),
    };
    if count.is_some_and(|count: NonZeroUsize| count.get() > 4096) {
        return Err("must have at most 4096 threads".into());
    }
    match (name, count) {
        ("inline", None) => Ok(RunnerChoice::Inline),
        ("threads", count) => Ok(RunnerChoice::Threads(count)),
        ("tokio", count) => Ok(RunnerChoice::Tokio(count)),
        _ => Err(wrong()),
    }
}

/// A started runner, with the runtime that it depends on.
#[derive(Debug)]
pub(crate) enum RunnerInstance {
    Native(Runner),
    Tokio(runtime::Runtime),
}

impl RunnerChoice {
    /// Starts the runner.
    ///
    /// # Errors
    ///
    /// Tokio's error if its threads cannot be started.
    pub(crate) fn start(self) -> io::Result<RunnerInstance> {
        let threads = |count: Option<NonZeroUsize>| match count {
            Some(count) => count.get(),
            None => available_parallelism().map_or(1, NonZeroUsize::get),
        };
        Ok(match self {
            Self::Inline => RunnerInstance::Native(Runner::Inline),
            Self::Threads(count) => RunnerInstance::Native(Runner::Threads(threads(count))),
            Self::Tokio(count) => {
                let mut runtime = runtime::Builder::new_multi_thread();
                RunnerInstance::Tokio(runtime.worker_threads(threads(count)).build()?)
            }
        })
    }
}

impl RunnerInstance {
    /// Returns the runner for an event loop. The loop has to end before `self` is dropped.
    pub(crate) fn runner(&self) -> Runner {
        match self {
            Self::Native(runner) => runner.clone(),
            Self::Tokio(runtime) => Runner::tokio(runtime.handle().clone()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_runner_form_is_parsed() {
        assert_eq!(parse("inline"), Ok(RunnerChoice::Inline));
        assert_eq!(parse("threads"), Ok(RunnerChoice::Threads(None)));
        let four = NonZeroUsize::new(4);
        assert_eq!(parse("threads:4"), Ok(RunnerChoice::Threads(four)));
        assert_eq!(parse("tokio:4"), Ok(RunnerChoice::Tokio(four)));
        for wrong in ["", "threads:", "threads:0", "inline:1", "tokio:-1", "go"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
