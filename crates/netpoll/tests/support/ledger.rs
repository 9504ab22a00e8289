// SPDX-License-Identifier: MIT OR Apache-2.0
//! Records the calls that a server makes for each connection, and checks their order.
//!
//! The grammar is `(connect request* disconnect)?`: one call at a time, nothing before `connect`
//! has returned, `disconnect` once and not while a call runs, and nothing after it. The handlers of
//! tests are wrapped so that each call is recorded. A violation fails the test when its server has
//! ended. A connection is identified by the kernel's cookie of its socket, which is unique.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};

use netpoll::event_loop::ConnectionHandler;
use netpoll::{BoxError, Connection, Handler};
use socket2::SockRef;

/// The recorded calls of all connections of a server.
#[derive(Default)]
pub(crate) struct Ledger {
    book: Mutex<Book>,
}

#[derive(Default)]
struct Book {
    pages: HashMap<u64, Page>,
    broken: Vec<String>,
}

/// The calls of one connection.
#[derive(Debug, Default)]
struct Page {
    connect: Connect,
    running: usize,
    closes: usize,
}

/// The progress of `on_connect`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Connect {
    /// There is none, or it has not started.
    #[default]
    None,
    Runs,
    Refused,
    Passed,
}

/// A running call.
struct Running<'a> {
    ledger: &'a Ledger,
    cookie: u64,
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.ledger.book().page(self.cookie).running -= 1;
    }
}

impl Book {
    fn page(&mut self, cookie: u64) -> &mut Page {
        self.pages.entry(cookie).or_default()
    }

    fn check(&mut self, holds: bool, what: &str, cookie: u64) {
        if !holds {
            let page = self.page(cookie);
            let violation = format!("{what}: {page:?}");
            self.broken.push(violation);
        }
    }
}

fn cookie_of(conn: &Connection) -> u64 {
    SockRef::from(conn).cookie().expect("an open socket")
}

impl Ledger {
    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().expect("no panic under it")
    }

    /// Records the start of a call; dropping the returned value records its end.
    fn call(&self, cookie: u64, greets: bool) -> Running<'_> {
        let mut book = self.book();
        let page = book.page(cookie);
        let alone = page.running == 0 && page.closes == 0;
        page.running += 1;
        let ready = page.connect
            == if greets {
                Connect::Passed
            } else {
                Connect::None
            };
        book.check(alone, "a call during another, or after the close", cookie);
        book.check(ready, "a request before connect has returned", cookie);
        Running {
            ledger: self,
            cookie,
        }
    }

    /// Records a call of `on_disconnect`.
    pub(crate) fn end(&self, conn: &Connection) {
        let cookie = cookie_of(conn);
        let mut book = self.book();
        let page = book.page(cookie);
        page.closes += 1;
        let once = page.closes == 1;
        let idle = page.running == 0;
        let let_in = matches!(page.connect, Connect::None | Connect::Passed);
        book.check(once, "on_disconnect was called twice", cookie);
        book.check(idle, "on_disconnect was called during a call", cookie);
        book.check(
            let_in,
            "on_disconnect was called for a rejected connection",
            cookie,
        );
    }

    /// Fails on a violation of the grammar. Called after the server has ended, when the close of
    /// every accepted connection has been reported.
    pub(crate) fn close(&self) {
        let mut book = self.book();
        let missing: Vec<String> = book
            .pages
            .values()
            .filter(|page| match page.connect {
                Connect::None | Connect::Passed => page.closes != 1 || page.running != 0,
                Connect::Runs | Connect::Refused => page.closes != 0 || page.running != 0,
            })
            .map(|page| format!("at the end of the server: {page:?}"))
            .collect();
        book.broken.extend(missing);
        assert!(book.broken.is_empty(), "{:#?}", book.broken);
    }
}

/// A request handler whose calls are recorded.
pub(crate) struct Watched<H> {
    pub(crate) ledger: Arc<Ledger>,
    pub(crate) handler: H,
    /// Whether there is an `on_connect`.
    pub(crate) greets: bool,
}

impl<H: Handler> Handler for Watched<H> {
    async fn call(&self, conn: &mut Connection) -> Result<(), BoxError> {
        let _running = self.ledger.call(cookie_of(conn), self.greets);
        self.handler.call(conn).await
    }
}

/// An `on_connect` handler whose calls are recorded.
pub(crate) struct WatchedGreeting<G> {
    pub(crate) ledger: Arc<Ledger>,
    pub(crate) greeting: G,
}

impl<G: Handler> Handler for WatchedGreeting<G> {
    async fn call(&self, conn: &mut Connection) -> Result<(), BoxError> {
        let cookie = cookie_of(conn);
        let _running = self.ledger.call(cookie, false);
        self.ledger.book().page(cookie).connect = Connect::Runs;
        let greeted = self.greeting.call(conn).await;
        self.ledger.book().page(cookie).connect = match greeted {
            Ok(()) => Connect::Passed,
            Err(_) => Connect::Refused,
        };
        greeted
    }
}

/// A connection handler whose calls are recorded.
pub(crate) struct WatchedWhole<H> {
    ledger: Arc<Ledger>,
    handler: H,
    /// Whether there is an `on_connect`.
    greets: bool,
}

impl<H> WatchedWhole<H> {
    pub(crate) fn new(ledger: &Arc<Ledger>, handler: H, greets: bool) -> Self {
        let ledger = Arc::clone(ledger);
        Self {
            ledger,
            handler,
            greets,
        }
    }
}

impl<H: ConnectionHandler> ConnectionHandler for WatchedWhole<H> {
    async fn serve(&self, conn: Connection) -> Result<(), BoxError> {
        let _running = self.ledger.call(cookie_of(&conn), self.greets);
        self.handler.serve(conn).await
    }
}
