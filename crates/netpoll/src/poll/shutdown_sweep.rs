// SPDX-License-Identifier: MIT OR Apache-2.0
//! Something that every source of a poller is asked, a bounded part of them in each turn.
//!
//! A source that is made while a round is under way is asked when it is made. A later round replaces one
//! that is not complete: what is asked later is more urgent.

use super::Poller;
use super::quota::Quota;
use super::source::ShutdownRequest;
use super::token::Token;

/// The rest of a round.
#[derive(Debug)]
pub(super) struct ShutdownSweep {
    request: ShutdownRequest,
    tokens: std::vec::IntoIter<Token>,
}

impl Poller {
    /// Begins a round.
    pub(super) fn shutdown_all(&mut self, request: ShutdownRequest) {
        // Who comes later is asked what holds from then on.
        if request != ShutdownRequest::StopAccepting {
            self.shutdown = Some(request);
        }
        self.sweep = Some(ShutdownSweep {
            request,
            tokens: self.registry.tokens().into_iter(),
        });
    }

    /// Asks the next sources of the round, if one is under way.
    pub(super) fn continue_sweep(&mut self) {
        let mut quota = Quota::default();
        while quota.take() {
            let Some(round) = &mut self.sweep else {
                return;
            };
            let request = round.request;
            match round.tokens.next() {
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
