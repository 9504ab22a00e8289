// SPDX-License-Identifier: MIT OR Apache-2.0
//! An accepted connection on its way to its poller: the filter, the choice of the poller, and the
//! registration.

use std::os::fd::{AsFd, OwnedFd};

use super::Acceptor;
use crate::addr::Addr;
use crate::admission::ConnectionPermit;
use crate::connection::service::Accepted;
use crate::event::{Callback, Event};
use crate::guard::{CaughtPanic, guard};
use crate::listener::destination::{AcceptContext, DestinationSlot};
use crate::listener::filter::{Accept, IncomingConnection};
use crate::options::ConnOptions;
use crate::poll::set::PollerHandle;
use crate::poll::socket_registration::SocketRegistration;
use crate::poll::source::SourceContext;
use crate::sync::Arc;
use crate::tracker::TrackedConnection;

impl Acceptor {
    /// Applies the filter, and hands the connection to a poller.
    pub(super) fn dispatch(
        &self,
        (fd, peer): (OwnedFd, Addr),
        connection_permit: ConnectionPermit,
        slot: DestinationSlot<'_>,
        context: &mut SourceContext,
    ) {
        let entry = SocketRegistration::new(&fd, &self.accept_waker.0);
        let Some(options) = self.options_for(&fd, peer, context) else {
            self.accept_context.admission.record_rejected();
            drop(entry);
            drop(fd);
            drop(connection_permit);
            return;
        };
        let pollers = &self.accept_context.pollers;
        let poller = match self.pinned_poller {
            Some(index) => pollers.nth(index),
            None => self.select_poller(peer, context),
        };
        let accepted = Accepted {
            registration: entry.transfer_to(&fd, poller),
            fd,
            peer,
            options,
            load_guard: poller.add_connection(Some(connection_permit)),
            tracked: TrackedConnection::new(&self.accept_context.destination.config().tracker),
        };
        let factory = slot.into_factory(accepted);
        if poller.is_current() {
            context.register(factory);
        } else {
            poller.register(factory);
        }
    }

    /// Returns the options of a connection; `None` if it is rejected.
    fn options_for(
        &self,
        fd: &OwnedFd,
        peer: Addr,
        context: &mut SourceContext,
    ) -> Option<Arc<ConnOptions>> {
        let config = self.accept_context.destination.config();
        let inherited = &config.options;
        let Some(filter) = &self.accept_context.filter else {
            return Some(Arc::clone(inherited));
        };
        let info = IncomingConnection::new(fd.as_fd(), peer, inherited);
        config.before_call(context);
        let counters = self.accept_waker.0.counters();
        let decision = counters.track_callback(Callback::OnAccept, || guard(|| filter(&info)));
        config.after_call(
            Callback::OnAccept,
            || peer,
            context,
            self.accept_waker.0.counters(),
        );
        let options = match decision {
            Ok(Accept::Accept(own)) => own,
            Ok(Accept::Reject) => return None,
            // A filter that panics rejects the connection.
            Err(CaughtPanic) => {
                self.report_panic(Callback::OnAccept, peer);
                return None;
            }
        };
        options.check().ok()?;
        let budget = self.accept_context.admission.budget();
        budget
            .check(options.max_frame, self.accept_context.pollers.count())
            .ok()?;
        if peer.as_tcp().is_some() {
            options.set_differences(fd.as_fd(), inherited).ok()?;
        }
        Some(Arc::new(options))
    }

    /// Selects the poller of a connection.
    fn select_poller(&self, peer: Addr, context: &mut SourceContext) -> &PollerHandle {
        let AcceptContext {
            pollers, balance, ..
        } = &*self.accept_context;
        let config = self.accept_context.destination.config();
        if !balance.is_custom() {
            return pollers.select(balance, || {});
        }
        config.before_call(context);
        let select = || pollers.select(balance, || self.report_panic(Callback::Balance, peer));
        let counters = self.accept_waker.0.counters();
        let poller = counters.track_callback(Callback::Balance, select);
        config.after_call(
            Callback::Balance,
            || peer,
            context,
            self.accept_waker.0.counters(),
        );
        poller
    }

    fn report_panic(&self, callback: Callback, peer: Addr) {
        let config = self.accept_context.destination.config();
        config
            .event_sink
            .report(&Event::CallbackPanicked { callback, peer });
    }
}
