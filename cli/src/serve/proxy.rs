// SPDX-License-Identifier: MIT OR Apache-2.0
//! A proxy: what comes from one side goes to the other, without a copy and at the pace of whoever
//! takes it. The end of one side's stream is passed on, and the other direction goes on.

use netpoll::{Addr, BoxError, Connection, Dialer, OwnedReader, OwnedWriter};

/// A handler that connects each client with `upstream`.
pub(super) fn between(
    upstream: Addr,
) -> impl AsyncFn(Connection) -> Result<(), BoxError> + Send + Sync + 'static {
    async move |client: Connection| {
        let server = Dialer::new().dial(upstream).await?;
        let (from_client, to_client) = client.into_split();
        let (from_server, to_server) = server.into_split();
        let answers = netpoll::spawn(relay(from_server, to_client))?;
        relay(from_client, to_server).await?;
        Ok(answers.await??)
    }
}

/// Moves what comes until there is no more, and then the end of the stream. If one side fails, the
/// other is of no use.
async fn relay(mut from: OwnedReader, mut to: OwnedWriter) -> std::io::Result<()> {
    let moved = pass_on(&mut from, &mut to).await;
    if moved.is_err() {
        from.handle().abort();
        to.handle().abort();
    }
    moved
}

async fn pass_on(from: &mut OwnedReader, to: &mut OwnedWriter) -> std::io::Result<()> {
    let (mut from, mut to) = (from.reader(), to.writer());
    while let Some(bytes) = from.chunk().await? {
        to.append(bytes);
        to.room().await?;
    }
    to.finish();
    to.flush().await
}
