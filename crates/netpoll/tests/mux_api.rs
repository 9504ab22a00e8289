// SPDX-License-Identifier: MIT OR Apache-2.0
//! Handlers of a mux server that know their connection, pushes, and answers that are errors.

use std::future::Future;
use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::task::{Context, Waker};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use netpoll::codec::{Codec, LengthField, Need};
use netpoll::mux::{self, CallCodec, Client, ClientOptions, Message, Numbered, Server};
use netpoll::time::sleep;
use netpoll::{
    Addr, BoxError, Builder, CloseReason, Closed, ConnOptions, Dialer, EventLoop, InvalidConfig,
    LinkBuffer, Listener, LoopHandle, Runner, Spawn,
};

type ServerConnection<S = ()> = mux::ServerConnection<Message, S>;
type Frames = Numbered<LengthField>;

/// After this time a wait fails its test. No test passes because of it.
const LIMIT: Duration = Duration::from_secs(60);

fn codec() -> Frames {
    Numbered::new(LengthField::new())
}

/// Blocks this thread until `future` is done.
fn block_on<F: Future>(future: F) -> F::Output {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_time().build().expect("a runtime");
    runtime.block_on(async { tokio::time::timeout(LIMIT, future).await.expect("in time") })
}

/// Waits until `is_true` returns true.
fn until(what: &str, is_true: impl Fn() -> bool) {
    let begun = Instant::now();
    while !is_true() {
        assert!(begun.elapsed() < LIMIT, "{what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn text(message: Message) -> String {
    let mut body = message.body;
    let length = body.len();
    body.read_string(length).expect("text")
}

/// A loop on a thread of its own.
struct Running {
    addr: Addr,
    handle: LoopHandle,
    thread: Option<JoinHandle<()>>,
}

impl Running {
    fn start(builder: Builder) -> Self {
        Self::start_on(Listener::bind("127.0.0.1:0").unwrap(), builder)
    }

    fn start_on(listener: Listener, builder: Builder) -> Self {
        let addr = listener.local_addr().unwrap();
        let server = builder.pollers(1).listen(listener).build().unwrap();
        let handle = server.handle();
        let thread = std::thread::spawn(move || server.run().unwrap());
        Self {
            addr,
            handle,
            thread: Some(thread),
        }
    }

    fn client(&self) -> Client<Frames> {
        Client::dialing(Dialer::new(), self.addr, codec(), ClientOptions::default()).unwrap()
    }

    /// Returns a client and the texts of its pushes, each with its id.
    fn subscriber(&self) -> (Client<Frames>, Receiver<(u64, String)>) {
        let (pushed, pushes) = channel();
        let client = Client::builder(codec())
            .on_push(move |message: Message| drop(pushed.send((message.id, text(message)))))
            .dialing(Dialer::new(), self.addr)
            .unwrap();
        (client, pushes)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        block_on(self.handle.shutdown(Duration::ZERO));
        let ended = self.thread.take().unwrap().join();
        assert!(ended.is_ok() || std::thread::panicking());
    }
}

fn call(client: &Client<Frames>, body: &str) -> io::Result<String> {
    block_on(client.call(Message::new(body.as_bytes()))).map(text)
}

/// Answers `request` with `body`.
fn reply(request: &Message, body: String) -> Result<Message, BoxError> {
    Ok(Message::of(request.id, body.into_bytes().into()))
}

/// Runs each task on a thread of its own.
struct Threads;

impl Spawn for Threads {
    fn spawn(&self, task: Pin<Box<dyn Future<Output = ()> + Send>>) {
        std::thread::spawn(move || block_on(task));
    }
}

/// Bodies that start with `!` are the texts of errors.
struct WithErrors(Frames);

impl Codec for WithErrors {
    type Frame = Message;

    fn measure(&self, input: &LinkBuffer) -> io::Result<Need> {
        self.0.measure(input)
    }

    fn decode(&self, bytes: LinkBuffer) -> io::Result<Message> {
        self.0.decode(bytes)
    }

    fn encode(&self, message: Message, output: &mut LinkBuffer) -> io::Result<()> {
        self.0.encode(message, output)
    }
}

impl CallCodec for WithErrors {
    fn id(&self, message: &Message) -> u64 {
        message.id
    }

    fn set_id(&self, message: &mut Message, id: u64) {
        message.id = id;
    }

    fn error_answer(&self, id: u64, error: &BoxError) -> Option<Message> {
        let text = error.to_string();
        let answer = Message::of(id, format!("!{text}").into_bytes().into());
        (text != "fatal").then_some(answer)
    }
}

#[test]
fn handler_knows_the_addresses_of_its_connection() {
    let handler = async |request: Message, conn: &ServerConnection| {
        let seen = format!("{} {}", conn.peer_addr(), conn.local_addr()?);
        reply(&request, seen)
    };
    let server =
        Running::start(EventLoop::builder().on_connection(mux::serve_with(codec(), handler)));
    let conn = block_on(Dialer::new().dial(server.addr)).unwrap();
    let expected = format!("{} {}", conn.local_addr().unwrap(), server.addr);
    let client = Client::new(conn, codec());
    assert_eq!(call(&client, "").unwrap(), expected);
}

#[test]
fn handler_knows_the_credentials_of_a_peer_on_a_unix_socket() {
    let handler = async |request: Message, conn: &ServerConnection| {
        let pid = conn.peer_credentials()?.pid;
        reply(&request, format!("{pid:?}"))
    };
    let name = format!("unix:@netpoll-mux-api-{}", std::process::id());
    let server = Running::start_on(
        Listener::bind(name.as_str()).unwrap(),
        EventLoop::builder().on_connection(mux::serve_with(codec(), handler)),
    );
    let own = std::process::id().to_string();
    let seen = call(&server.client(), "").unwrap();
    assert!(seen.contains(&own), "{seen}, not {own}");
}

#[test]
fn state_is_made_once_for_each_connection_and_shared_by_its_requests() {
    let made = Arc::<AtomicUsize>::default();
    let count = Arc::clone(&made);
    let served = Server::new(codec())
        .state(move |conn| {
            count.fetch_add(1, Ordering::SeqCst);
            // It need not be `Send`.
            std::rc::Rc::new(std::cell::RefCell::new(vec![conn.peer_addr().to_string()]))
        })
        .serve(async |request: Message, conn| {
            let id = request.id;
            let body = text(request);
            conn.state().borrow_mut().push(body);
            let seen = conn.state().borrow()[1..].join(",");
            assert_eq!(conn.state().borrow()[0], conn.peer_addr().to_string());
            Ok(Message::of(id, seen.into_bytes().into()))
        });
    let server = Running::start(EventLoop::builder().on_connection(served));
    let (first, second) = (server.client(), server.client());
    assert_eq!(call(&first, "a").unwrap(), "a");
    assert_eq!(call(&second, "b").unwrap(), "b");
    assert_eq!(call(&first, "c").unwrap(), "a,c");
    assert_eq!(made.load(Ordering::SeqCst), 2);
}

#[test]
fn awaited_pushes_arrive_in_order_before_the_answer_and_match_no_call() {
    let handler = async |request: Message, conn: &ServerConnection| {
        for number in 0..100 {
            // The id of a call, even this one, does not make an answer of it.
            let id = if number % 2 == 0 { request.id } else { 7 };
            let body = number.to_string().into_bytes();
            conn.push(Message::of(id, body.into())).await?;
        }
        reply(&request, "answer".into())
    };
    let server =
        Running::start(EventLoop::builder().on_connection(mux::serve_with(codec(), handler)));
    let (client, pushes) = server.subscriber();
    assert_eq!(call(&client, "").unwrap(), "answer");
    let received: Vec<_> = pushes.try_iter().collect();
    let expected: Vec<_> = (0..100)
        .map(|n| (Message::PUSH_ID, n.to_string()))
        .collect();
    assert_eq!(received, expected);
    assert_eq!(client.stats().unmatched_answers, 0);
}

#[test]
fn clone_of_a_connection_pushes_from_another_thread_while_no_call_is_in_progress() {
    let (subscribed, subscribers) = channel();
    let subscribed = Mutex::new(subscribed);
    let served = Server::new(codec())
        .state(move |conn: &ServerConnection| {
            subscribed.lock().unwrap().send(conn.clone()).unwrap()
        })
        .serve(async |request: Message, _conn| Ok(request));
    let server = Running::start(EventLoop::builder().on_connection(served));
    let (client, pushes) = server.subscriber();
    call(&client, "").unwrap();
    let conn = subscribers.recv().unwrap();
    block_on(conn.push(Message::new(b"awaited"))).unwrap();
    conn.try_push(Message::new(b"at once")).unwrap();
    for body in ["awaited", "at once"] {
        assert_eq!(pushes.recv_timeout(LIMIT).unwrap().1, body);
    }
    drop(client);
    until("the end", || conn.try_push(Message::new(b"late")).is_err());
    let error = block_on(conn.push(Message::new(b"late"))).unwrap_err();
    assert_ne!(error.kind(), ErrorKind::WouldBlock);
}

#[test]
fn kept_clone_does_not_delay_a_drain() {
    let (kept, clones) = channel();
    let kept = Mutex::new(kept);
    let handler = async move |request: Message, conn: &ServerConnection| {
        kept.lock().unwrap().send(conn.clone())?;
        conn.push(Message::new(b"a push")).await?;
        Ok(request)
    };
    let server =
        Running::start(EventLoop::builder().on_connection(mux::serve_with(codec(), handler)));
    let (client, pushes) = server.subscriber();
    call(&client, "").unwrap();
    let conn = clones.recv().unwrap();
    assert_eq!(pushes.recv_timeout(LIMIT).unwrap().1, "a push");
    // No connection is cut at the deadline.
    assert_eq!(block_on(server.handle.shutdown(2 * LIMIT)), 0);
    conn.try_push(Message::new(b"late")).unwrap_err();
    conn.local_addr().unwrap_err();
}

#[test]
fn push_waits_while_the_peer_does_not_read() {
    let (subscribed, subscribers) = channel();
    let subscribed = Mutex::new(subscribed);
    let served = Server::new(codec())
        .state(move |conn: &ServerConnection| {
            subscribed.lock().unwrap().send(conn.clone()).unwrap()
        })
        .serve(async |request: Message, _conn| Ok(request));
    let mut options = ConnOptions::default();
    options.write_high = 64 << 10;
    options.write_low = 16 << 10;
    let builder = EventLoop::builder().options(options);
    let server = Running::start(builder.on_connection(served));
    let Addr::Tcp(addr) = server.addr else {
        unreachable!("a TCP listener")
    };
    let mut peer = TcpStream::connect(addr).unwrap();
    let conn = subscribers.recv_timeout(LIMIT).unwrap();
    let body = vec![b'x'; 8 << 10];
    let mut queued = 0_u64;
    loop {
        match conn.try_push(Message::new(&body)) {
            Ok(()) => queued += 1,
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::WouldBlock);
                // Room may appear until the kernel's buffers are full as well.
                std::thread::sleep(Duration::from_millis(20));
                if conn.try_push(Message::new(&body)).is_err() {
                    break;
                }
                queued += 1;
            }
        }
    }
    let mut waiting = Box::pin(conn.push(Message::new(b"the last")));
    let mut context = Context::from_waker(Waker::noop());
    assert!(waiting.as_mut().poll(&mut context).is_pending());
    let reading = std::thread::spawn(move || {
        let frame = 4 + 8 + (8 << 10);
        let mut bytes = vec![0; queued as usize * frame + 4 + 8 + 8];
        peer.read_exact(&mut bytes).unwrap();
        bytes.split_off(queued as usize * frame)
    });
    block_on(waiting).unwrap();
    let last = reading.join().unwrap();
    assert_eq!(last[..12], [0, 0, 0, 16, 0, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(last[12..], *b"the last");
}

#[test]
fn error_with_a_frame_answers_its_call_and_another_closes_the_connection() {
    let fail = |body: String| -> Result<Message, BoxError> { Err(body.into()) };
    let inline = Server::new(WithErrors(codec())).serve(async move |request: Message, _conn| {
        let id = request.id;
        match text(request).as_str() {
            "fine" => Ok(Message::of(id, b"fine".to_vec().into())),
            wrong => fail(wrong.into()),
        }
    });
    let apart = Server::new(WithErrors(codec())).serve_on(
        Arc::new(Threads),
        move |request: Message, _conn| async move {
            let id = request.id;
            match text(request).as_str() {
                "fine" => Ok(Message::of(id, b"fine".to_vec().into())),
                wrong => fail(wrong.into()),
            }
        },
    );
    for builder in [
        EventLoop::builder().on_connection(inline),
        EventLoop::builder().on_connection_send(apart),
    ] {
        let server = Running::start(builder);
        let client = server.client();
        for _ in 0..3 {
            assert_eq!(call(&client, "no such key").unwrap(), "!no such key");
            assert_eq!(call(&client, "fine").unwrap(), "fine");
        }
        assert_eq!(client.stats().connections, 1);
        let error = call(&client, "fatal").unwrap_err();
        let closed = error.get_ref().and_then(|cause| cause.downcast_ref());
        let closed: &Closed = closed.expect("the end of the connection");
        let by_server = matches!(closed.reason, CloseReason::PeerFin | CloseReason::Broken(_));
        assert!(by_server, "{closed}");
        assert_eq!(call(&client, "fine").unwrap(), "fine");
        assert_eq!(client.stats().connections, 2);
    }
}

#[test]
fn task_of_an_executor_knows_its_connection_and_pushes() {
    let served = Server::new(codec())
        .state(|conn: &ServerConnection| conn.peer_addr().to_string())
        .serve_on(
            Arc::new(Threads),
            |request: Message, conn: ServerConnection<String>| async move {
                conn.push(Message::new(b"a push")).await?;
                assert_eq!(*conn.state(), conn.peer_addr().to_string());
                reply(&request, conn.state().clone())
            },
        );
    let builder = EventLoop::builder().runner(Runner::Threads(1));
    let server = Running::start(builder.on_connection_send(served));
    let (client, pushes) = server.subscriber();
    let peer = call(&client, "").unwrap();
    assert!(peer.starts_with("127.0.0.1:"), "{peer}");
    assert_eq!(pushes.try_recv().unwrap().1, "a push");
}

#[test]
fn at_most_max_in_flight_requests_of_a_connection_are_in_progress() {
    let running = Arc::<AtomicUsize>::default();
    let peak = Arc::<AtomicUsize>::default();
    let (now, most) = (Arc::clone(&running), Arc::clone(&peak));
    let served =
        Server::new(codec())
            .max_in_flight(3)
            .serve(async move |request: Message, _conn| {
                most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                sleep(Duration::from_millis(2)).await;
                now.fetch_sub(1, Ordering::SeqCst);
                Ok(request)
            });
    let server = Running::start(EventLoop::builder().on_connection(served));
    let Addr::Tcp(addr) = server.addr else {
        unreachable!("a TCP listener")
    };
    // All requests are there before the first is read.
    let mut peer = TcpStream::connect(addr).unwrap();
    let mut requests = LinkBuffer::new();
    for id in 0..30 {
        codec()
            .encode(Message::of(id, LinkBuffer::new()), &mut requests)
            .unwrap();
    }
    let length = requests.len();
    peer.write_all(requests.next(length).unwrap()).unwrap();
    peer.read_exact(&mut vec![0; length]).unwrap();
    assert_eq!(peak.load(Ordering::SeqCst), 3);
    assert_eq!(running.load(Ordering::SeqCst), 0);
}

#[test]
fn pushes_to_a_client_without_on_push_are_counted_and_dropped() {
    let handler = async |request: Message, conn: &ServerConnection| {
        conn.push(Message::new(b"a push")).await?;
        Ok(request)
    };
    let server =
        Running::start(EventLoop::builder().on_connection(mux::serve_with(codec(), handler)));
    let client = server.client();
    for number in 1..4 {
        assert_eq!(call(&client, "hello").unwrap(), "hello");
        assert_eq!(client.stats().unmatched_answers, number);
    }
}

#[test]
fn panic_of_on_push_closes_its_connection() {
    let handler = async |request: Message, conn: &ServerConnection| {
        let id = request.id;
        if text(request) == "push" {
            conn.push(Message::new(b"a push")).await?;
        }
        Ok(Message::of(id, LinkBuffer::new()))
    };
    let server =
        Running::start(EventLoop::builder().on_connection(mux::serve_with(codec(), handler)));
    let client = Client::builder(codec())
        .on_push(|_message| panic!("a receiver of a test"))
        .dialing(Dialer::new(), server.addr)
        .unwrap();
    call(&client, "push").unwrap_err();
    assert_eq!(call(&client, "").unwrap(), "");
    assert_eq!(client.stats().connections, 2);
}

#[test]
fn codec_without_a_push_id_neither_pushes_nor_receives_pushes() {
    let built = Client::builder(WithErrors(codec()))
        .on_push(drop)
        .dialing(Dialer::new(), "127.0.0.1:1");
    let error = built.unwrap_err();
    let invalid = error.get_ref().and_then(|cause| cause.downcast_ref());
    assert_eq!(
        invalid.map(|invalid: &InvalidConfig| invalid.field),
        Some("on_push")
    );

    let handler = async |request: Message, conn: &ServerConnection| {
        let error = conn.push(Message::new(b"a push")).await.unwrap_err();
        reply(&request, format!("{:?}", error.kind()))
    };
    let served = mux::serve_with(WithErrors(codec()), handler);
    let server = Running::start(EventLoop::builder().on_connection(served));
    assert_eq!(call(&server.client(), "").unwrap(), "Unsupported");
}
