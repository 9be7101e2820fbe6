//! The possible states of one key, and the effect of a call on these states.

use anykv::Version;

use crate::operation::{Answer, Condition, Life, Seen, Value};

/// The least tolerance of clause T-2 in milliseconds, plus one because deadlines are rounded up.
const SLACK_MILLIS: u64 = 6;

/// The tolerance of deadlines (clause T-2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Slack(u64);

impl Default for Slack {
    fn default() -> Self {
        Self(SLACK_MILLIS)
    }
}

impl Slack {
    /// The tolerance for a handle that measured its server's clock during `open`. `micros` is the duration of `open` in
    /// microseconds. The clock error is at most half of a round trip, and a round trip was not longer than `open`.
    pub(crate) fn with_opening(micros: u64) -> Self {
        Self(SLACK_MILLIS + micros.div_ceil(2_000))
    }
}

/// A live entry, as far as the answers show the entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Live {
    pub(crate) value: Value,
    /// `None` if no answer has shown the version yet.
    pub(crate) version: Option<Version>,
    /// The first and the last millisecond at which the deadline may be, if there is a deadline.
    pub(crate) deadline: Option<(u64, u64)>,
}

/// The state of a key; `None` if it is absent.
pub(crate) type State = Option<Live>;

/// The time between a call and its return, in milliseconds since the Unix epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Span {
    start: u64,
    end: u64,
}

/// The part of a call that concerns one key.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Step<'a> {
    Read,
    Write {
        value: &'a Value,
        life: Life,
        when: &'a Condition,
    },
    Remove {
        when: &'a Condition,
    },
    Take,
    Touch(Life),
    Add {
        by: i64,
        life: Life,
    },
    /// A mutation of a transaction that removes the key.
    Erase,
    /// A check of a transaction, and its result.
    Check {
        when: &'a Condition,
        holds: bool,
    },
}

impl Span {
    pub(crate) fn new(start_micros: u64, end_micros: u64, slack: Slack) -> Self {
        Self {
            start: (start_micros / 1_000).saturating_sub(slack.0),
            end: end_micros.div_ceil(1_000).saturating_add(slack.0),
        }
    }

    /// The range of the deadline of a write with this time to live.
    fn deadline(self, millis: u64) -> (u64, u64) {
        (self.start.saturating_add(millis), self.end.saturating_add(millis).saturating_add(1))
    }

    /// True if an entry with this deadline is live for the whole time.
    pub(crate) fn ends_before(self, deadline: Option<u64>) -> bool {
        deadline.is_none_or(|deadline| self.end < deadline)
    }

    /// Returns up to two pairs of the state that a call in this time sees and the stored state: one pair if the entry
    /// can be live, and one pair if it can be expired or absent. The range of the stored deadline is narrowed to the
    /// deadlines that are possible in this case.
    fn views(self, state: &State) -> impl Iterator<Item = (State, State)> + use<> {
        let (live, expired) = match state {
            None => (None, Some((None, None))),
            Some(live) => match live.deadline {
                None => (Some(live.clone()), None),
                Some((first, last)) => {
                    let with = |first, last| Some(Live { deadline: Some((first, last)), ..live.clone() });
                    let seen_live = if self.start <= last { with(first.max(self.start), last) } else { None };
                    let expired = (self.end >= first).then(|| (None, with(first, last.min(self.end))));
                    (seen_live, expired)
                }
            },
        };
        live.map(|live| (Some(live.clone()), Some(live))).into_iter().chain(expired)
    }
}

impl Step<'_> {
    /// Returns the possible states after the step, if the step starts from this state. Without an answer, the step took
    /// effect and its answer is unknown. Returns no state if the answer cannot come from this state.
    pub(crate) fn effects(self, state: &State, span: Span, answer: Option<&Answer>) -> Vec<State> {
        span.views(state).filter_map(|(seen, stored)| self.effect(&seen, stored, span, answer)).collect()
    }

    fn effect(self, seen: &State, stored: State, span: Span, answer: Option<&Answer>) -> Option<State> {
        match self {
            Self::Read => found(seen, stored, answer),
            Self::Check { when, holds } => (is_true(when, seen) == holds).then_some(stored),
            Self::Erase => Some(None),
            Self::Write { when, .. } | Self::Remove { when } if !is_true(when, seen) => match answer {
                None => Some(stored),
                Some(Answer::Refused(current)) => found(seen, stored, Some(&Answer::Found(current.clone()))),
                Some(_) => None,
            },
            Self::Write { value, life, .. } => {
                let version = match answer {
                    None => None,
                    Some(Answer::Stored(version)) => *version,
                    Some(_) => return None,
                };
                Some(Some(Live { value: value.clone(), version, deadline: deadline(life, seen, span) }))
            }
            Self::Remove { .. } => {
                let removed = seen.is_some();
                let fits = answer.is_none_or(|answer| *answer == Answer::Deleted(removed));
                fits.then_some(if removed { None } else { stored })
            }
            Self::Take => {
                let stored = if seen.is_some() { None } else { stored };
                found(seen, stored.clone(), answer).map(|_| stored)
            }
            Self::Touch(life) => {
                let fits = answer.is_none_or(|answer| *answer == Answer::Touched(seen.is_some()));
                let touched = seen.clone().map(|live| Live { deadline: deadline(life, seen, span), ..live });
                fits.then_some(if touched.is_some() { touched } else { stored })
            }
            Self::Add { by, life } => {
                let (before, deadline) = match seen {
                    None => (0, deadline(life, &None, span)),
                    Some(Live { value: Value::Number(number), deadline, .. }) => (*number, *deadline),
                    Some(_) => return None,
                };
                let sum = before.checked_add(by)?;
                let fits = answer.is_none_or(|answer| *answer == Answer::Sum(sum));
                fits.then_some(Some(Live { value: Value::Number(sum), version: None, deadline }))
            }
        }
    }
}

/// Checks a read against the state that the read sees. Returns the stored state with the version and the deadline of
/// the answer.
fn found(seen: &State, stored: State, answer: Option<&Answer>) -> Option<State> {
    match (seen, answer) {
        (_, None) | (None, Some(Answer::Found(None))) => Some(stored),
        (Some(live), Some(Answer::Found(Some(entry)))) => narrow(live, entry).map(Some),
        _ => None,
    }
}

fn narrow(live: &Live, entry: &Seen) -> Option<Live> {
    let is_same_version = entry.version.is_some() && live.version.is_none_or(|version| entry.version == Some(version));
    let deadline = match (live.deadline, entry.deadline) {
        (None, None) => None,
        (Some((first, last)), Some(deadline)) if (first..=last).contains(&deadline) => Some((deadline, deadline)),
        _ => return None,
    };
    (is_same_version && live.value == entry.value).then(|| Live {
        value: entry.value.clone(),
        version: entry.version,
        deadline,
    })
}

fn is_true(when: &Condition, seen: &State) -> bool {
    match (when, seen) {
        (Condition::Always, _) | (Condition::Absent, None) | (Condition::Present, Some(_)) => true,
        (Condition::Value(value), Some(live)) => live.value == *value,
        (Condition::Version(version), Some(live)) => live.version == Some(*version),
        _ => false,
    }
}

fn deadline(life: Life, seen: &State, span: Span) -> Option<(u64, u64)> {
    match life {
        Life::Unlimited => None,
        Life::Keep => seen.as_ref().and_then(|live| live.deadline),
        Life::Millis(millis) => Some(span.deadline(millis)),
    }
}
