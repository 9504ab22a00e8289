// SPDX-License-Identifier: MIT OR Apache-2.0
//! The median, minimum and maximum over the rounds of a measurement.
//!
//! A median, not a mean: a round in which the machine did something else does not decide. The ratio
//! of two servers is the median of the ratios of their rounds. Two consecutive turns meet the same
//! machine load; the first and the last round may not.

/// The median and the range of samples.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) min: f64,
    pub(crate) max: f64,
}

impl Spread {
    /// Returns the spread of `samples`, in any order; `None` for no samples.
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

    /// Returns the largest deviation from the median as a share of the median; `None` for a median
    /// of 0.
    pub(crate) fn deviation(&self) -> Option<f64> {
        let furthest = (self.max - self.median).max(self.median - self.min);
        (self.median > 0.0).then(|| furthest / self.median)
    }
}

/// Returns the median of the ratios of paired rounds. Pairs whose second value is 0 are skipped.
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
    fn the_median_of_an_even_number_is_the_mean_of_the_middle_two() {
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
    fn a_ratio_is_the_median_over_paired_rounds() {
        // The medians of both sides are equal; in every round but one, the ratio is one half.
        let (ours, others) = ([1.0, 5.0, 9.0], [2.0, 10.0, 4.5]);
        assert_eq!(ratio(&ours, &others), Some(0.5));
    }

    #[test]
    fn a_round_with_a_zero_denominator_is_skipped() {
        assert_eq!(ratio(&[1.0, 3.0], &[0.0, 1.0]), Some(3.0));
        assert_eq!(ratio(&[1.0], &[0.0]), None);
    }
}
