//! Whether a history of one key is linearizable: just-in-time linearization, after Lowe.

use std::collections::HashSet;

use super::model::{Operation, State};
use super::timeline::Violation;

/// How many operations of a key may be open at the same time; more would take too long to order.
const MOST_OPEN: usize = 64;

/// An order of operations so far: what it leaves in the key, and which of the open ones it holds already, a bit a slot.
type Order = (State, u64);

/// Fails unless each operation can be given a moment between its call and its return such that one after the other they
/// would have been answered as they were. A write without return may have such a moment, or none.
pub(crate) fn check(operations: &[Operation]) -> Result<(), Box<Violation>> {
    let mut open: Vec<Option<&Operation>> = Vec::new();
    let mut orders = HashSet::from([(None, 0)]);
    for (is_return, operation) in events(operations) {
        if !is_return {
            open_slot(&mut open, operation);
            continue;
        }
        let Some(slot) = open.iter().position(|open| open.is_some_and(|open| std::ptr::eq(open, operation))) else {
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

fn open_slot<'a>(open: &mut Vec<Option<&'a Operation>>, operation: &'a Operation) {
    match open.iter_mut().find(|slot| slot.is_none()) {
        Some(slot) => *slot = Some(operation),
        None => open.push(Some(operation)),
    }
    assert!(open.len() <= MOST_OPEN, "a history with more than {MOST_OPEN} open operations is too much to check");
}

/// The orders that go on from these just as far as to hold the operation of this slot, which then leaves its slot.
fn with(orders: &HashSet<Order>, open: &[Option<&Operation>], wanted: u64) -> HashSet<Order> {
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
        for (slot, operation) in open.iter().enumerate() {
            let bit = 1_u64 << slot;
            if let Some(operation) = operation.filter(|_| held & bit == 0) {
                left.extend(operation.effects(state).map(|state| (state, held | bit)));
            }
        }
    }
    next
}
