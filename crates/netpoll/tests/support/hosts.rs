// SPDX-License-Identifier: MIT OR Apache-2.0
//! Hosts of all kinds to dial, and resolvers for them.

use std::future::Future;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU16, Ordering};

use netpoll::dialer::{Resolve, Resolving};
use netpoll::{Addr, Listener};
use socket2::{Domain, Socket, Type};

use super::{LIMIT, Peer, bound, passing_listener};

/// A server of the tested kind that only accepts.
pub(crate) struct Host {
    pub(crate) addr: Addr,
    listener: Socket,
}

impl Host {
    pub(crate) fn new() -> Self {
        Self::on(passing_listener())
    }

    /// Listens at an address that another host had.
    pub(crate) fn again_at(addr: Addr) -> Self {
        Self::on(match addr {
            Addr::Tcp(addr) => Listener::bind(addr).expect("a port that is free again"),
            Addr::Unix(name) => {
                let name = name.as_abstract_name().expect("a name without a file");
                Listener::abstract_name(name).expect("a name that is free again")
            }
            _ => panic!("{addr} cannot be listened on"),
        })
    }

    fn on(listener: Listener) -> Self {
        let addr = bound(&listener);
        let listener = Socket::from(listener.into_fd());
        listener.set_nonblocking(false).expect("an open socket");
        listener.set_read_timeout(Some(LIMIT)).expect("a timeout");
        Self { addr, listener }
    }

    /// Returns the next connection.
    pub(crate) fn accept(&self) -> Peer {
        let (stream, _) = self.listener.accept().expect("a connection");
        Peer::of(stream)
    }
}

/// Returns an address without a listener.
pub(crate) fn unused_addr() -> SocketAddr {
    let ip = IpAddr::V4(Ipv4Addr::LOCALHOST);
    SocketAddr::new(ip, unused_port(ip))
}

/// Returns a port of `ip` without a listener. It is below the ports that the kernel assigns, so no
/// other test gets it meanwhile.
pub(crate) fn unused_port(ip: IpAddr) -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let first = 10_000 + (std::process::id() % 20) as u16 * 1000;
    let ports = std::iter::repeat_with(|| first + NEXT.fetch_add(1, Ordering::Relaxed) % 1000);
    let unused = |port: &u16| TcpListener::bind(SocketAddr::new(ip, *port)).is_ok();
    ports.take(1000).find(unused).expect("an unused port")
}

/// A listener that does not accept and whose queue is full: the kernel drops further connects.
pub(crate) struct Silent {
    pub(crate) addr: SocketAddr,
    _listener: Socket,
    _queued: Vec<TcpStream>,
}

impl Silent {
    pub(crate) fn new() -> Self {
        let listener = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        let any: SocketAddr = ([127, 0, 0, 1], 0).into();
        listener.bind(&any.into()).expect("a free port");
        listener.listen(0).expect("a listener");
        let addr = listener.local_addr().expect("an address");
        let addr = addr.as_socket().expect("an IP address");
        // The queue holds one connection more than its backlog.
        let queued = TcpStream::connect(addr).expect("room for one");
        Self {
            addr,
            _listener: listener,
            _queued: vec![queued],
        }
    }
}

/// A resolver that calls a function.
pub(crate) struct Says<F>(pub(crate) F);

impl<F, R> Resolve for Says<F>
where
    F: Fn(&str, u16) -> R + Send + Sync,
    R: Future<Output = io::Result<Vec<SocketAddr>>> + Send + 'static,
{
    fn resolve<'a>(&'a self, host: &'a str, port: u16) -> Resolving<'a> {
        Box::pin((self.0)(host, port))
    }
}

/// A resolver that returns `addrs` for every name.
pub(crate) fn says(addrs: &[SocketAddr]) -> impl Resolve + Clone + 'static {
    let addrs = addrs.to_vec();
    std::sync::Arc::new(Says(move |_: &str, _: u16| {
        std::future::ready(Ok(addrs.clone()))
    }))
}
