// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a server is seen to do with each connection, and whether it may.
//!
//! The grammar is `(connect request* disconnect)?`: one call at a time, nothing before `connect` has
//! returned, the end told once and not while a call runs, and nothing after it. Handlers of tests
//! are wrapped so that each call is written down; whatever breaks the grammar fails the test when
//! its server has ended. A connection is known by the kernel's number for its socket, which no other
//! ever has.

use std::collections::HashMap;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard};

use netpoll::{BoxError, Connection, Handler};
use socket2::SockRef;

/// What is known of all connections of a server.
#[derive(Default)]
pub(crate) struct Ledger {
    book: Mutex<Book>,
}

#[derive(Default)]
struct Book {
    pages: HashMap<u64, Page>,
    broken: Vec<String>,
}

/// One connection.
#[derive(Debug, Default)]
struct Page {
    connect: Connect,
    running: usize,
    told: usize,
}

/// How far `on_connect` is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Connect {
    /// There is none, or it has not begun.
    #[default]
    None,
    Runs,
    Refused,
    Passed,
}

/// A call that runs.
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
            let said = format!("{what}: {page:?}");
            self.broken.push(said);
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

    /// Writes down that a call begins; it ends with what is returned.
    fn call(&self, cookie: u64, greets: bool) -> Running<'_> {
        let mut book = self.book();
        let page = book.page(cookie);
        let alone = page.running == 0 && page.told == 0;
        page.running += 1;
        let ready = page.connect
            == if greets {
                Connect::Passed
            } else {
                Connect::None
            };
        book.check(alone, "a call beside another, or after the end", cookie);
        book.check(ready, "a request before connect has returned", cookie);
        Running {
            ledger: self,
            cookie,
        }
    }

    /// Writes down that the end is told.
    pub(crate) fn end(&self, conn: &Connection) {
        let cookie = cookie_of(conn);
        let mut book = self.book();
        let page = book.page(cookie);
        page.told += 1;
        let once = page.told == 1;
        let idle = page.running == 0;
        let let_in = matches!(page.connect, Connect::None | Connect::Passed);
        book.check(once, "the end is told twice", cookie);
        book.check(idle, "the end is told while a call runs", cookie);
        book.check(let_in, "the end of one that was not let in", cookie);
    }

    /// Fails if the grammar was broken. After the server has ended, when every connection that was
    /// let in has been told of.
    pub(crate) fn close(&self) {
        let mut book = self.book();
        let missing: Vec<String> = book
            .pages
            .values()
            .filter(|page| match page.connect {
                Connect::None | Connect::Passed => page.told != 1 || page.running != 0,
                Connect::Runs | Connect::Refused => page.told != 0 || page.running != 0,
            })
            .map(|page| format!("at the end of the server: {page:?}"))
            .collect();
        book.broken.extend(missing);
        assert!(book.broken.is_empty(), "{:#?}", book.broken);
    }
}

/// A handler of requests, whose calls are written down.
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

/// A handler of `on_connect`, whose calls are written down.
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

/// A handler of whole lives, whose calls are written down.
pub(crate) fn watched_whole<H, F>(
    ledger: &Arc<Ledger>,
    handler: H,
    greets: bool,
) -> impl Fn(Connection) -> std::pin::Pin<Box<dyn Future<Output = Result<(), BoxError>> + Send>>
+ Send
+ Sync
+ 'static
where
    H: Fn(Connection) -> F + Send + Sync + 'static,
    F: Future<Output = Result<(), BoxError>> + Send + 'static,
{
    let ledger = Arc::clone(ledger);
    move |conn| {
        let ledger = Arc::clone(&ledger);
        let cookie = cookie_of(&conn);
        let life = handler(conn);
        Box::pin(async move {
            let _running = ledger.call(cookie, greets);
            life.await
        })
    }
}
