//! A history that no order explains, for people.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use super::model::{Operation, State};

/// How many operations are shown.
const MOST: usize = 16;

/// Why a history is not linearizable: the first answer that nothing explains, and what led to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Violation {
    /// The last operations up to it, itself included, in the order of their calls.
    shown: Vec<Operation>,
    culprit: Operation,
    /// What the answers before it leave the key with.
    possible: BTreeSet<String>,
}

impl Violation {
    pub(crate) fn new(
        operations: &[Operation],
        culprit: &Operation,
        possible: impl IntoIterator<Item = State>,
    ) -> Self {
        let end = culprit.returned.map_or(u64::MAX, |(moment, _)| moment.tick);
        let mut shown: Vec<_> = operations.iter().filter(|operation| operation.called.tick <= end).cloned().collect();
        // What returned last is nearest to the culprit, which is itself among them.
        shown.sort_by_key(|operation| operation.returned.map_or(u64::MAX, |(moment, _)| moment.tick).min(end + 1));
        let before = shown.iter().position(|operation| operation == culprit).map_or(0, |place| place + 1);
        shown.drain(..before.saturating_sub(MOST));
        shown.sort_by_key(|operation| operation.called.tick);
        let possible = possible.into_iter().map(|state| match state {
            Some(live) => live.value.to_string(),
            None => "nothing".to_owned(),
        });
        Self { shown, culprit: culprit.clone(), possible: possible.collect() }
    }
}

/// A line for each operation: from its call to its return, who, what, and the answer.
impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { shown, culprit, possible } = self;
        let possible: Vec<_> = possible.iter().map(String::as_str).collect();
        writeln!(f, "no order of the operations explains the marked answer")?;
        writeln!(f, "  the answers before it leave the key with {}", possible.join(" or "))?;
        let ticks: BTreeSet<u64> = shown
            .iter()
            .flat_map(|operation| [Some(operation.called.tick), operation.returned.map(|(moment, _)| moment.tick)])
            .flatten()
            .collect();
        let columns: BTreeMap<u64, usize> = ticks.into_iter().zip(0..).collect();
        for operation in shown {
            let column = |tick: u64| columns.get(&tick).copied().unwrap_or_default();
            let start = column(operation.called.tick);
            let (end, close) = match operation.returned {
                Some((moment, _)) => (column(moment.tick), '|'),
                None => (columns.len(), '…'),
            };
            let bar = format!("{}|{}{close}", " ".repeat(start), "-".repeat(end - start - 1));
            write!(f, "  {bar:width$} client {}: {} -> ", operation.client, operation.call, width = columns.len() + 1)?;
            match operation.returned {
                Some((_, answer)) => write!(f, "{answer}")?,
                None => f.write_str("may have happened")?,
            }
            writeln!(f, "{}", if operation == culprit { "  <--" } else { "" })?;
        }
        Ok(())
    }
}
