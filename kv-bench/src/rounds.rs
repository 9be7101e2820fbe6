//! Rounds in turns: what is compared takes its turn in each, so that a noisy machine is noisy to all.

use std::time::{Duration, Instant};

/// How many rounds count; one more goes before them and does not.
const ROUNDS: usize = 7;
/// How long a turn takes, about.
const TURN: Duration = Duration::from_millis(400);

/// A rate over several rounds, in operations a second.
#[derive(Debug, Clone)]
pub(crate) struct Rate {
    pub(crate) median: f64,
    pub(crate) least: f64,
    pub(crate) most: f64,
}

/// Gives each side its turns. A side does some operations and says how many; it is called again until its turn is over.
pub(crate) async fn in_turns<S>(sides: &mut [S], mut operate: impl AsyncFnMut(&mut S) -> usize) -> Vec<Rate> {
    let mut rates = vec![Vec::with_capacity(ROUNDS); sides.len()];
    for round in 0..=ROUNDS {
        for (side, rates) in sides.iter_mut().zip(&mut rates) {
            let (start, mut operations) = (Instant::now(), 0);
            while start.elapsed() < TURN {
                operations += operate(side).await;
            }
            if round > 0 {
                rates.push(operations as f64 / start.elapsed().as_secs_f64());
            }
        }
    }
    rates.into_iter().map(Rate::of).collect()
}

/// How long something takes that happens once a round, as the median of its rounds.
pub(crate) fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times.get(times.len() / 2).copied().unwrap_or_default()
}

impl Rate {
    fn of(mut rates: Vec<f64>) -> Self {
        rates.sort_by(f64::total_cmp);
        let at = |place: usize| rates.get(place).copied().unwrap_or_default();
        Self { median: at(rates.len() / 2), least: at(0), most: at(rates.len().saturating_sub(1)) }
    }
}
