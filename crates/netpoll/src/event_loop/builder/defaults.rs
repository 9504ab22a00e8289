// SPDX-License-Identifier: MIT OR Apache-2.0
//! The options of a [`Builder`] that its user does not set.

use std::time::Duration;

use super::{Builder, SlowThreshold};
use crate::event::EventSink;
use crate::event_loop::control::ControlOwner;
use crate::event_loop::handler_kind::HandlerKind;
use crate::options::ConnOptions;
use crate::poll::balance::Balance;

impl<K: HandlerKind> Builder<K> {
    /// Creates a builder with default options, whose handlers run on `runner`.
    pub(in crate::event_loop) fn new(runner: K::Runner) -> Self {
        Self {
            control: ControlOwner::default(),
            handler: None,
            on_connect: None,
            observer: None,
            filter: None,
            balance: Balance::default(),
            max_connections: None,
            accept_rate: None,
            listeners: Vec::new(),
            options: ConnOptions::default(),
            pollers: None,
            runner,
            thread_hook: None,
            budget: None,
            busy_poll: Duration::ZERO,
            #[cfg(feature = "signals")]
            shutdown_on_signals: None,
            slow_threshold: SlowThreshold::default(),
            event_sink: EventSink::default(),
            invalid_config: None,
        }
    }
}
