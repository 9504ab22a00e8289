// SPDX-License-Identifier: MIT OR Apache-2.0
//! Rows about writing, and about both directions at once.

use std::io::{ErrorKind, IoSlice, Read};
use std::net::Shutdown;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::driving::both;
use crate::{bytes, describe, expect, expect_all, row, send};

row! {
    write_leaves_without_a_flush,
    |stream| {
        let mut seen = vec![describe(stream.write(b"request").await)];
        seen.push(describe(stream.read_u8().await));
        seen
    },
    |peer| {
        expect(&mut peer, b"request");
        send(&mut peer, b"a");
        let _end = peer.read(&mut [0]).expect("the end");
    }
}

row! {
    vectored_write_skips_empty_slices,
    |stream| {
        let mut seen = vec![stream.is_write_vectored().to_string()];
        seen.push(describe(stream.write_vectored(&[]).await));
        let parts = [&b""[..], b"ab", b"", b"cde", b""].map(IoSlice::new);
        seen.push(describe(stream.write_vectored(&parts).await));
        seen.push(describe(stream.write(b"").await));
        seen.push(describe(stream.flush().await));
        seen.push(describe(stream.shutdown().await));
        seen.push(describe(stream.read(&mut [0]).await));
        seen
    },
    |peer| {
        expect_all(&mut peer, b"abcde");
    }
}

row! {
    write_after_shutdown_is_a_broken_pipe,
    |stream| {
        let mut seen = vec![describe(stream.shutdown().await)];
        for _ in 0..2 {
            seen.push(describe(stream.write(b"more").await));
            seen.push(describe(stream.flush().await));
            seen.push(describe(stream.shutdown().await));
        }
        seen
    },
    |peer| {
        expect_all(&mut peer, b"");
    }
}

row! {
    drop_sends_what_was_written,
    |stream| {
        let seen = vec![describe(stream.write_all(&bytes(100_000)).await)];
        drop(stream);
        seen
    },
    |peer| {
        expect_all(&mut peer, &bytes(100_000));
    }
}

row! {
    twenty_mebibytes_pass_to_a_peer_that_stops,
    |stream| {
        let mut seen = vec![describe(stream.write_all(&bytes(20 << 20)).await)];
        seen.push(describe(stream.flush().await));
        seen.push(describe(stream.shutdown().await));
        seen.push(describe(stream.read_u8().await));
        seen
    },
    |peer| {
        let all = bytes(20 << 20);
        expect(&mut peer, &all[..1 << 20]);
        std::thread::sleep(Duration::from_millis(50));
        expect_all(&mut peer, &all[1 << 20..]);
        send(&mut peer, b"!");
    }
}

row! {
    write_to_a_peer_that_is_gone_fails_in_the_end,
    |stream| {
        let failed = loop {
            if let Err(error) = stream.write_all(&bytes(10_000)).await {
                break error.kind();
            }
        };
        let gone = matches!(failed, ErrorKind::BrokenPipe | ErrorKind::ConnectionReset);
        vec![gone.to_string()]
    },
    |peer| {
        expect(&mut peer, &bytes(10));
        drop(peer);
    }
}

row! {
    two_halves_read_and_write_at_once,
    |stream| {
        let (mut reader, mut writer) = tokio::io::split(stream);
        let sent = bytes(4 << 20);
        let writing = async {
            let written = writer.write_all(&sent).await;
            (describe(written), describe(writer.shutdown().await))
        };
        let reading = async {
            let mut received = Vec::new();
            let read = reader.read_to_end(&mut received).await;
            (describe(read), received == sent)
        };
        let ((written, shut), (read, same)) = both(writing, reading).await;
        vec![written, shut, read, same.to_string()]
    },
    |peer| {
        let mut from = peer.try_clone().expect("a descriptor");
        std::io::copy(&mut from, &mut peer).expect("an echo");
        peer.shutdown(Shutdown::Write).expect("an open stream");
    }
}
