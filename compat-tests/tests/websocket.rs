// SPDX-License-Identifier: MIT OR Apache-2.0
//! WebSocket over connections: tokio-tungstenite with tokio's traits, async-tungstenite with those
//! of the futures crates.

use futures_util::{SinkExt, StreamExt};
use netpoll_compat_tests::{Server, bytes, run};

/// The sizes of the messages.
const SIZES: [usize; 5] = [0, 1, 1000, 70_000, 1 << 20];

#[test]
fn messages_are_echoed_with_tokio_tungstenite() {
    use tokio_tungstenite::tungstenite::Message;
    use tokio_tungstenite::{accept_async, client_async};

    let server = Server::on_poller(async |conn| {
        let mut socket = accept_async(conn).await?;
        while let Some(message) = socket.next().await {
            match message? {
                message @ Message::Binary(_) => socket.send(message).await?,
                _ => break,
            }
        }
        Ok(())
    });
    run(async {
        let conn = server.connect().await;
        let (mut socket, _) = client_async("ws://localhost/", conn).await.unwrap();
        for size in SIZES {
            let sent = Message::binary(bytes(size));
            socket.send(sent.clone()).await.unwrap();
            assert!(socket.next().await.unwrap().unwrap() == sent);
        }
        socket.close(None).await.unwrap();
    });
}

#[test]
fn messages_are_echoed_with_async_tungstenite() {
    use async_tungstenite::tungstenite::Message;
    use async_tungstenite::{accept_async, client_async};

    let server = Server::on_poller(async |conn| {
        let mut socket = accept_async(conn).await?;
        while let Some(message) = socket.next().await {
            match message? {
                message @ Message::Binary(_) => socket.send(message).await?,
                _ => break,
            }
        }
        Ok(())
    });
    run(async {
        let conn = server.connect().await;
        let (mut socket, _) = client_async("ws://localhost/", conn).await.unwrap();
        for size in SIZES {
            let sent = Message::binary(bytes(size));
            socket.send(sent.clone()).await.unwrap();
            assert!(socket.next().await.unwrap().unwrap() == sent);
        }
        socket.close(None).await.unwrap();
    });
}
