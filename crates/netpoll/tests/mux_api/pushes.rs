// SPDX-License-Identifier: MIT OR Apache-2.0
//! Messages that a server sends without a call.

use super::*;

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
        .state(move |_conn, handle| subscribed.lock().unwrap().send(handle.clone()).unwrap())
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
    eventually("the end", || conn.try_push(Message::new(b"late")).is_err());
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
        .state(move |_conn, handle| subscribed.lock().unwrap().send(handle.clone()).unwrap())
        .serve(async |request: Message, _conn| Ok(request));
    let options = ConnOptions::default()
        .write_high(64 << 10)
        .write_low(16 << 10);
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
    let kind = error.netpoll_kind();
    let is_named = |kind: &NetpollKind| {
        matches!(
            kind,
            NetpollKind::InvalidConfig {
                option: "on_push",
                ..
            }
        )
    };
    assert!(kind.as_ref().is_some_and(is_named), "{error}");

    let handler = async |request: Message, conn: &ServerConnection| {
        let error = conn.push(Message::new(b"a push")).await.unwrap_err();
        reply(&request, format!("{:?}", error.kind()))
    };
    let served = mux::serve_with(WithErrors(codec()), handler);
    let server = Running::start(EventLoop::builder().on_connection(served));
    assert_eq!(call(&server.client(), "").unwrap(), "Unsupported");
}
