//! The calls of clients, their answers, and the states of a key that explain an answer.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::time::{Duration, SystemTime};

/// A value that is written only once in a history: the client, and the number of the client's write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Value {
    pub(crate) client: usize,
    pub(crate) number: usize,
}

impl Value {
    /// Stands for the client in a value that is a number. Increments write such values.
    const COUNTER: usize = usize::MAX - 1;

    /// The value of a counter.
    pub(crate) fn number(number: i64) -> Self {
        Self { client: Self::COUNTER, number: usize::try_from(number).unwrap_or_default() }
    }

    fn as_number(self) -> Option<i64> {
        if self.client == Self::COUNTER { i64::try_from(self.number).ok() } else { None }
    }
}

/// The condition of a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Condition {
    Always,
    Absent,
    Present,
    Value(Value),
}

/// The deadline that a write gives to its entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lifetime {
    Never,
    Keep,
    After(Duration),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Call {
    Get,
    Set {
        value: Value,
        condition: Condition,
        lifetime: Lifetime,
        previous: bool,
    },
    Delete {
        condition: Condition,
        previous: bool,
    },
    /// `None` removes the deadline.
    Touch {
        ttl: Option<Duration>,
    },
    Increment {
        by: i64,
    },
    /// A check of a transaction.
    Check {
        condition: Condition,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answer {
    Found(Option<Value>),
    /// An entry with its deadline; `None` if the entry never expires.
    FoundUntil(Value, Option<SystemTime>),
    Stored,
    /// Stored, with the previous value.
    Replaced(Option<Value>),
    Deleted,
    /// Deleted, with the previous value.
    Took(Value),
    Missing,
    /// The answer to a delete in a transaction, which does not show if the key was present.
    Absent,
    Refused(Option<Value>),
    Touched(bool),
    Sum(i64),
    /// The value is not a number.
    Invalid,
    Holds(bool),
}

impl Answer {
    /// The value that the answer shows.
    pub(crate) fn shown(self) -> Option<Value> {
        match self {
            Self::Found(value) | Self::Refused(value) | Self::Replaced(value) => value,
            Self::FoundUntil(value, _) | Self::Took(value) => Some(value),
            Self::Sum(sum) => Some(Value::number(sum)),
            Self::Stored
            | Self::Deleted
            | Self::Missing
            | Self::Absent
            | Self::Touched(_)
            | Self::Invalid
            | Self::Holds(_) => None,
        }
    }
}

/// A moment in the order of all calls and returns, and its time on the clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Moment {
    pub(crate) tick: u64,
    pub(crate) time: SystemTime,
}

/// A call of a client on a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Operation {
    pub(crate) client: usize,
    pub(crate) call: Call,
    pub(crate) called: Moment,
    /// `None` if the call is a write that has no answer. The write may have taken effect, may still take effect, or may
    /// never do so.
    pub(crate) returned: Option<(Moment, Answer)>,
}

/// The recorded calls of clients.
#[derive(Debug, Default)]
pub(crate) struct History {
    /// For each key, the calls. A call on several keys is recorded for each of them.
    pub(crate) keys: BTreeMap<&'static str, Vec<Operation>>,
    pub(crate) transactions: Vec<Transaction>,
}

