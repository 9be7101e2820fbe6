//! The timeline of a history that is not linearizable, for failure texts.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use super::model::{Operation, State};

/// The maximum number of operations in a timeline.
const MAX_OPERATIONS: usize = 16;

/// The violation in a history that is not linearizable: the first unexplained answer, and the operations before it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Violation {
    /// The last operations, up to and including the unexplained operation, in the order of their calls.
    operations: Vec<Operation>,
    unexplained: Operation,
    /// The values that the key may hold after the earlier answers.
    possible: BTreeSet<String>,
}

impl Violation {
    pub(crate) fn new(
        operations: &[Operation],
        unexplained: &Operation,
        possible: impl IntoIterator<Item = State>,
    ) -> Self {
        let end = unexplained.returned.map_or(u64::MAX, |(moment, _)| moment.tick);
        let mut last: Vec<_> = operations.iter().filter(|operation| operation.called.tick <= end).cloned().collect();
        // The operations that returned last are the most relevant. The unexplained operation is among them.
        last.sort_by_key(|operation| operation.returned.map_or(u64::MAX, |(moment, _)| moment.tick).min(end + 1));
        let count = last.iter().position(|operation| operation == unexplained).map_or(0, |index| index + 1);
        last.drain(..count.saturating_sub(MAX_OPERATIONS));
        last.sort_by_key(|operation| operation.called.tick);
        let possible = possible.into_iter().map(|state| match state {
            Some(live) => live.value.to_string(),
            None => "no entry".to_owned(),
        });
        Self { operations: last, unexplained: unexplained.clone(), possible: possible.collect() }
    }
}

/// One line per operation: the interval from call to return, the client, the call, and the answer.
impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { operations, unexplained, possible } = self;
        let possible: Vec<_> = possible.iter().map(String::as_str).collect();
        writeln!(f, "no order of the operations explains the marked answer")?;
        writeln!(f, "  the earlier answers leave the key with: {}", possible.join(" or "))?;
        let ticks: BTreeSet<u64> = operations
            .iter()
            .flat_map(|operation| [Some(operation.called.tick), operation.returned.map(|(moment, _)| moment.tick)])
            .flatten()
            .collect();
        let columns: BTreeMap<u64, usize> = ticks.into_iter().zip(0..).collect();
        for operation in operations {
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
                None => f.write_str("no answer, may have happened")?,
            }
            writeln!(f, "{}", if operation == unexplained { "  <--" } else { "" })?;
        }
        Ok(())
    }
}
