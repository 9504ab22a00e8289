// SPDX-License-Identifier: MIT OR Apache-2.0
//! The segments after a chain's first.
//!
//! Nearly every chain has none, and buffers move and are dropped with every burst: so this is one
//! word until there is a second segment, and a queue on the heap from then on.

use std::collections::{VecDeque, vec_deque};

use crate::segment::Segment;

/// A queue of segments; no memory while it has never had one.
#[derive(Default)]
pub(crate) struct Rest {
    #[expect(
        clippy::box_collection,
        reason = "one word while there is nothing, which is nearly always"
    )]
    queue: Option<Box<VecDeque<Segment>>>,
}

impl Rest {
    #[inline]
    pub(crate) const fn new() -> Self {
        Self { queue: None }
    }

    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.queue.as_ref().is_none_or(|queue| queue.is_empty())
    }

    #[inline]
    pub(crate) fn iter(&self) -> vec_deque::Iter<'_, Segment> {
        self.queue
            .as_deref()
            .map(VecDeque::iter)
            .unwrap_or_default()
    }

    #[inline]
    pub(crate) fn back(&self) -> Option<&Segment> {
        self.queue.as_ref()?.back()
    }

    #[inline]
    pub(crate) fn back_mut(&mut self) -> Option<&mut Segment> {
        self.queue.as_mut()?.back_mut()
    }

    #[inline]
    pub(crate) fn pop_front(&mut self) -> Option<Segment> {
        self.queue.as_mut()?.pop_front()
    }

    pub(crate) fn push_back(&mut self, segment: Segment) {
        self.queue.get_or_insert_default().push_back(segment);
    }

    pub(crate) fn push_front(&mut self, segment: Segment) {
        self.queue.get_or_insert_default().push_front(segment);
    }

    /// Moves everything of `other` behind what is here.
    pub(crate) fn append(&mut self, mut other: Self) {
        match (&mut self.queue, &mut other.queue) {
            (Some(own), Some(others)) => own.append(others),
            (None, Some(_)) => *self = other,
            (_, None) => {}
        }
    }
}

impl IntoIterator for Rest {
    type Item = Segment;
    type IntoIter = vec_deque::IntoIter<Segment>;

    fn into_iter(self) -> Self::IntoIter {
        self.queue
            .map(|queue| *queue)
            .unwrap_or_default()
            .into_iter()
    }
}
