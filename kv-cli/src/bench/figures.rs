//! Figures over rounds.

use hdrhistogram::Histogram;
use serde::{Serialize, Serializer};

/// One figure a round, in the order of the rounds.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Series(pub Vec<f64>);

/// The median of some rounds, with the least and the most.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Spread {
    /// Half of the rounds were below.
    #[serde(serialize_with = "rounded")]
    pub median: f64,
    /// The least.
    #[serde(serialize_with = "rounded")]
    pub min: f64,
    /// The most.
    #[serde(serialize_with = "rounded")]
    pub max: f64,
}

impl Series {
    /// Median, least and most; `None` without rounds.
    pub fn spread(&self) -> Option<Spread> {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        let (min, max) = (*sorted.first()?, *sorted.last()?);
        let median = *sorted.get(sorted.len() / 2)?;
        Some(Spread { median, min, max })
    }

    /// This over that, round by round: what else the machine does changes more slowly than the turns of one round follow.
    #[must_use]
    pub fn over(&self, other: &Self) -> Self {
        Self(self.0.iter().zip(&other.0).map(|(one, other)| one / other).collect())
    }
}

/// Latencies in microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Percentiles {
    /// How many were taken.
    pub samples: u64,
    /// Half were faster.
    #[serde(serialize_with = "rounded")]
    pub p50_us: f64,
    /// 9 in 10 were faster.
    #[serde(serialize_with = "rounded")]
    pub p90_us: f64,
    /// 99 in 100 were faster.
    #[serde(serialize_with = "rounded")]
    pub p99_us: f64,
    /// 999 in 1,000 were faster.
    #[serde(serialize_with = "rounded")]
    pub p999_us: f64,
    /// The slowest.
    #[serde(serialize_with = "rounded")]
    pub max_us: f64,
}

/// Latencies as they come in.
#[derive(Debug)]
pub struct Latencies(Histogram<u64>);

impl Latencies {
    /// The longest that is told apart, in nanoseconds: an hour.
    const MAX_NANOS: u64 = 3_600_000_000_000;

    /// None yet.
    pub fn new() -> Self {
        // The bounds are right, so that the second never happens.
        let bounded = Histogram::new_with_bounds(1, Self::MAX_NANOS, 3);
        Self(bounded.unwrap_or_else(|_| unreachable!("an hour in nanoseconds has three digits")))
    }

    /// One more.
    pub fn record(&mut self, nanos: u64) {
        self.0.saturating_record(nanos.max(1));
    }

    /// What they come to; `None` where there is none.
    pub fn percentiles(&self) -> Option<Percentiles> {
        #[expect(clippy::cast_precision_loss, reason = "latencies are far below 2^52 nanoseconds")]
        let micros = |nanos: u64| nanos as f64 / 1_000.0;
        let at = |quantile| micros(self.0.value_at_quantile(quantile));
        (!self.0.is_empty()).then(|| Percentiles {
            samples: self.0.len(),
            p50_us: at(0.5),
            p90_us: at(0.9),
            p99_us: at(0.99),
            p999_us: at(0.999),
            max_us: micros(self.0.max()),
        })
    }
}

impl Default for Latencies {
    fn default() -> Self {
        Self::new()
    }
}

/// Four digits: what follows is noise, and would be most of a report.
#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
fn rounded<S: Serializer>(figure: &f64, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(format!("{figure:.3e}").parse().unwrap_or(*figure))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratios_are_taken_round_by_round() {
        // Twice as slow in the second half, both of them.
        let (ours, raw) = (Series(vec![10.0, 10.0, 5.0]), Series(vec![20.0, 21.0, 10.0]));
        let ratio = ours.over(&raw).spread().unwrap();
        assert_eq!((ratio.median, ratio.max), (0.5, 0.5));
        assert!(ratio.min > 0.47 && Series::default().spread().is_none());
    }

    #[test]
    fn percentiles_are_those_of_what_was_recorded() {
        let mut latencies = Latencies::new();
        assert_eq!(latencies.percentiles(), None);
        (1..=1_000).for_each(|micros| latencies.record(micros * 1_000));
        let found = latencies.percentiles().unwrap();
        let near = |found: f64, wanted: f64| (found - wanted).abs() / wanted < 0.01;
        assert!(found.samples == 1_000 && near(found.p50_us, 500.0) && near(found.p99_us, 990.0), "{found:?}");
        assert!(near(found.max_us, 1_000.0));
    }
}
