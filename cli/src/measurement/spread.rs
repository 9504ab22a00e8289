// SPDX-License-Identifier: MIT OR Apache-2.0
//! What several rounds of one measurement say together.
//!
//! A median and not a mean: a round in which the machine did something else does not decide. The
//! ratio of two servers is the median of the ratios of their rounds, since two turns that follow
//! each other have met the same machine, and the first and the last round may not have.

/// The middle and the ends of some samples.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) min: f64,
    pub(crate) max: f64,
}

impl Spread {
    /// That of `samples`, in any order; none of none.
    pub(crate) fn of(samples: &[f64]) -> Option<Self> {
        let mut sorted = samples.to_vec();
        sorted.sort_by(f64::total_cmp);
        let (below, above) = (sorted.len().checked_sub(1)? / 2, sorted.len() / 2);
        Some(Self {
            median: f64::midpoint(sorted[below], sorted[above]),
            min: sorted[0],
            max: *sorted.last()?,
        })
    }

    /// How far from the median the furthest sample is, as a share of it; none for a median of 0.
    pub(crate) fn deviation(&self) -> Option<f64> {
        let furthest = (self.max - self.median).max(self.median - self.min);
        (self.median > 0.0).then(|| furthest / self.median)
    }
}

/// The median of the ratios of rounds that belong together, where the second is above 0.
pub(crate) fn ratio(ours: &[f64], others: &[f64]) -> Option<f64> {
    let pairs = ours.iter().zip(others);
    let ratios: Vec<f64> = pairs
        .filter(|(_, other)| **other > 0.0)
        .map(|(our, other)| our / other)
        .collect();
    Spread::of(&ratios).map(|spread| spread.median)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_of_an_even_number_is_between_the_two_in_the_middle() {
        let spread = Spread::of(&[8.0, 1.0, 4.0, 2.0]).unwrap();
        assert_eq!((spread.median, spread.min, spread.max), (3.0, 1.0, 8.0));
        assert_eq!(Spread::of(&[7.0]).unwrap().median, 7.0);
        assert_eq!(Spread::of(&[]), None);
    }

    #[test]
    fn the_deviation_is_that_of_the_furthest_sample() {
        let spread = Spread::of(&[9.0, 10.0, 13.0]).unwrap();
        assert!((spread.deviation().unwrap() - 0.3).abs() < 1e-9);
        let spread = Spread::of(&[4.0, 10.0, 13.0]).unwrap();
        assert!((spread.deviation().unwrap() - 0.6).abs() < 1e-9);
        assert_eq!(Spread::of(&[0.0]).unwrap().deviation(), None);
    }

    #[test]
    fn a_ratio_is_that_of_rounds_that_belong_together() {
        // The medians of the two sides are alike; in every round but one ours is the half.
        let (ours, others) = ([1.0, 5.0, 9.0], [2.0, 10.0, 4.5]);
        assert_eq!(ratio(&ours, &others), Some(0.5));
    }

    #[test]
    fn a_round_without_anything_to_compare_with_has_no_ratio() {
        assert_eq!(ratio(&[1.0, 3.0], &[0.0, 1.0]), Some(3.0));
        assert_eq!(ratio(&[1.0], &[0.0]), None);
    }
}
