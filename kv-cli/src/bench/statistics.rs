//! Statistics over rounds and calls.

use hdrhistogram::Histogram;
use serde::{Serialize, Serializer};

/// One figure per round, in the order of the rounds.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Series(pub Vec<f64>);

/// The median, minimum and maximum over rounds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Spread {
    /// The median.
    #[serde(serialize_with = "rounded")]
    pub median: f64,
    /// The minimum.
    #[serde(serialize_with = "rounded")]
    pub min: f64,
    /// The maximum.
    #[serde(serialize_with = "rounded")]
    pub max: f64,
}

impl Series {
    /// Returns the median, minimum and maximum; `None` without rounds.
    pub fn spread(&self) -> Option<Spread> {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        let (min, max) = (*sorted.first()?, *sorted.last()?);
        let median = *sorted.get(sorted.len() / 2)?;
        Some(Spread { median, min, max })
    }

    /// Returns the ratio of this series to another series, round by round. The load of the machine changes little
    /// during a round, so the load affects both sides of a ratio equally.
    #[must_use]
    pub fn over(&self, other: &Self) -> Self {
        Self(self.0.iter().zip(&other.0).map(|(one, other)| one / other).collect())
    }
}

/// Latencies in microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Percentiles {
    /// The number of samples.
    pub samples: u64,
    /// The p50 latency.
    #[serde(serialize_with = "rounded")]
    pub p50_us: f64,
    /// The p90 latency.
    #[serde(serialize_with = "rounded")]
    pub p90_us: f64,
    /// The p99 latency.
    #[serde(serialize_with = "rounded")]
    pub p99_us: f64,
    /// The p99.9 latency.
    #[serde(serialize_with = "rounded")]
    pub p999_us: f64,
    /// The maximum.
    #[serde(serialize_with = "rounded")]
    pub max_us: f64,
}

/// Records latencies.
#[derive(Debug)]
pub struct Latencies(Histogram<u64>);

impl Latencies {
    /// The maximum recorded latency in nanoseconds: one hour. Longer latencies count as one hour.
    const MAX_NANOS: u64 = 3_600_000_000_000;

    /// Creates an empty recorder.
    pub fn new() -> Self {
        // Cannot fail: the bounds are valid.
        let bounded = Histogram::new_with_bounds(1, Self::MAX_NANOS, 3);
        Self(bounded.unwrap_or_else(|_| unreachable!("the bounds of the histogram are valid")))
    }

    /// Records a latency in nanoseconds.
    pub fn record(&mut self, nanos: u64) {
        self.0.saturating_record(nanos.max(1));
    }

    /// Returns the percentiles; `None` without samples.
    pub fn percentiles(&self) -> Option<Percentiles> {
        #[expect(clippy::cast_precision_loss, reason = "latencies are far below 2^52 nanoseconds")]
        let micros = |nanos: u64| nanos as f64 / 1_000.0;
        let percentile = |quantile| micros(self.0.value_at_quantile(quantile));
        (!self.0.is_empty()).then(|| Percentiles {
            samples: self.0.len(),
            p50_us: percentile(0.5),
            p90_us: percentile(0.9),
            p99_us: percentile(0.99),
            p999_us: percentile(0.999),
            max_us: micros(self.0.max()),
        })
    }
}

impl Default for Latencies {
    fn default() -> Self {
        Self::new()
    }
}

/// Serializes four significant digits. Further digits are noise, and would be most of the text of a report.
#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde requires this signature")]
fn rounded<S: Serializer>(figure: &f64, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(format!("{figure:.3e}").parse().unwrap_or(*figure))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratios_are_computed_within_each_round() {
        // Both series are half as fast in the last round.
        let (ours, raw) = (Series(vec![10.0, 10.0, 5.0]), Series(vec![20.0, 21.0, 10.0]));
        let ratio = ours.over(&raw).spread().unwrap();
        assert_eq!((ratio.median, ratio.max), (0.5, 0.5));
        assert!(ratio.min > 0.47 && Series::default().spread().is_none());
    }

    #[test]
    fn percentiles_match_the_recorded_latencies() {
        let mut latencies = Latencies::new();
        assert_eq!(latencies.percentiles(), None);
        (1..=1_000).for_each(|micros| latencies.record(micros * 1_000));
        let found = latencies.percentiles().unwrap();
        let near = |found: f64, wanted: f64| (found - wanted).abs() / wanted < 0.01;
        assert!(found.samples == 1_000 && near(found.p50_us, 500.0) && near(found.p99_us, 990.0), "{found:?}");
        assert!(near(found.max_us, 1_000.0));
    }
}
