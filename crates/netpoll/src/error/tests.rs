// SPDX-License-Identifier: MIT OR Apache-2.0
//! Each kind of error: its `io::ErrorKind`, its text, and one match for all.

mod rows;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use super::*;
use rows::{ARMS, Row, arm, rows};

#[test]
fn every_error_has_its_kind_its_text_and_its_arm() {
    for Row {
        error,
        arm: expected,
        kind,
        text,
    } in rows()
    {
        assert_eq!(error.kind(), kind, "{text}");
        assert_eq!(error.to_string(), text);
        let reported = error.netpoll_kind().expect(text);
        assert_eq!(arm(&reported), expected, "{text}");
        assert_eq!(reported.to_string(), text);
        let again = io::Error::from(reported);
        assert_eq!((again.kind(), again.to_string()), (kind, text.to_owned()));
        assert_eq!(
            error.is_timeout(),
            kind == io::ErrorKind::TimedOut,
            "{text}"
        );
        assert_eq!(error.is_closed(), expected.starts_with("closed"), "{text}");
        assert_eq!(error.close_reason().is_some(), error.is_closed(), "{text}");
        let is_limit = expected == "frame too large";
        assert_eq!(error.limit(), is_limit.then_some(Limit::Frame), "{text}");
    }
}

#[test]
fn every_variant_has_a_row() {
    let mut arms: Vec<_> = rows().iter().map(|row| row.arm).collect();
    arms.sort_unstable();
    arms.dedup();
    assert_eq!(arms.len(), ARMS, "{arms:?}");
}

#[test]
fn limit_that_ended_the_connection_is_reported() {
    for limit in [Limit::Frame, Limit::Output, Limit::Memory] {
        let error = CloseReason::Limit(limit).to_error();
        assert_eq!(error.limit(), Some(limit));
        assert!(error.is_closed());
    }
}

#[test]
fn shared_error_reports_the_kind_of_its_source() {
    let shared = Arc::new(CloseReason::Local.to_error());
    let error = io::Error::new(shared.kind(), shared);
    assert!(matches!(error.close_reason(), Some(CloseReason::Local)));
}

#[test]
fn kernel_error_has_no_netpoll_kind() {
    let (reset, timed_out) = (104, 110);
    let error = io::Error::from_raw_os_error(reset);
    assert!(error.netpoll_kind().is_none() && error.close_reason().is_none());
    assert!(error.is_closed() && !error.is_timeout());
    let error = io::Error::from_raw_os_error(timed_out);
    assert!(error.is_timeout() && !error.is_closed());
    let foreign = io::Error::other("mine");
    assert!(foreign.netpoll_kind().is_none() && !foreign.is_closed());
}

#[test]
fn errno_survives_conversion_to_a_close_reason() {
    let reason = CloseReason::Broken(Arc::new(io::Error::from_raw_os_error(104)));
    assert_eq!(reason.to_error().raw_os_error(), Some(104));
}

#[test]
fn propagated_connection_error_keeps_its_reason() {
    fn passed_on(error: impl Into<io::Error>) -> CloseReason {
        CloseReason::from_handler_error(Box::new(error.into()))
    }
    let large = [
        passed_on(TooLarge::new(1, 2)),
        passed_on(ErrorKind::frame_too_large("max_frame", 1, 2)),
    ];
    for reason in large {
        assert!(matches!(reason, CloseReason::Limit(Limit::Frame)));
    }
    let eof = passed_on(ErrorKind::UnexpectedEof { have: 1, need: 4 });
    assert!(matches!(eof, CloseReason::PeerFin));
    let timed_out = passed_on(ErrorKind::TimedOut {
        timeout: Timeout::Read,
        after: None,
    });
    assert!(matches!(timed_out, CloseReason::Timeout(Timeout::Read)));
    let closed = passed_on(CloseReason::Shutdown.to_error());
    assert!(matches!(closed, CloseReason::Shutdown));
    let own = passed_on(io::Error::other("mine"));
    assert!(matches!(own, CloseReason::Handler(_)));
}

#[test]
fn other_error_becomes_handler_error() {
    let call = ErrorKind::CallTimedOut { after: None };
    for error in ["no".into(), BoxError::from(io::Error::from(call))] {
        let reason = CloseReason::from_handler_error(error);
        assert!(matches!(reason, CloseReason::Handler(_)));
    }
}

#[test]
fn sizes_and_durations_have_readable_units() {
    use super::text::{Grouped, Short, Size};
    let grouped = [
        (0, "0"),
        (999, "999"),
        (1000, "1,000"),
        (1_234_567, "1,234,567"),
    ];
    for (number, text) in grouped {
        assert_eq!(Grouped(number).to_string(), text);
    }
    let sizes = [
        (0, "0 bytes"),
        (1025, "1,025 bytes"),
        (1024, "1 KiB"),
        (3 << 30, "3 GiB"),
    ];
    for (size, text) in sizes {
        assert_eq!(Size(size).to_string(), text);
    }
    let times = [(250, "250µs"), (1_500_000, "1500 ms"), (2_000_000, "2 s")];
    for (micros, text) in times {
        assert_eq!(Short(Duration::from_micros(micros)).to_string(), text);
    }
}
