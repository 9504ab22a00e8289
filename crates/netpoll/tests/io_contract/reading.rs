// SPDX-License-Identifier: MIT OR Apache-2.0
//! Rows about reading and the ends of a stream.

use std::future::{Future, poll_fn};
use std::io::Read;
use std::net::Shutdown;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use socket2::SockRef;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::{bytes, describe, expect, expect_all, row, send};

row! {
    end_of_stream_is_read_as_often_as_it_is_asked_for,
    |stream| {
        let mut received = Vec::new();
        let mut seen = vec![describe(stream.read_to_end(&mut received).await)];
        seen.push(format!("{received:?}"));
        for _ in 0..3 {
            seen.push(describe(stream.read(&mut [0; 10]).await));
        }
        seen
    },
    |peer| {
        send(&mut peer, b"abc");
        peer.shutdown(Shutdown::Write).expect("an open stream");
        // Until the stream is dropped.
        let _end = peer.read(&mut [0]).expect("the end");
    }
}

row! {
    read_into_no_room_returns_at_once_and_takes_nothing,
    |stream| {
        let mut seen = vec![describe(stream.read(&mut []).await)];
        seen.push(describe(stream.read_u8().await));
        seen.push(describe(stream.read(&mut []).await));
        seen.push(describe(stream.read_u8().await));
        seen
    },
    |peer| {
        send(&mut peer, b"ab");
        let _end = peer.read(&mut [0]).expect("the end");
    }
}

row! {
    output_goes_on_after_the_peers_fin,
    |stream| {
        let mut seen = vec![describe(stream.read(&mut [0; 10]).await)];
        seen.push(describe(stream.write_all(b"answer").await));
        seen.push(describe(stream.shutdown().await));
        seen.push(describe(stream.read(&mut [0; 10]).await));
        seen
    },
    |peer| {
        peer.shutdown(Shutdown::Write).expect("an open stream");
        expect_all(&mut peer, b"answer");
    }
}

row! {
    input_goes_on_after_the_own_shutdown,
    |stream| {
        let mut seen = vec![describe(stream.write_all(b"request").await)];
        seen.push(describe(stream.shutdown().await));
        let mut received = Vec::new();
        seen.push(describe(stream.read_to_end(&mut received).await));
        seen.push(format!("{received:?}"));
        seen
    },
    |peer| {
        expect_all(&mut peer, b"request");
        send(&mut peer, b"answer");
    }
}

row! {
    reset_fails_a_read_with_its_kind,
    |stream| {
        let mut seen = vec![describe(stream.write_all(b"ready").await)];
        seen.push(describe(stream.read(&mut [0; 10]).await));
        seen
    },
    |peer| {
        expect(&mut peer, b"ready");
        SockRef::from(&peer).set_linger(Some(Duration::ZERO)).expect("an open stream");
    }
}

row! {
    dropped_read_loses_no_byte,
    |stream| {
        let mut target = [0; 10];
        let mut seen = Vec::new();
        {
            let mut read = pin!(stream.read(&mut target));
            let polled = poll_fn(|context| Poll::Ready(read.as_mut().poll(context))).await;
            seen.push(polled.is_pending().to_string());
        }
        seen.push(describe(stream.write_all(b"go").await));
        seen.push(describe(stream.read_exact(&mut target).await));
        seen.push(format!("{target:?}"));
        seen
    },
    |peer| {
        expect(&mut peer, b"go");
        send(&mut peer, &bytes(10));
        let _end = peer.read(&mut [0]).expect("the end");
    }
}

row! {
    large_input_is_read_in_order_with_targets_of_all_sizes,
    |stream| {
        let (mut received, mut target) = (Vec::new(), vec![0; 100_000]);
        let sizes = [1, 100_000, 7, 5000, 20_000, 65_536];
        for size in sizes.into_iter().cycle() {
            match stream.read(&mut target[..size]).await {
                Ok(0) => break,
                Ok(count) => received.extend_from_slice(&target[..count]),
                Err(error) => return vec![error.to_string()],
            }
        }
        vec![(received == bytes(8 << 20)).to_string()]
    },
    |peer| {
        send(&mut peer, &bytes(8 << 20));
        peer.shutdown(Shutdown::Write).expect("an open stream");
        let _end = peer.read(&mut [0]).expect("the end");
    }
}
