//! The kinds of steps in a script, and their random generation.

use kv_core::{Capabilities, Capability, Transactions};
use proptest::collection::vec;
use proptest::option::weighted;
use proptest::prelude::*;
use proptest::strategy::Union;

use super::step::{
    Change, Condition, KEYS, KeyIndex, Lifetime, Listing, SLOTS, Slot, Step, Target, VALUES, ValueIndex, Watching,
    Write,
};

/// The kinds of steps that a script may have besides reads and plain writes.
#[derive(Debug, Clone, Copy)]
#[allow(clippy::struct_excessive_bools, reason = "each is a kind of step, and the cases set them by name")]
pub(crate) struct StepKinds {
    pub(crate) lifetimes: bool,
    pub(crate) conditions: bool,
    pub(crate) previous: bool,
    pub(crate) batches: bool,
    pub(crate) lists: bool,
    pub(crate) touches: bool,
    pub(crate) counters: bool,
    pub(crate) transactions: bool,
    /// Entries may expire while the script runs, because the script sets the clock.
    pub(crate) time_passes: bool,
    /// Conditions may compare versions.
    pub(crate) versions: bool,
    /// Values are taken. The store then needs conditions or previous entries.
    pub(crate) takes: bool,
    pub(crate) watches: bool,
    pub(crate) messages: bool,
    /// Several calls are started together.
    pub(crate) together: bool,
}

impl StepKinds {
    /// Reads and plain writes only.
    pub(crate) const NONE: Self = Self {
        lifetimes: false,
        conditions: false,
        previous: false,
        batches: false,
        lists: false,
        touches: false,
        counters: false,
        transactions: false,
        time_passes: false,
        versions: false,
        takes: false,
        watches: false,
        messages: false,
        together: false,
    };

    /// All kinds of steps.
    pub(crate) const ALL: Self = Self {
        lifetimes: true,
        conditions: true,
        previous: true,
        batches: true,
        lists: true,
        touches: true,
        counters: true,
        transactions: true,
        time_passes: true,
        versions: true,
        takes: true,
        watches: true,
        messages: true,
        together: true,
    };

    /// The kinds that a store with these capabilities supports, with or without a clock that the script sets.
    pub(crate) fn within(self, store: &Capabilities, moves_clock: bool) -> Self {
        let fits_groups = matches!(store.transactions, Transactions::Any | Transactions::WithinFirst(1));
        Self {
            lifetimes: self.lifetimes,
            conditions: self.conditions && store.conditions,
            previous: self.previous && store.previous,
            batches: self.batches,
            lists: self.lists && store.has(Capability::List),
            touches: self.touches && store.touch,
            counters: self.counters && store.counters,
            transactions: self.transactions && fits_groups,
            time_passes: self.lifetimes && moves_clock,
            versions: self.conditions && store.conditions && store.versions,
            takes: self.takes && (store.conditions || store.previous),
            watches: self.watches && store.has(Capability::Watch),
            messages: self.messages && store.has(Capability::Messages),
            together: self.together,
        }
    }

    /// Random scripts of these kinds of steps. A script shrinks to fewer steps, and to the first keys and values.
    pub(super) fn scripts(self) -> impl Strategy<Value = Vec<Step>> {
        vec(self.step(), 1..50)
    }

    fn step(self) -> BoxedStrategy<Step> {
        let mut steps = self.calls();
        if self.together {
            // The calls are few, because every order of them is judged.
            let single = Union::new_weighted(steps.clone());
            let some = vec(single, 2..4);
            let together = if self.batches {
                (some, weighted(0.3, self.batch(2)))
                    .prop_map(|(mut calls, batch)| {
                        calls.extend(batch);
                        Step::Together(calls)
                    })
                    .boxed()
            } else {
                some.prop_map(Step::Together).boxed()
            };
            steps.push((8, together));
        }
        if self.batches {
            steps.push((3, self.batch(4)));
        }
        if self.lists {
            steps.push((3, listing().prop_map(Step::List).boxed()));
            steps.push((1, weighted(0.8, key()).prop_map(Step::Clear).boxed()));
        }
        if self.watches {
            let slot = (0..SLOTS).prop_map(Slot);
            steps.push((3, (slot.clone(), self.watching()).prop_map(|(slot, watch)| Step::Watch(slot, watch)).boxed()));
            steps.push((6, slot.clone().prop_map(Step::ReadEvents).boxed()));
            steps.push((1, slot.prop_map(Step::Unwatch).boxed()));
        }
        if self.messages {
            steps.push((1, weighted(0.7, key()).prop_map(Step::Subscribe).boxed()));
            steps.push((3, (key(), value()).prop_map(|(channel, payload)| Step::Publish(channel, payload)).boxed()));
            steps.push((1, Just(Step::ReadMessages).boxed()));
        }
        if self.time_passes {
            steps.push((3, prop_oneof![Just(1), Just(49), Just(50), Just(1_000)].prop_map(Step::Advance).boxed()));
            steps.push((1, Just(Step::Sweep).boxed()));
        }
        Union::new_weighted(steps).boxed()
    }

