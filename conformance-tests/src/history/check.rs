//! Whether a history of one key is linearizable: just-in-time linearization, after Lowe.

use std::collections::HashSet;

use super::model::{Answer, Call, Operation, Over, State, Value};
use super::timeline::Violation;

/// How many operations of a key may be open at the same time; more would take too long to order.
const MAX_OPEN: usize = 64;

/// An order of operations so far: what it leaves in the key, and which of the open ones it holds already, a bit a slot.
type Order = (State, u64);

/// Fails unless each operation can be given a moment between its call and its return such that one after the other they
/// would have been answered as they were. A write without return may have such a moment, or none.
pub(crate) fn check(operations: &[Operation]) -> Result<(), Box<Violation>> {
    let seen = seen_values(operations);
    let mut open: Vec<Option<Open<'_>>> = Vec::new();
    let mut orders = HashSet::from([(None, 0)]);
    for (is_return, operation) in events(operations) {
        if !is_return {
            open_slot(&mut open, Open { operation, alike: alike(operation, &seen) });
            continue;
        }
        let Some(slot) =
            open.iter().position(|open| open.as_ref().is_some_and(|open| std::ptr::eq(open.operation, operation)))
        else {
            continue;
        };
        let next = with(&orders, &open, 1 << slot);
        if next.is_empty() {
            return Err(Box::new(Violation::new(operations, operation, orders.into_iter().map(|(state, _)| state))));
        }
        orders = next;
        if let Some(slot) = open.get_mut(slot) {
            *slot = None;
        }
    }
    Ok(())
}

/// An operation that was called and has not returned.
struct Open<'o> {
    operation: &'o Operation,
    alike: Option<Alike>,
}

/// Writes without return that nothing can tell from one another: those of values that nobody ever saw, and deletes. Whatever
/// order holds one of them, the one that was called first would do as well; so an order takes them as they were called, and
/// there are as many to look at as there are of them, and not two to the power of that.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Alike {
    Set(Over),
    Delete(Over),
}

fn alike(operation: &Operation, seen: &HashSet<Value>) -> Option<Alike> {
    match operation.call {
        _ if operation.returned.is_some() => None,
        Call::Set { value, over, ttl: None } if !seen.contains(&value) => Some(Alike::Set(over)),
        Call::Delete { over } => Some(Alike::Delete(over)),
        _ => None,
    }
}

/// The values that an answer tells, or a condition names.
fn seen_values(operations: &[Operation]) -> HashSet<Value> {
    let told = operations.iter().filter_map(|operation| match operation.returned?.1 {
        Answer::Found(value) | Answer::Refused(value) => value,
        Answer::Stored | Answer::Deleted | Answer::Missing => None,
    });
    let named = operations.iter().filter_map(|operation| match operation.call {
        Call::Set { over: Over::This(value), .. } | Call::Delete { over: Over::This(value) } => Some(value),
        _ => None,
    });
    told.chain(named).collect()
}

/// Calls and returns, in their order.
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
    assert!(open.len() <= MAX_OPEN, "a history with more than {MAX_OPEN} open operations is too much to check");
}

/// The orders that go on from these just as far as to hold the operation of this slot, which then leaves its slot.
fn with(orders: &HashSet<Order>, open: &[Option<Open<'_>>], wanted: u64) -> HashSet<Order> {
    let mut next = HashSet::new();
    let mut seen = HashSet::new();
    let mut left: Vec<Order> = orders.iter().copied().collect();
    while let Some((state, held)) = left.pop() {
        if held & wanted != 0 {
            next.insert((state, held & !wanted));
            continue;
        }
        if !seen.insert((state, held)) {
            continue;
        }
        let free = || {
            let slots = open.iter().enumerate().map(|(slot, open)| (1_u64 << slot, open.as_ref()));
            slots.filter_map(move |(bit, open)| open.filter(|_| held & bit == 0).map(|open| (bit, open)))
        };
        for (bit, Open { operation, alike }) in free() {
            let called = operation.called.tick;
            let is_later = |other: &Open<'_>| other.alike == *alike && other.operation.called.tick < called;
            if alike.is_some() && free().any(|(_, other)| is_later(other)) {
                continue;
            }
            let told = |state: State| if alike.is_some() { unseen(state, operation) } else { state };
            left.extend(operation.effects(state).map(|state| (told(state), held | bit)));
        }
    }
    next
}

/// A state that the operation left with a value which nobody sees: it is like any other such state.
fn unseen(state: State, operation: &Operation) -> State {
    state.map(|live| match operation.call {
        Call::Set { value, .. } if value == live.value => live.unseen(),
        _ => live,
    })
}
