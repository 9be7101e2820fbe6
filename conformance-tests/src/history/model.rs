//! What clients ask of a key, what they are answered, and which answers a key may give.

use std::fmt;
use std::str::FromStr;
use std::time::{Duration, SystemTime};

/// A value that is written once in a history: by which client, as its how manieth.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Value {
    pub(crate) client: usize,
    pub(crate) number: usize,
}

/// What must be there for a write to happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Over {
    Anything,
    Nothing,
    Something,
    This(Value),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Call {
    Get,
    Set { value: Value, over: Over, ttl: Option<Duration> },
    Delete { over: Over },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answer {
    Found(Option<Value>),
    Stored,
    Deleted,
    Missing,
    Refused(Option<Value>),
}

/// A moment in the order of all calls and returns, and on the clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Moment {
    pub(crate) tick: u64,
    pub(crate) time: SystemTime,
}

/// One call of one client on one key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Operation {
    pub(crate) client: usize,
    pub(crate) call: Call,
    pub(crate) called: Moment,
    /// `None`: a write that may have happened, or may still.
    pub(crate) returned: Option<(Moment, Answer)>,
}

/// What a key holds; `None` is nothing.
pub(crate) type State = Option<Live>;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Live {
    pub(crate) value: Value,
    /// Between which moments its deadline lies, where it has one.
    lapses: Option<(SystemTime, SystemTime)>,
}

impl Live {
    /// The same with a value that no client writes.
    pub(crate) fn unseen(self) -> Self {
        Self { value: Value { client: usize::MAX, number: 0 }, ..self }
    }
}

impl Operation {
    /// The states that the operation may leave, with its answer, where it finds the key in this one. None: it cannot
    /// have been answered so.
    ///
    /// An operation looks at the clock at some moment between its call and its return, and not in one step with the key:
    /// a write that was judged just before a deadline may take effect just behind it. So who found the entry proves that
    /// its deadline is behind the call, and who did not that it is before the return, and that is all.
    pub(crate) fn effects(&self, state: State) -> impl Iterator<Item = State> {
        let there = match state {
            None => None,
            Some(Live { lapses: None, .. }) => Some(state),
            Some(Live { value, lapses: Some((first, last)) }) => (self.called.time <= last)
                .then(|| Some(Live { value, lapses: Some((first.max(self.called.time), last)) })),
        };
        let gone = match (state, self.returned) {
            (None, _) => Some(None),
            (Some(Live { lapses: None, .. }), _) => None,
            (Some(_), None) => Some(state),
            (Some(Live { value, lapses: Some((first, last)) }), Some((moment, _))) => {
                (moment.time >= first).then(|| Some(Live { value, lapses: Some((first, last.min(moment.time))) }))
            }
        };
        let there = there.and_then(|left| self.effect(left, left));
        let gone = gone.and_then(|left| self.effect(None, left));
        [there, gone].into_iter().flatten()
    }

    /// What the operation leaves, with its answer, where it sees this; `left` is what stays where it changes nothing.
    fn effect(&self, seen: State, left: State) -> Option<State> {
        let answer = self.returned.map(|(_, answer)| answer);
        let current = seen.map(|live| live.value);
        let (over, after) = match self.call {
            Call::Get => return (answer == Some(Answer::Found(current))).then_some(left),
            Call::Set { value, over, ttl } => (over, Some(Live { value, lapses: ttl.map(|ttl| self.deadline(ttl)) })),
            Call::Delete { over } => (over, None),
        };
        let holds = match over {
            Over::Anything => true,
            Over::Nothing => current.is_none(),
            Over::Something => current.is_some(),
            Over::This(value) => current == Some(value),
        };
        let (expected, after) = match self.call {
            _ if !holds => (Answer::Refused(current), left),
            Call::Delete { .. } if current.is_none() => (Answer::Missing, left),
            Call::Delete { .. } => (Answer::Deleted, after),
            _ => (Answer::Stored, after),
        };
        answer.is_none_or(|answer| answer == expected).then_some(after)
    }

    /// Between which moments the deadline lies that this write gives.
    fn deadline(&self, ttl: Duration) -> (SystemTime, SystemTime) {
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
        let over = match self {
            Self::Get => return f.write_str("get"),
            Self::Set { value, over, ttl } => {
                write!(f, "set {value}")?;
                ttl.map_or(Ok(()), |ttl| write!(f, " for {ttl:?}"))?;
                over
            }
            Self::Delete { over } => {
                f.write_str("delete")?;
                over
            }
        };
        match over {
            Over::Anything => Ok(()),
            Over::Nothing => f.write_str(" if absent"),
            Over::Something => f.write_str(" if present"),
            Over::This(value) => write!(f, " if it is {value}"),
        }
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (what, value) = match self {
            Self::Stored => return f.write_str("stored"),
            Self::Deleted => return f.write_str("deleted"),
            Self::Missing => return f.write_str("was absent"),
            Self::Found(value) => ("", value),
            Self::Refused(value) => ("refused over ", value),
        };
        match value {
            Some(value) => write!(f, "{what}{value}"),
            None => write!(f, "{what}nothing"),
        }
    }
}
