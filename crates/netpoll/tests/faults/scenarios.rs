// SPDX-License-Identifier: MIT OR Apache-2.0
//! Thirteen uses of netpoll, from start to end: each creates its servers and ends them, and returns
//! any error on the way.

use std::io;
use std::path::Path;
use std::time::Duration;

use netpoll::addr::UnixAddr;
use netpoll::listener::ListenOptions;
use netpoll::options::Timeouts;
use netpoll::{Addr, Connection, Dialer, EventLoop, Listener, Runner};

use crate::client::{BIG, Client, PUSH};
use crate::place::{Place, rpc};
use crate::support::{Kind, LIMIT, block_on, bytes, call, frame, free_path};

/// A scenario and its name.
pub(crate) type Scenario = (&'static str, fn() -> io::Result<()>);

pub(crate) const ALL: [Scenario; 13] = [
    ("one request", one_request),
    ("a dial", a_dial),
    ("a half-close", a_half_close),
    ("large bodies", large_bodies),
    ("pipelined requests", pipelined),
    ("handlers on threads", on_threads),
    ("a push from another thread", a_push),
    ("a shutdown with requests in progress", a_drain),
    ("an abort", an_abort),
    ("a Unix socket", a_unix_socket),
    ("a timeout", a_timeout),
    ("many connections to two pollers", many),
    ("a proxy that holds conversations", a_proxy),
];

/// The time limit of a dial and a shutdown: no fault makes one wait for so long.
const WITHIN: Duration = LIMIT.checked_div(2).expect("by two");

/// Serves rpc over TCP while `body` runs. If the loop failed, that is why `body` failed.
fn served(body: impl FnOnce(&Place) -> io::Result<()>) -> io::Result<()> {
    around(Place::rpc(Kind::Tcp)?, body)
}

fn around(place: Place, body: impl FnOnce(&Place) -> io::Result<()>) -> io::Result<()> {
    let done = body(&place);
    place.end(WITHIN)?;
    done
}

fn one_request() -> io::Result<()> {
    served(|place| {
        let mut client = Client::connect(place.addr)?;
        client.call(b"one")?;
        client.finish()
    })
}

fn a_dial() -> io::Result<()> {
    served(|place| {
        let dialer = Dialer::new().connect_timeout(WITHIN);
        let mut conn = block_on(dialer.dial(place.addr))?;
        conn.local_addr()?;
        block_on(call(&mut conn, &bytes(1000, 1)))?;
        block_on(call(&mut conn, &bytes(100_000, 2)))
    })
}

fn a_half_close() -> io::Result<()> {
    served(|place| {
        let mut client = Client::connect(place.addr)?;
        let request = frame(&bytes(5000, 1));
        client.send(&request)?;
        client.half_close()?;
        client.expect(&request)?;
        client.expect_end()
    })
}

fn large_bodies() -> io::Result<()> {
    served(|place| {
        let mut client = Client::connect(place.addr)?;
        client.call(&bytes(BIG, 1))?;
        client.call(&bytes(BIG, 2))?;
        client.finish()
    })
}

fn pipelined() -> io::Result<()> {
    served(|place| {
        let mut client = Client::connect(place.addr)?;
        let requests: Vec<u8> = (0..100).flat_map(|n| frame(&bytes(n * 10, 1))).collect();
        client.send(&requests)?;
        client.expect(&requests)?;
        client.finish()
    })
}

fn on_threads() -> io::Result<()> {
    let builder = rpc().handler_threads(2);
    around(Place::start(Kind::Tcp, builder)?, |place| {
        let mut clients = [Client::connect(place.addr)?, Client::connect(place.addr)?];
        clients
            .iter_mut()
            .try_for_each(|client| client.call(b"a"))?;
        clients[0].call(&bytes(BIG, 1))?;
        clients.into_iter().try_for_each(Client::finish)
    })
}

fn a_push() -> io::Result<()> {
    served(|place| {
        let mut client = Client::connect(place.addr)?;
        client.call(PUSH)?;
        client.call(b"between")?;
        client.call(PUSH)?;
        client.finish()
    })
}

fn a_drain() -> io::Result<()> {
    let place = Place::rpc(Kind::Tcp)?;
    let mut clients = [Client::connect(place.addr)?, Client::connect(place.addr)?];
    let request = frame(&bytes(2000, 1));
    let sent = clients.iter_mut().try_for_each(|client| {
        client.call(b"before")?;
        client.send(&request)
    });
    place.end(WITHIN)?;
    sent?;
    clients.into_iter().try_for_each(|mut client| {
        client.expect(&request)?;
        client.expect_end()
    })
}

fn an_abort() -> io::Result<()> {
    let aborts = async |conn: &mut Connection| {
        conn.reader().skip(4).await?;
        conn.abort();
        Ok(())
    };
    let place = Place::start(
        Kind::Tcp,
        EventLoop::builder().pollers(1).on_request(aborts),
    )?;
    around(place, |place| {
        let mut client = Client::connect(place.addr)?;
        client.send(b"over")?;
        match client.expect_end() {
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => Ok(()),
            other => other,
        }
    })
}

fn a_unix_socket() -> io::Result<()> {
    let path = free_path();
    let done = over_path(&path);
    if path.exists() {
        return Err(io::Error::other("the path is left"));
    }
    done
}

fn over_path(path: &Path) -> io::Result<()> {
    let addr = Addr::Unix(UnixAddr::path(path)?);
    around(Place::start_on(Listener::bind(addr)?, rpc())?, |place| {
        let mut conn = block_on(Dialer::new().connect_timeout(WITHIN).dial(addr))?;
        block_on(call(&mut conn, b"over a path"))?;
        conn.peer_credentials()?;
        let mut client = Client::connect(place.addr)?;
        client.call(&bytes(BIG, 1))?;
        client.finish()
    })
}

fn a_timeout() -> io::Result<()> {
    let times = Timeouts::default()
        .idle(Duration::from_millis(20))
        .read(Duration::from_millis(20))
        .min_rate(None);
    around(Place::start(Kind::Tcp, rpc().timeouts(times))?, |place| {
        let (mut idle, mut half) = (Client::connect(place.addr)?, Client::connect(place.addr)?);
        idle.call(b"and then nothing")?;
        half.send(&frame(b"half a request")[..9])?;
        let ends = |client: &mut Client| match client.expect_end() {
            // The part of a request that it had sent was not read.
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => Ok(()),
            other => other,
        };
        ends(&mut idle)?;
        ends(&mut half)
    })
}

fn many() -> io::Result<()> {
    let listener = Listener::bind_per_poller("127.0.0.1:0", ListenOptions::default())?;
    around(Place::start_on(listener, rpc().pollers(2))?, |place| {
        let clients: io::Result<Vec<_>> = (0..8).map(|_| Client::connect(place.addr)).collect();
        let mut clients = clients?;
        clients
            .iter_mut()
            .try_for_each(|client| client.call(b"many"))?;
        clients.into_iter().try_for_each(Client::finish)
    })
}

fn a_proxy() -> io::Result<()> {
    served(|upstream| {
        let beyond = upstream.addr;
        let passes_on = async move |mut conn: Connection| {
            let mut upstream = Dialer::new().connect_timeout(WITHIN).dial(beyond).await?;
            while let Some(request) = conn.reader().chunk().await? {
                let mut missing = request.len();
                upstream.writer().append(request);
                while missing > 0 {
                    let Some(answer) = upstream.reader().chunk().await? else {
                        return Ok(());
                    };
                    missing -= answer.len();
                    conn.writer().append(answer);
                }
            }
            Ok(())
        };
        let builder = EventLoop::builder().pollers(1).on_connection(passes_on);
        around(Place::start(Kind::Tcp, builder)?, |place| {
            let mut client = Client::connect(place.addr)?;
            client.call(b"through")?;
            client.call(&bytes(3000, 1))?;
            client.finish()
        })
    })
}
