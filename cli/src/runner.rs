// SPDX-License-Identifier: MIT OR Apache-2.0
//! Where the handlers of a server run, as it is written on a command line.

use std::io;
use std::num::NonZeroUsize;
use std::thread::available_parallelism;

use netpoll::Runner;
use tokio::runtime;

/// Where handlers are to run, and on how many threads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum RunnerChoice {
    #[default]
    Inline,
    Threads(Option<NonZeroUsize>),
    Tokio(Option<NonZeroUsize>),
}

/// Reads `inline`, `threads`, `threads:4`, `tokio` or `tokio:4`.
///
/// # Errors
///
/// One line that says what would have been right.
pub(crate) fn parse(text: &str) -> Result<RunnerChoice, String> {
    let wrong = || String::from("must be inline, threads or tokio, or such as threads:4");
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

/// A runner, and what it needs to live.
#[derive(Debug)]
pub(crate) enum RunnerInstance {
    Native(Runner),
    Tokio(runtime::Runtime),
}

impl RunnerChoice {
    /// Makes it.
    ///
    /// # Errors
    ///
    /// If the threads of a runtime cannot be started.
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
    /// The runner to give to a loop, which has to end before this is dropped.
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
    fn every_form_is_read() {
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
