// SPDX-License-Identifier: MIT OR Apache-2.0
//! The requests of a connection that are still unanswered, in the order of their sending.
//!
//! Answers come in the order of requests, so a queue of times is all there is to know. Requests of
//! one moment are one entry: a burst of 64 costs one push and, when its answers come together, one
//! record in the histogram.

use std::collections::VecDeque;

/// The unanswered requests of a connection.
#[derive(Debug, Default)]
pub(crate) struct UnansweredRequests {
    batches: VecDeque<RequestGroup>,
    requests: usize,
}

/// Requests that count from the same moment.
#[derive(Clone, Copy, Debug)]
struct RequestGroup {
    since: u64,
    requests: usize,
}

/// More answers came than there were requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct UnexpectedResponse;

impl UnansweredRequests {
    /// Adds requests whose latency counts from `since`. Allocates only when more batches are under
    /// way than ever before on this connection.
    #[inline]
    pub(crate) fn add(&mut self, since: u64, requests: usize) {
        self.requests += requests;
        match self.batches.back_mut() {
            Some(last) if last.since == since => last.requests += requests,
            _ => self.batches.push_back(RequestGroup { since, requests }),
        }
    }

    /// Removes as many requests as there are `answers`, oldest first, and hands each group with the
    /// moment it counts from to `settled`.
    #[inline]
    pub(crate) fn complete(
        &mut self,
        answers: usize,
        mut settled: impl FnMut(u64, usize),
    ) -> Result<(), UnexpectedResponse> {
        let mut left = answers;
        while left > 0 {
            let first = self.batches.front_mut().ok_or(UnexpectedResponse)?;
            let count = left.min(first.requests);
            settled(first.since, count);
            left -= count;
            self.requests -= count;
            if count == first.requests {
                self.batches.pop_front();
            } else {
                first.requests -= count;
            }
        }
        Ok(())
    }

    /// How many there are.
    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.requests
    }

    /// Forgets all of them, handing each group to `forgotten`.
    pub(crate) fn drain(&mut self, mut forgotten: impl FnMut(u64, usize)) {
        for batch in self.batches.drain(..) {
            forgotten(batch.since, batch.requests);
        }
        self.requests = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_answered_in_the_order_of_their_sending() {
        let mut in_flight = UnansweredRequests::default();
        in_flight.add(10, 2);
        in_flight.add(10, 1);
        in_flight.add(20, 4);
        let mut seen = Vec::new();
        in_flight
            .complete(5, |since, count| seen.push((since, count)))
            .unwrap();
        in_flight
            .complete(1, |since, count| seen.push((since, count)))
            .unwrap();
        assert_eq!(seen, [(10, 3), (20, 2), (20, 1)]);
        assert_eq!(in_flight.len(), 1);
    }

    #[test]
    fn an_answer_nobody_asked_for_is_an_error() {
        let mut in_flight = UnansweredRequests::default();
        in_flight.add(1, 1);
        assert_eq!(in_flight.complete(2, |_, _| ()), Err(UnexpectedResponse));
    }
}
