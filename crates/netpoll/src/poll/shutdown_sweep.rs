// SPDX-License-Identifier: MIT OR Apache-2.0
//! A shutdown request to every source of a poller, passed to a bounded part of them in each
//! iteration.
//!
//! A source that is registered during a sweep gets the request on registration. A later sweep
//! replaces one that is not complete: its request is more urgent.

use super::Poller;
use super::quota::Quota;
use super::source::ShutdownRequest;
use super::token::Token;

/// The rest of a sweep.
#[derive(Debug)]
pub(super) struct ShutdownSweep {
    request: ShutdownRequest,
    tokens: std::vec::IntoIter<Token>,
}

impl Poller {
    /// Starts a sweep.
    pub(super) fn shutdown_all(&mut self, request: ShutdownRequest) {
        // A source registered later gets the request as well.
        if request != ShutdownRequest::StopAccepting {
            self.shutdown = Some(request);
        }
        self.sweep = Some(ShutdownSweep {
            request,
            tokens: self.registry.tokens().into_iter(),
        });
    }

    /// Passes the request to the next sources of the sweep, if there is one.
    pub(super) fn continue_sweep(&mut self) {
        let mut quota = Quota::default();
        while quota.take() {
            let Some(sweep) = &mut self.sweep else {
                return;
            };
            let request = sweep.request;
            match sweep.tokens.next() {
                Some(token) => self.call(token, |source, context| {
                    source.on_shutdown(request, context)
                }),
                None => {
                    self.sweep = None;
                    self.mailbox.shutdown_completed(request);
                    return;
                }
            }
        }
    }
}
