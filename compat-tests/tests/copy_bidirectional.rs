// SPDX-License-Identifier: MIT OR Apache-2.0
//! tokio's `copy_bidirectional` between two connections of a proxy.

use std::sync::Arc;

use netpoll_compat_tests::{Server, bytes, run};
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};

/// More than all buffers on the way hold.
const LENGTH: usize = 16 << 20;

#[test]
fn proxy_passes_both_directions_and_their_ends() {
    let upstream = Arc::new(Server::on_poller(async |mut conn| {
        let mut received = Vec::new();
        AsyncReadExt::read_to_end(&mut conn, &mut received).await?;
        assert!(received == bytes(LENGTH));
        received.reverse();
        conn.write_all(&received).await?;
        conn.shutdown().await?;
        Ok(())
    }));
    let beyond = Arc::clone(&upstream);
    let proxy = Server::on_poller(async move |mut conn| {
        let mut upstream = beyond.connect().await;
        let copied = copy_bidirectional(&mut conn, &mut upstream).await?;
        assert_eq!(copied, (LENGTH as u64, LENGTH as u64));
        Ok(())
    });
    run(async {
        let mut client = proxy.connect().await;
        client.write_all(&bytes(LENGTH)).await.unwrap();
        client.shutdown().await.unwrap();
        let mut answer = Vec::new();
        client.read_to_end(&mut answer).await.unwrap();
        answer.reverse();
        assert!(answer == bytes(LENGTH));
    });
}
