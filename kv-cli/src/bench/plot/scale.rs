//! Logarithmic axes.

/// A logarithmic axis of whole decades.
#[derive(Debug, Clone, Copy)]
pub(super) struct Log {
    from: f64,
    to: f64,
}

impl Log {
    /// Creates the axis that covers the values. Ignores values without a logarithm.
    pub(super) fn around(values: impl Iterator<Item = f64>) -> Self {
        let logs = values.filter(|value| *value > 0.0 && value.is_finite()).map(f64::log10);
        let (from, to) = logs.fold((f64::MAX, f64::MIN), |(from, to), log| (from.min(log), to.max(log)));
        if from > to {
            return Self { from: 0.0, to: 1.0 };
        }
        let (from, to) = (from.floor(), to.ceil());
        Self { from, to: if to > from { to } else { from + 1.0 } }
    }

    /// Returns the position of a value on the axis, from 0 to 1.
    pub(super) fn position(self, value: f64) -> f64 {
        if value > 0.0 { ((value.log10() - self.from) / (self.to - self.from)).clamp(0.0, 1.0) } else { 0.0 }
    }

    /// Returns the powers of ten on the axis.
    pub(super) fn decades(self) -> impl Iterator<Item = f64> {
        let mut decade = self.from;
        std::iter::from_fn(move || {
            let now = decade;
            decade += 1.0;
            (now <= self.to + 0.5).then(|| 10_f64.powf(now))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_axis_covers_the_values_with_whole_decades() {
        let scale = Log::around([20.0, 3_000.0, 0.0].into_iter());
        assert_eq!(scale.decades().map(f64::round).collect::<Vec<_>>(), [10.0, 100.0, 1_000.0, 10_000.0]);
        assert!((scale.position(10.0), scale.position(10_000.0)) == (0.0, 1.0) && scale.position(0.0) == 0.0);
        assert_eq!(Log::around(std::iter::empty()).decades().count(), 2);
    }
}
