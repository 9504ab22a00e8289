// SPDX-License-Identifier: MIT OR Apache-2.0
//! Admission: limits, rates, budget, and the listeners that wait.

use super::*;
use crate::sync::{AtomicUsize, Ordering};
use std::task::Wake;

#[derive(Default)]
struct Count(AtomicUsize);

impl Wake for Count {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

fn admission_control(limit: usize, rate: Option<u32>) -> Arc<AdmissionControl> {
    let (budget, event_sink) = (Budget::unlimited(), EventSink::default());
    Arc::new(AdmissionControl::new(limit, rate, budget, event_sink))
}

fn now() -> Instant {
    unreachable!("the rate is not limited")
}

#[test]
fn rejected_acceptor_is_woken_once_by_the_next_released_permit() {
    let admission = admission_control(2, None);
    let count = Arc::new(Count::default());
    let waker = Waker::from(Arc::clone(&count));
    let admit = || admission.admit(&waker, RatePolicy::Limited, now);
    let (one, other) = (admit().unwrap(), admit().unwrap());
    for _ in 0..3 {
        assert_eq!(admit().unwrap_err(), Rejection::AtLimit);
    }
    drop(one);
    assert_eq!(count.0.load(Ordering::SeqCst), 1);
    let third = admit().unwrap();
    drop((other, third));
    assert_eq!(count.0.load(Ordering::SeqCst), 1);
    assert_eq!(admission.stats().pauses_at_limit, 3);
}

#[test]
fn acceptor_without_descriptors_is_woken_by_a_freed_descriptor_only() {
    let admission = admission_control(9, None);
    let count = Arc::new(Count::default());
    let waker = Waker::from(Arc::clone(&count));
    let permit = admission.admit(&waker, RatePolicy::Limited, now).unwrap();
    let with_descriptor = admission.record_accepted(permit, now);
    admission.record_failure(&io::Error::from_raw_os_error(24), &waker);
    drop(
        admission
            .admit(Waker::noop(), RatePolicy::Limited, now)
            .unwrap(),
    );
    assert_eq!(count.0.load(Ordering::SeqCst), 0);
    drop(with_descriptor);
    assert_eq!(count.0.load(Ordering::SeqCst), 1);
}

#[test]
fn accept_rate_bounds_every_second_plus_ten_percent() {
    let admission = admission_control(usize::MAX, Some(100));
    let waker = Waker::noop();
    let start = Instant::now();
    let mut arrivals = Vec::new();
    let mut at = start;
    while at < start + Duration::from_secs(3) {
        match admission.admit(waker, RatePolicy::Limited, || at) {
            Ok(permit) => {
                drop(admission.record_accepted(permit, || at));
                arrivals.push(at);
            }
            Err(Rejection::RateLimited(later)) => {
                assert!(later > at);
                at = later;
            }
            Err(rejection) => panic!("unexpected {rejection:?}"),
        }
    }
    for &first in &arrivals {
        let second = first..first + Duration::from_secs(1);
        let within = arrivals.iter().filter(|&at| second.contains(at)).count();
        assert!(within <= 111, "{within} connections in a second");
    }
    assert!((300..=311).contains(&arrivals.len()), "{}", arrivals.len());
    assert!(admission.admit(waker, RatePolicy::Exempt, now).is_ok());
}

#[test]
fn accept_errors_are_counted_by_kind_and_only_exhaustion_pauses() {
    let admission = admission_control(10, None);
    for (errno, failure) in [
        (
            24,
            AcceptFailure::ResourceExhausted(AcceptPauseReason::Descriptors),
        ),
        (
            23,
            AcceptFailure::ResourceExhausted(AcceptPauseReason::Files),
        ),
        (
            12,
            AcceptFailure::ResourceExhausted(AcceptPauseReason::Memory),
        ),
        (
            105,
            AcceptFailure::ResourceExhausted(AcceptPauseReason::Memory),
        ),
        (103, AcceptFailure::ConnectionOnly),
        (71, AcceptFailure::ConnectionOnly),
    ] {
        let error = io::Error::from_raw_os_error(errno);
        assert_eq!(
            admission.record_failure(&error, Waker::noop()),
            failure,
            "{errno}"
        );
    }
    let expected = AcceptStats {
        aborted_in_queue: 2,
        process_out_of_descriptors: 1,
        system_out_of_files: 1,
        out_of_memory: 2,
        ..AcceptStats::default()
    };
    assert_eq!(admission.stats(), expected);
}

#[test]
fn pause_is_reported_once_a_second_and_resume_only_after_a_reported_pause() {
    let reported = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&reported);
    let event_sink = EventSink::new(move |event| lock(&log).push(event.to_string()));
    let admission = Arc::new(AdmissionControl::new(
        1,
        None,
        Budget::unlimited(),
        event_sink,
    ));
    let admit = || admission.admit(Waker::noop(), RatePolicy::Limited, now);
    let reach_the_limit = || {
        let permit = admit().unwrap();
        for _ in 0..3 {
            assert_eq!(admit().unwrap_err(), Rejection::AtLimit);
        }
        drop(permit);
    };
    reach_the_limit();
    assert_eq!(lock(&reported).len(), 1, "the pause");
    reach_the_limit();
    assert_eq!(lock(&reported).len(), 2, "the resume, and no second pause");
    assert!(admission.next_report_at().is_some());
    drop(admit().unwrap());
    assert_eq!(
        lock(&reported).len(),
        2,
        "no resume of the unreported pause"
    );
    assert_eq!(admission.next_report_at(), None);
    lock(&admission.state).last_report = Instant::now().checked_sub(REPORT_INTERVAL);
    reach_the_limit();
    let reported = lock(&reported).join("\n");
    let begins: Vec<_> = reported.lines().map(|line| &line[..17]).collect();
    let (paused, resumed) = ("accepting paused:", "accepting resumed");
    assert_eq!(begins, [paused, resumed, paused]);
}

#[test]
fn exhaustion_ends_with_an_accepted_connection_not_with_a_permit() {
    let admission = admission_control(9, None);
    admission.record_failure(&io::Error::from_raw_os_error(24), Waker::noop());
    let permit = admission
        .admit(Waker::noop(), RatePolicy::Limited, now)
        .unwrap();
    let pause = lock(&admission.state).pause;
    assert_eq!(pause.unwrap().reason, AcceptPauseReason::Descriptors);
    let _permit = admission.record_accepted(permit, now);
    assert!(lock(&admission.state).pause.is_none());
}

#[test]
fn default_limit_leaves_an_eighth_of_the_descriptors() {
    assert_eq!(AdmissionControl::limit_for(64), 56);
    assert_eq!(AdmissionControl::limit_for(1024), 896);
    assert_eq!(AdmissionControl::limit_for(1 << 20), 65_536);
    assert_eq!(AdmissionControl::limit_for(u64::MAX), 65_536);
    assert_eq!(AdmissionControl::limit_for(0), 1);
}
