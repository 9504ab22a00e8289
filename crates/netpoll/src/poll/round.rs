// SPDX-License-Identifier: MIT OR Apache-2.0
//! Something that every source of a poller is asked, a bounded part of them in each turn.
//!
//! A source that is made while a round is under way is asked when it is made. A later round replaces one
//! that is not complete: what is asked later is more urgent.

use super::Poller;
use super::quota::Quota;
use super::source::Ask;
use super::token::Token;

/// The rest of a round.
#[derive(Debug)]
pub(super) struct Round {
    ask: Ask,
    tokens: std::vec::IntoIter<Token>,
}

impl Poller {
    /// Begins a round.
    pub(super) fn ask_everyone(&mut self, ask: Ask) {
        // Who comes later is asked what holds from then on.
        if ask != Ask::StopAccepting {
            self.asked = Some(ask);
        }
        self.round = Some(Round {
            ask,
            tokens: self.registry.tokens().into_iter(),
        });
    }

    /// Asks the next sources of the round, if one is under way.
    pub(super) fn go_on_asking(&mut self) {
        let mut quota = Quota::default();
        while quota.take() {
            let Some(round) = &mut self.round else {
                return;
            };
            let ask = round.ask;
            match round.tokens.next() {
                Some(token) => self.call(token, |source, turn| source.asked(ask, turn)),
                None => {
                    self.round = None;
                    self.mailbox.complete(ask);
                    return;
                }
            }
        }
    }
}
