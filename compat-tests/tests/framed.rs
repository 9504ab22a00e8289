// SPDX-License-Identifier: MIT OR Apache-2.0
//! tokio-util's `Framed`, on connections and on their halves.

use futures_util::{SinkExt, StreamExt};
use netpoll_compat_tests::{Server, run};
use tokio_util::codec::{Framed, FramedRead, FramedWrite, LinesCodec};

#[test]
fn lines_are_echoed() {
    let server = Server::on_poller(async |conn| {
        let mut lines = Framed::new(conn, LinesCodec::new());
        while let Some(line) = lines.next().await {
            lines.send(line?).await?;
        }
        Ok(())
    });
    run(async {
        let (reader, writer) = server.connect().await.into_split();
        let sending = tokio::spawn(async move {
            let mut lines = FramedWrite::new(writer, LinesCodec::new());
            for number in 0..10_000 {
                lines.feed(format!("line {number}")).await.unwrap();
            }
            SinkExt::<String>::close(&mut lines).await.unwrap();
            lines
        });
        let mut lines = FramedRead::new(reader, LinesCodec::new());
        for number in 0..10_000 {
            assert_eq!(
                lines.next().await.unwrap().unwrap(),
                format!("line {number}")
            );
        }
        assert!(lines.next().await.is_none());
        drop(sending.await.unwrap());
    });
}
