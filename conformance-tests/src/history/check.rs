//! Checks if a history of one key is linearizable: just-in-time linearization, after Lowe.

use std::collections::HashSet;
use std::fmt;

use super::model::{Call, Condition, Lifetime, Operation, State, Value};
use super::timeline::Violation;

/// The maximum number of possible orders at one return.
const MAX_ORDERS: usize = 100_000;

/// The maximum number of open operations of a key, because an [`Order`] has one bit for each of them.
const MAX_OPEN: usize = 64;

/// A possible order of the operations so far. It is stored as the state of the key after these operations, and a bit
/// for each open slot whose operation the order includes.
type Order = (State, u64);

/// Fails unless the history is linearizable: each operation takes effect at a moment between its call and its return,
/// and the order of these moments explains all answers. A write without return may take effect at any moment after its
/// call, or never.
pub(crate) fn check(operations: &[Operation]) -> Result<(), Unexplained> {
    let seen = seen_values(operations);
    let mut open: Vec<Option<Open<'_>>> = Vec::new();
    let mut orders = HashSet::from([(None, 0)]);
    for (is_return, operation) in events(operations) {
        if !is_return {
            open_slot(&mut open, Open { operation, interchangeable: interchangeable(operation, &seen) });
            continue;
        }
        let Some(slot) =
            open.iter().position(|open| open.as_ref().is_some_and(|open| std::ptr::eq(open.operation, operation)))
        else {
            continue;
        };
        let Some(next) = extend_orders(&orders, &open, 1 << slot) else {
            return Err(Unexplained::TooManyOrders { open: open.iter().flatten().count() });
        };
        if next.is_empty() {
            let states = orders.into_iter().map(|(state, _)| state);
            return Err(Unexplained::Violation(Box::new(Violation::new(operations, operation, states))));
        }
        orders = next;
        if let Some(slot) = open.get_mut(slot) {
            *slot = None;
        }
    }
    Ok(())
}

/// The reason why no order explains a history.
#[derive(Debug)]
pub(crate) enum Unexplained {
    /// No order explains an answer.
    Violation(Box<Violation>),
    /// The check gave up, because too many orders are possible.
    TooManyOrders { open: usize },
}

impl fmt::Display for Unexplained {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Violation(violation) => violation.fmt(f),
            Self::TooManyOrders { open } => write!(
                f,
                "the history cannot be checked: {open} operations without an answer have more than {MAX_ORDERS} orders"
            ),
        }
    }
}

/// An operation that was called and has not returned.
struct Open<'o> {
    operation: &'o Operation,
    interchangeable: Option<Interchangeable>,
}

/// Writes without return that no answer can distinguish: deletes, and sets of values that are in no answer and in no
/// condition. Writes that compare as equal here are interchangeable: if an order that includes one of them explains the
/// answers, so does the order that includes the earliest of them instead. So the check includes them only in the order
/// of their calls, and n of them make n + 1 orders instead of 2^n.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Interchangeable {
    Set(Condition),
    Delete(Condition),
}

fn interchangeable(operation: &Operation, seen: &HashSet<Value>) -> Option<Interchangeable> {
    match operation.call {
        _ if operation.returned.is_some() => None,
        Call::Set { value, condition, lifetime: Lifetime::Never, .. } if !seen.contains(&value) => {
            Some(Interchangeable::Set(condition))
        }
        Call::Delete { condition, .. } => Some(Interchangeable::Delete(condition)),
        _ => None,
    }
}

/// The values in the answers and in the conditions of these operations.
fn seen_values(operations: &[Operation]) -> HashSet<Value> {
    let answered = operations.iter().filter_map(|operation| operation.returned?.1.shown());
    let compared = operations.iter().filter_map(|operation| match operation.call {
        Call::Set { condition: Condition::Value(value), .. }
        | Call::Delete { condition: Condition::Value(value), .. }
        | Call::Check { condition: Condition::Value(value) } => Some(value),
        _ => None,
    });
    answered.chain(compared).collect()
}

/// The calls and the returns, in the order of their ticks. A return is marked with true.
fn events(operations: &[Operation]) -> Vec<(bool, &Operation)> {
    let calls = operations.iter().map(|operation| (operation.called.tick, false, operation));
    let returns = operations.iter().filter_map(|operation| {
        let (moment, _) = operation.returned?;
        Some((moment.tick, true, operation))
    });
    let mut events: Vec<_> = calls.chain(returns).collect();
    events.sort_by_key(|&(tick, ..)| tick);
    events.into_iter().map(|(_, is_return, operation)| (is_return, operation)).collect()
}

fn open_slot<'o>(open: &mut Vec<Option<Open<'o>>>, operation: Open<'o>) {
    match open.iter_mut().find(|slot| slot.is_none()) {
        Some(slot) => *slot = Some(operation),
        None => open.push(Some(operation)),
    }
    assert!(open.len() <= MAX_OPEN, "a history with more than {MAX_OPEN} open operations cannot be checked");
}

/// Extends each order until it includes the operation of the slot with the bit `wanted`, and then clears this bit.
/// Returns `None` if there are too many orders.
fn extend_orders(orders: &HashSet<Order>, open: &[Option<Open<'_>>], wanted: u64) -> Option<HashSet<Order>> {
    let mut next = HashSet::new();
    let mut seen = HashSet::new();
    let mut unexplored: Vec<Order> = orders.iter().copied().collect();
    while let Some((state, included)) = unexplored.pop() {
        if included & wanted != 0 {
            next.insert((state, included & !wanted));
            continue;
        }
        if !seen.insert((state, included)) {
            continue;
        }
        if seen.len() > MAX_ORDERS {
            return None;
        }
        let free = || {
            let slots = open.iter().enumerate().map(|(slot, open)| (1_u64 << slot, open.as_ref()));
            slots.filter_map(move |(bit, open)| open.filter(|_| included & bit == 0).map(|open| (bit, open)))
        };
        for (bit, Open { operation, interchangeable }) in free() {
            let called = operation.called.tick;
            let is_called_earlier =
                |other: &Open<'_>| other.interchangeable == *interchangeable && other.operation.called.tick < called;
            if interchangeable.is_some() && free().any(|(_, other)| is_called_earlier(other)) {
                continue;
            }
            let normalize =
                |state: State| if interchangeable.is_some() { with_unseen_value(state, operation) } else { state };
            unexplored.extend(operation.effects(state).map(|state| (normalize(state), included | bit)));
        }
    }
    Some(next)
}

/// Replaces the value of the state if this operation wrote the value. No answer and no condition contains this value,
/// so all states that differ only in such values become one state.
fn with_unseen_value(state: State, operation: &Operation) -> State {
    state.map(|live| match operation.call {
        Call::Set { value, .. } if value == live.value => live.with_unseen_value(),
        _ => live,
    })
}