/// The sets of a committed transaction, or of a transaction without an answer.
#[derive(Debug)]
pub(crate) struct Transaction {
    pub(crate) client: usize,
    pub(crate) called: Moment,
    pub(crate) sets: Vec<(&'static str, Value)>,
}

/// The state of a key; `None` if it is absent.
pub(crate) type State = Option<Live>;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Live {
    pub(crate) value: Value,
    /// The earliest and the latest possible deadline, if the entry has a deadline.
    deadline: Option<(SystemTime, SystemTime)>,
}

impl Condition {
    fn holds(self, current: Option<Value>) -> bool {
        match self {
            Self::Always => true,
            Self::Absent => current.is_none(),
            Self::Present => current.is_some(),
            Self::Value(value) => current == Some(value),
        }
    }
}

impl Live {
    /// Returns the entry with a value that no client writes.
    pub(crate) fn with_unseen_value(self) -> Self {
        Self { value: Value { client: usize::MAX, number: 0 }, ..self }
    }
}

impl Operation {
    /// Returns the possible states after the operation, if the operation starts from this state and returns the
    /// recorded answer. Returns none if the answer cannot come from this state.
    ///
    /// An operation reads the clock at some moment between its call and its return. It may read the key at another
    /// moment: a write that was checked just before a deadline may take effect just after the deadline. So an operation
    /// that found the entry proves only that the deadline is after its call. An operation that did not find the entry
    /// proves only that the deadline is before its return.
    pub(crate) fn effects(&self, state: State) -> impl Iterator<Item = State> {
        let if_live = match state {
            None => None,
            Some(Live { deadline: None, .. }) => Some(state),
            Some(Live { value, deadline: Some((first, last)) }) => (self.called.time <= last)
                .then(|| Some(Live { value, deadline: Some((first.max(self.called.time), last)) })),
        };
        let if_expired = match (state, self.returned) {
            (None, _) => Some(None),
            (Some(Live { deadline: None, .. }), _) => None,
            (Some(_), None) => Some(state),
            (Some(Live { value, deadline: Some((first, last)) }), Some((moment, _))) => {
                (moment.time >= first).then(|| Some(Live { value, deadline: Some((first, last.min(moment.time))) }))
            }
        };
        let if_live = if_live.and_then(|state| self.effect(state, state));
        let if_expired = if_expired.and_then(|state| self.effect(None, state));
        [if_live, if_expired].into_iter().flatten()
    }

    /// Returns the state after the operation, if the operation sees `seen` and returns the recorded answer. The state
    /// is `unchanged` if the operation changes nothing. Returns `None` if the answer cannot come from `seen`.
    fn effect(&self, seen: State, unchanged: State) -> Option<State> {
        let answer = self.returned.map(|(_, answer)| answer);
        let current = seen.map(|live| live.value);
        let (expected, after) = match self.call {
            Call::Get => return self.read(seen, unchanged),
            Call::Check { condition } => (Answer::Holds(condition.holds(current)), unchanged),
            Call::Set { condition, .. } | Call::Delete { condition, .. } if !condition.holds(current) => {
                (Answer::Refused(current), unchanged)
            }
            Call::Set { value, lifetime, previous, .. } => {
                let deadline = match lifetime {
                    Lifetime::Never => None,
                    Lifetime::Keep => seen.and_then(|live| live.deadline),
                    Lifetime::After(ttl) => Some(self.deadline_range(ttl)),
                };
                (if previous { Answer::Replaced(current) } else { Answer::Stored }, Some(Live { value, deadline }))
            }
            Call::Delete { .. } if answer == Some(Answer::Absent) => {
                (Answer::Absent, if current.is_some() { None } else { unchanged })
            }
            Call::Delete { previous, .. } => match current {
                None => (Answer::Missing, unchanged),
                Some(value) => (if previous { Answer::Took(value) } else { Answer::Deleted }, None),
            },
            Call::Touch { ttl } => match seen {
                None => (Answer::Touched(false), unchanged),
                Some(Live { value, .. }) => {
                    let deadline = ttl.map(|ttl| self.deadline_range(ttl));
                    (Answer::Touched(true), Some(Live { value, deadline }))
                }
            },
            Call::Increment { by } => match seen {
                None => (Answer::Sum(by), Some(Live { value: Value::number(by), deadline: None })),
                Some(Live { value, deadline }) => match value.as_number() {
                    None => (Answer::Invalid, unchanged),
                    Some(number) => {
                        let sum = number + by;
                        (Answer::Sum(sum), Some(Live { value: Value::number(sum), deadline }))
                    }
                },
            },
        };
        answer.is_none_or(|answer| answer == expected).then_some(after)
    }

