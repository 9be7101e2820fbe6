//! The calls of clients, their answers, and the states of a key that explain an answer.

use std::fmt;
use std::str::FromStr;
use std::time::{Duration, SystemTime};

/// A value that is written only once in a history: the client, and the number of the client's write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Value {
    pub(crate) client: usize,
    pub(crate) number: usize,
}

/// The condition of a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Condition {
    Always,
    Absent,
    Present,
    Value(Value),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Call {
    Get,
    Set { value: Value, condition: Condition, ttl: Option<Duration> },
    Delete { condition: Condition },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answer {
    Found(Option<Value>),
    Stored,
    Deleted,
    Missing,
    Refused(Option<Value>),
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
    /// `None` if the call is a write that has no answer. It may have taken effect, may still take effect, or may never
    /// do so.
    pub(crate) returned: Option<(Moment, Answer)>,
}

/// The state of a key; `None` if it is absent.
pub(crate) type State = Option<Live>;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Live {
    pub(crate) value: Value,
    /// The first and the last moment at which the deadline may be, if the entry has a deadline.
    deadline: Option<(SystemTime, SystemTime)>,
}

impl Live {
    /// The same entry with a value that no client writes.
    pub(crate) fn with_unseen_value(self) -> Self {
        Self { value: Value { client: usize::MAX, number: 0 }, ..self }
    }
}

impl Operation {
    /// Returns the possible states after the operation, if the operation starts from this state and returns the
    /// recorded answer. Returns none if the answer cannot come from this state.
    ///
    /// An operation reads the clock at some moment between its call and its return, which need not be the moment when
    /// it reads the key: a write that was checked just before a deadline may take effect just after it. So an operation
    /// that found the entry proves only that the deadline is after its call, and one that did not find it proves only
    /// that the deadline is before its return.
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
        let (condition, after) = match self.call {
            Call::Get => return (answer == Some(Answer::Found(current))).then_some(unchanged),
            Call::Set { value, condition, ttl } => {
                (condition, Some(Live { value, deadline: ttl.map(|ttl| self.deadline_range(ttl)) }))
            }
            Call::Delete { condition } => (condition, None),
        };
        let holds = match condition {
            Condition::Always => true,
            Condition::Absent => current.is_none(),
            Condition::Present => current.is_some(),
            Condition::Value(value) => current == Some(value),
        };
        let (expected, after) = match self.call {
            _ if !holds => (Answer::Refused(current), unchanged),
            Call::Delete { .. } if current.is_none() => (Answer::Missing, unchanged),
            Call::Delete { .. } => (Answer::Deleted, after),
            _ => (Answer::Stored, after),
        };
        answer.is_none_or(|answer| answer == expected).then_some(after)
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
        let Self { client, number } = self;
        write!(f, "{client}.{number}")
    }
}

impl FromStr for Value {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (client, number) = text.split_once('.').ok_or(())?;
        Ok(Self { client: client.parse().map_err(drop)?, number: number.parse().map_err(drop)? })
    }
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let condition = match self {
            Self::Get => return f.write_str("get"),
            Self::Set { value, condition, ttl } => {
                write!(f, "set {value}")?;
                ttl.map_or(Ok(()), |ttl| write!(f, " for {ttl:?}"))?;
                condition
            }
            Self::Delete { condition } => {
                f.write_str("delete")?;
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
            Self::Found(value) => ("", value),
            Self::Refused(value) => ("refused, current value ", value),
        };
        match value {
            Some(value) => write!(f, "{prefix}{value}"),
            None => write!(f, "{prefix}none"),
        }
    }
}
