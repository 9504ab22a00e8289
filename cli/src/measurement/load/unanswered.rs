// SPDX-License-Identifier: MIT OR Apache-2.0
//! The unanswered requests of a connection, in the order of sending.
//!
//! Responses arrive in request order, so a queue of start times is enough. Requests with the same
//! start time are one entry: a batch of 64 costs one push and, if its responses arrive together,
//! one histogram record.

use std::collections::VecDeque;

/// The unanswered requests of a connection.
#[derive(Debug, Default)]
pub(crate) struct UnansweredRequests {
    batches: VecDeque<RequestGroup>,
    requests: usize,
}

/// Requests with the same start time.
#[derive(Clone, Copy, Debug)]
struct RequestGroup {
    since: u64,
    requests: usize,
}

/// There were more responses than requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct UnexpectedResponse;

impl UnansweredRequests {
    /// Adds requests whose latency counts from `since`. Allocates only when the number of groups
    /// exceeds all earlier ones of this connection.
    #[inline]
    pub(crate) fn add(&mut self, since: u64, requests: usize) {
        self.requests += requests;
        match self.batches.back_mut() {
            Some(last) if last.since == since => last.requests += requests,
            _ => self.batches.push_back(RequestGroup { since, requests }),
        }
    }

    /// Removes as many requests as there are `answers`, oldest first. Passes each group and its
    /// start time to `completed`.
    #[inline]
    pub(crate) fn complete(
        &mut self,
        answers: usize,
        mut completed: impl FnMut(u64, usize),
    ) -> Result<(), UnexpectedResponse> {
        let mut left = answers;
        while left > 0 {
            let first = self.batches.front_mut().ok_or(UnexpectedResponse)?;
            let count = left.min(first.requests);
            completed(first.since, count);
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

    /// Returns the number of unanswered requests.
    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.requests
    }

    /// Removes all requests and passes each group to `removed`.
    pub(crate) fn drain(&mut self, mut removed: impl FnMut(u64, usize)) {
        for batch in self.batches.drain(..) {
            removed(batch.since, batch.requests);
        }
        self.requests = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_complete_in_the_order_of_sending() {
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
    fn a_response_without_a_request_is_an_error() {
        let mut in_flight = UnansweredRequests::default();
        in_flight.add(1, 1);
        assert_eq!(in_flight.complete(2, |_, _| ()), Err(UnexpectedResponse));
    }
}