    /// Returns the state after a `get` that sees `seen`. The shown deadline narrows the range of possible deadlines.
    fn read(&self, seen: State, unchanged: State) -> Option<State> {
        const ROUNDING: Duration = Duration::from_millis(1);
        match (self.returned.map(|(_, answer)| answer), seen) {
            (Some(Answer::Found(value)), seen) => (value == seen.map(|live| live.value)).then_some(unchanged),
            (Some(Answer::FoundUntil(value, shown)), Some(live)) if value == live.value => match (shown, live.deadline)
            {
                (None, None) => Some(unchanged),
                (Some(shown), Some((first, last))) if first <= shown + ROUNDING && shown <= last + ROUNDING => {
                    Some(Some(Live { value, deadline: Some((shown, shown)) }))
                }
                _ => None,
            },
            _ => None,
        }
    }

    /// The range of the deadline that this write sets.
    fn deadline_range(&self, ttl: Duration) -> (SystemTime, SystemTime) {
        const FOR_EVER: Duration = Duration::from_secs(1 << 32);
        let last = self.returned.map_or(self.called.time + FOR_EVER, |(moment, _)| moment.time);
        (self.called.time + ttl, last + ttl)
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.as_number() {
            Some(number) => write!(f, "{number}"),
            None => write!(f, "{}.{}", self.client, self.number),
        }
    }
}

impl FromStr for Value {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let Some((client, number)) = text.split_once('.') else {
            return text.parse().map(Self::number).map_err(drop);
        };
        Ok(Self { client: client.parse().map_err(drop)?, number: number.parse().map_err(drop)? })
    }
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let condition = match self {
            Self::Get => return f.write_str("get"),
            Self::Touch { ttl: Some(ttl) } => return write!(f, "touch for {ttl:?}"),
            Self::Touch { ttl: None } => return f.write_str("touch for ever"),
            Self::Increment { by } => return write!(f, "increment by {by}"),
            Self::Set { value, condition, lifetime, previous } => {
                write!(f, "set {value}")?;
                match lifetime {
                    Lifetime::Never => {}
                    Lifetime::Keep => f.write_str(" with the old deadline")?,
                    Lifetime::After(ttl) => write!(f, " for {ttl:?}")?,
                }
                f.write_str(if *previous { " with the previous value" } else { "" })?;
                condition
            }
            Self::Delete { condition, previous } => {
                f.write_str(if *previous { "take" } else { "delete" })?;
                condition
            }
            Self::Check { condition } => {
                f.write_str("check")?;
                condition
            }
        };
        match condition {
            Condition::Always => Ok(()),
            Condition::Absent => f.write_str(" if absent"),
            Condition::Present => f.write_str(" if present"),
            Condition::Value(value) => write!(f, " if the value is {value}"),
        }
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (prefix, value) = match self {
            Self::Stored => return f.write_str("stored"),
            Self::Deleted => return f.write_str("deleted"),
            Self::Missing => return f.write_str("was absent"),
            Self::Absent => return f.write_str("is absent"),
            Self::Invalid => return f.write_str("not a number"),
            Self::Sum(sum) => return write!(f, "{sum}"),
            Self::Touched(is_live) | Self::Holds(is_live) => return write!(f, "{is_live}"),
            Self::FoundUntil(value, None) => return write!(f, "{value}, which never expires"),
            Self::FoundUntil(value, Some(deadline)) => {
                let since = deadline.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
                return write!(f, "{value} until {} ms", since.as_millis());
            }
            Self::Took(value) => return write!(f, "took {value}"),
            Self::Found(value) => ("", value),
            Self::Replaced(value) => ("stored, previous value ", value),
            Self::Refused(value) => ("refused, current value ", value),
        };
        match value {
            Some(value) => write!(f, "{prefix}{value}"),
            None => write!(f, "{prefix}none"),
        }
    }
}
