//! Compares the ordered index with a `BTreeSet`, and changes the index from several threads.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

fn key(text: &str) -> Key {
    Key::new([text]).unwrap()
}

fn all(order: &Order) -> Vec<Key> {
    order.keys_in((Bound::Unbounded, Bound::Unbounded), false, usize::MAX)
}

/// Asserts that the keys of each leaf are sorted, are between its fence and the next fence, and do not exceed the
/// maximum number, and that only the first leaf may be empty.
fn assert_invariants(order: &Order) {
    let leaves = order.leaves.read();
    assert_eq!(leaves.first_key_value().map(|(fence, _)| fence.as_str()), Some(""));
    let fences: Vec<_> = leaves.keys().skip(1).map(Fence::as_str).collect();
    for (index, (fence, leaf)) in leaves.iter().enumerate() {
        let mut leaf = leaf.lock();
        let leaf = leaf.keys();
        assert!(leaf.is_sorted_by(|one, other| one < other));
        assert!(leaf.len() <= LEAF_KEYS);
        assert!(index == 0 || !leaf.is_empty());
        assert!(leaf.first().is_none_or(|first| first.as_str() >= fence.as_str()));
        if let (Some(last), Some(next)) = (leaf.last(), fences.get(index)) {
            assert!(last.as_str() < *next);
        }
    }
}

#[derive(Debug, Clone)]
enum Step {
    Insert(u16),
    Remove(u16),
    /// Inserts many keys, so that leaves split, empty and join.
    InsertRun(u16, u16),
    RemoveRun(u16, u16),
    KeysIn {
        start: Bound<u16>,
        end: Bound<u16>,
        reverse: bool,
        max: usize,
    },
}

fn bound() -> impl Strategy<Value = Bound<u16>> {
    prop_oneof![any::<u16>().prop_map(Bound::Included), any::<u16>().prop_map(Bound::Excluded), Just(Bound::Unbounded)]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        any::<u16>().prop_map(Step::Insert),
        any::<u16>().prop_map(Step::Remove),
        (any::<u16>(), 0..2_000_u16).prop_map(|(from, count)| Step::InsertRun(from, count)),
        (any::<u16>(), 0..4_000_u16).prop_map(|(from, count)| Step::RemoveRun(from, count)),
        (bound(), bound(), any::<bool>(), 1..600_usize).prop_map(|(start, end, reverse, max)| Step::KeysIn {
            start,
            end,
            reverse,
            max
        }),
    ]
}

fn numbered(number: u16) -> Key {
    key(&format!("{number:05}"))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn the_index_behaves_like_a_btree_set(steps in proptest::collection::vec(step(), 1..60)) {
        let (order, mut model) = (Order::new(), BTreeSet::new());
        for step in steps {
            match step {
                Step::Insert(number) => {
                    order.insert(numbered(number));
                    model.insert(numbered(number));
                }
                Step::Remove(number) => {
                    order.remove(&numbered(number));
                    model.remove(&numbered(number));
                }
                Step::InsertRun(from, count) => (0..count).map(|at| numbered(from.wrapping_add(at))).for_each(|key| {
                    order.insert(key.clone());
                    model.insert(key);
                }),
                Step::RemoveRun(from, count) => (0..count).map(|at| numbered(from.wrapping_add(at))).for_each(|key| {
                    order.remove(&key);
                    model.remove(&key);
                }),
                Step::KeysIn { start, end, reverse, max } => {
                    let (start, end) = (start.map(numbered), end.map(numbered));
                    let inside = |key: &&Key| {
                        (match &start {
                            Bound::Included(start) => *key >= start,
                            Bound::Excluded(start) => *key > start,
                            Bound::Unbounded => true,
                        }) && match &end {
                            Bound::Included(end) => *key <= end,
                            Bound::Excluded(end) => *key < end,
                            Bound::Unbounded => true,
                        }
                    };
                    let expected: Vec<_> = if reverse {
                        model.iter().rev().filter(inside).take(max).cloned().collect()
                    } else {
                        model.iter().filter(inside).take(max).cloned().collect()
                    };
                    let range = (start.as_ref().map(Key::as_str), end.as_ref().map(Key::as_str));
                    prop_assert_eq!(order.keys_in(range, reverse, max), expected);
                }
            }
            assert_invariants(&order);
        }
        prop_assert_eq!(order.len(), model.len());
        prop_assert_eq!(all(&order), Vec::from_iter(model));
    }
}

#[test]
fn a_key_of_one_empty_segment_is_indexed() {
    let order = Order::new();
    order.insert(key(""));
    order.insert(key("a"));
    assert_eq!(all(&order), [key(""), key("a")]);
    order.remove(&key(""));
    assert_eq!(all(&order), [key("a")]);
}

#[test]
fn an_emptied_index_has_only_its_first_leaf() {
    let order = Order::new();
    let keys: Vec<_> = (0..60_000).map(numbered).collect();
    keys.iter().cloned().for_each(|key| order.insert(key));
    assert!(order.leaves.read().len() >= 60_000 / LEAF_KEYS);
    // Remove the keys in such an order that every leaf is changed many times.
    (0..60_000).for_each(|at| order.remove(&keys[at * 7_919 % 60_000]));
    assert_eq!((order.len(), order.leaves.read().len()), (0, 1));
}

#[test]
fn concurrent_inserts_removals_and_reads_lose_no_key() {
    const EACH: u16 = 20_000;
    let order = Order::new();
    // These keys are between the keys that are inserted and removed, and are present during the whole test.
    let lasting: Vec<_> = (0..EACH).step_by(50).map(|number| key(&format!("{number:05}x"))).collect();
    lasting.iter().cloned().for_each(|key| order.insert(key));
    std::thread::scope(|scope| {
        for parity in 0..2 {
            let order = &order;
            scope.spawn(move || {
                for number in (0..EACH).filter(|number| number % 2 == parity) {
                    order.insert(numbered(number));
                }
                for number in (0..EACH).filter(|number| number % 2 == parity && number % 3 != 0) {
                    order.remove(&numbered(number));
                }
            });
        }
        scope.spawn(|| {
            for _ in 0..20 {
                let (mut seen, mut after) = (Vec::new(), None::<Key>);
                loop {
                    let start = after.as_ref().map_or(Bound::Unbounded, |after| Bound::Excluded(after.as_str()));
                    let page = order.keys_in((start, Bound::Unbounded), false, 100);
                    let Some(last) = page.last() else { break };
                    after = Some(last.clone());
                    seen.extend(page);
                }
                assert!(seen.is_sorted_by(|one, other| one < other));
                seen.retain(|key| key.as_str().ends_with('x'));
                assert_eq!(seen, lasting);
            }
        });
    });
    assert_invariants(&order);
    let remaining = (0..EACH).filter(|number| number % 3 == 0).count();
    assert_eq!(order.len(), remaining + lasting.len());
}
