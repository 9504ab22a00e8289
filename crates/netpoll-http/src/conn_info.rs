// SPDX-License-Identifier: MIT OR Apache-2.0
//! [`ConnInfo`]: what is known of the connection of a request.

use std::sync::Arc;

use netpoll::Connection;
use netpoll::addr::Addr;

/// The addresses of a connection. In the extensions of each of its requests; a clone counts a
/// reference.
///
/// ```
/// use netpoll_http::{Body, ConnInfo};
///
/// fn peer(request: &hyper::Request<Body>) -> String {
///     let info = request.extensions().get::<ConnInfo>();
///     info.map_or_else(String::new, |info| info.peer_addr().to_string())
/// }
/// # drop(peer);
/// ```
#[derive(Clone, Debug)]
pub struct ConnInfo(Arc<Addrs>);

#[derive(Debug)]
struct Addrs {
    peer: Addr,
    local: Addr,
}

impl ConnInfo {
    /// Collects the facts about a connection. One allocation and one system call.
    pub(crate) fn new(conn: &Connection) -> Self {
        Self(Arc::new(Addrs {
            peer: conn.peer_addr(),
            // It fails only for lack of kernel memory.
            local: conn.local_addr().unwrap_or(Addr::Unnamed),
        }))
    }

    /// Returns the address of the peer.
    #[must_use]
    pub fn peer_addr(&self) -> &Addr {
        &self.0.peer
    }

    /// Returns the address of this side.
    #[must_use]
    pub fn local_addr(&self) -> &Addr {
        &self.0.local
    }
}