    /// Calls that may be started together, with their weights.
    fn calls(self) -> Vec<(u32, BoxedStrategy<Step>)> {
        let mut calls = vec![
            (4, key().prop_map(Step::Get).boxed()),
            (1, key().prop_map(Step::Contains).boxed()),
            (6, self.write().prop_map(Step::Set).boxed()),
            (2, self.delete().boxed()),
        ];
        if self.touches {
            calls.push((4, (key(), self.lifetime()).prop_map(|(key, lifetime)| Step::Touch(key, lifetime)).boxed()));
        }
        if self.takes {
            calls.push((1, key().prop_map(Step::Take).boxed()));
        }
        if self.counters {
            let amount = prop_oneof![4 => -3..4_i64, 1 => Just(i64::MAX), 1 => Just(i64::MIN)];
            let increment =
                (key(), amount, self.lifetime()).prop_map(|(key, by, lifetime)| Step::Increment { key, by, lifetime });
            calls.push((3, increment.boxed()));
        }
        if self.transactions {
            let change = prop_oneof![
                3 => (key(), value(), self.lifetime()).prop_map(|(key, value, life)| Change::Set(key, value, life)),
                1 => key().prop_map(Change::Delete),
            ];
            let checks = vec((key(), self.condition()), 0..3);
            let commit = (checks, vec(change, 0..5)).prop_map(|(checks, changes)| Step::Commit { checks, changes });
            calls.push((3, commit.boxed()));
        }
        calls
    }

    /// A batch of at most this number of items.
    fn batch(self, items: usize) -> BoxedStrategy<Step> {
        prop_oneof![
            vec(key(), 0..=items).prop_map(Step::GetMany),
            vec(self.write(), 0..=items).prop_map(Step::SetMany),
            vec(key(), 0..=items).prop_map(Step::DeleteMany),
        ]
        .boxed()
    }

    fn watching(self) -> impl Strategy<Value = Watching> {
        let can_list = self.lists;
        let target = prop_oneof![3 => weighted(0.7, key()).prop_map(Target::Prefix), 1 => key().prop_map(Target::Key)];
        (target, any::<bool>(), weighted_bool()).prop_map(move |(target, snapshot, keys_only)| Watching {
            target,
            snapshot: snapshot && (can_list || matches!(target, Target::Key(_))),
            keys_only,
        })
    }

    fn write(self) -> impl Strategy<Value = Write> {
        (key(), value(), self.lifetime(), self.condition(), self.previous_flag())
            .prop_map(|(key, value, lifetime, condition, previous)| Write { key, value, lifetime, condition, previous })
    }

    fn delete(self) -> impl Strategy<Value = Step> {
        (key(), self.condition(), self.previous_flag()).prop_map(|(key, condition, previous)| Step::Delete {
            key,
            condition,
            previous,
        })
    }

    fn previous_flag(self) -> BoxedStrategy<bool> {
        if self.previous { any::<bool>().boxed() } else { Just(false).boxed() }
    }

    fn condition(self) -> BoxedStrategy<Condition> {
        let mut conditions = vec![(4, Just(Condition::Always).boxed())];
        if self.conditions {
            conditions.push((1, Just(Condition::Absent).boxed()));
            conditions.push((1, Just(Condition::Present).boxed()));
            conditions.push((2, value().prop_map(Condition::Value).boxed()));
        }
        if self.versions {
            conditions.push((3, key().prop_map(Condition::SeenVersion).boxed()));
        }
        Union::new_weighted(conditions).boxed()
    }

    fn lifetime(self) -> BoxedStrategy<Lifetime> {
        const HOUR: u64 = 3_600_000;
        let never = Just(Lifetime::Never).boxed();
        if !self.lifetimes {
            return never;
        }
        let mut lifetimes = vec![
            (4, never),
            (2, Just(Lifetime::Keep).boxed()),
            (1, Just(Lifetime::After(0)).boxed()),
            (1, Just(Lifetime::After(HOUR)).boxed()),
            (1, Just(Lifetime::Until(0)).boxed()),
        ];
        if self.time_passes {
            lifetimes.push((4, prop_oneof![Just(1), Just(50), Just(1_000)].prop_map(Lifetime::After).boxed()));
            lifetimes.push((1, prop_oneof![Just(50), Just(2_000)].prop_map(Lifetime::Until).boxed()));
        }
        Union::new_weighted(lifetimes).boxed()
    }
}

fn key() -> impl Strategy<Value = KeyIndex> + Clone {
    // Most steps use the same two keys, so that steps affect each other.
    prop_oneof![3 => 0..2_usize, 2 => 0..KEYS.len()].prop_map(KeyIndex)
}

fn value() -> impl Strategy<Value = ValueIndex> + Clone {
    (0..VALUES.len()).prop_map(ValueIndex)
}

fn listing() -> impl Strategy<Value = Listing> {
    let bounds = (weighted(0.5, key()), weighted(0.3, key()), weighted(0.3, key()));
    (bounds, any::<bool>(), weighted(0.4, 1..4_usize), any::<bool>()).prop_map(
        |((prefix, after, before), reverse, limit, keys_only)| Listing {
            prefix,
            after,
            before,
            reverse,
            limit,
            keys_only,
        },
    )
}

/// True with a probability of one in four.
fn weighted_bool() -> impl Strategy<Value = bool> {
    prop_oneof![3 => Just(false), 1 => Just(true)]
}
