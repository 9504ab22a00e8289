// SPDX-License-Identifier: MIT OR Apache-2.0
//! Handlers that know their connection, and their errors.

use super::*;

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
        .state(move |_conn, handle| {
            count.fetch_add(1, Ordering::SeqCst);
            // It need not be `Send`.
            std::rc::Rc::new(std::cell::RefCell::new(vec![
                handle.peer_addr().to_string(),
            ]))
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
fn value_that_on_connect_attached_becomes_the_state() {
    let served = Server::new(codec())
        .state(|conn, _handle| *conn.take_attached::<String>().expect("the name"))
        .serve(async |request: Message, conn| reply(&request, conn.state().clone()));
    let greeted = EventLoop::builder().on_connect(async |conn: &mut Connection| {
        let name = conn.reader().read_string(4).await?;
        conn.attach(name);
        Ok(())
    });
    let server = Running::start(greeted.on_connection(served));
    let mut conn = block_on(Dialer::new().dial(server.addr)).unwrap();
    conn.writer().put_str("Anne");
    let client = Client::new(conn, codec());
    assert_eq!(call(&client, "").unwrap(), "Anne");
}

#[test]
fn task_of_an_executor_knows_its_connection_and_pushes() {
    let served = Server::new(codec())
        .state(|conn, _handle| conn.peer_addr().to_string())
        .serve_on(
            Arc::new(Threads),
            |request: Message, conn: ServerConnection<String>| async move {
                conn.push(Message::new(b"a push")).await?;
                assert_eq!(*conn.state(), conn.peer_addr().to_string());
                reply(&request, conn.state().clone())
            },
        );
    let builder = EventLoop::builder_on(Runner::Threads(1));
    let server = Running::start(builder.on_connection(served));
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
        EventLoop::builder().on_connection(apart),
    ] {
        let server = Running::start(builder);
        let client = server.client();
        for _ in 0..3 {
            assert_eq!(call(&client, "no such key").unwrap(), "!no such key");
            assert_eq!(call(&client, "fine").unwrap(), "fine");
        }
        assert_eq!(client.stats().connections, 1);
        let error = call(&client, "fatal").unwrap_err();
        let reason = error.close_reason().expect("the end of the connection");
        let by_server = matches!(reason, CloseReason::PeerFin | CloseReason::Broken(_));
        assert!(by_server, "{error}");
        assert_eq!(call(&client, "fine").unwrap(), "fine");
        assert_eq!(client.stats().connections, 2);
    }
}
