//! What scripts are made of, as far as a store can do it.

use kv_core::{Capabilities, Transactions};
use proptest::collection::vec;
use proptest::option::weighted;
use proptest::prelude::*;
use proptest::strategy::Union;

use super::step::{Change, Guard, KEYS, Life, Listing, Name, Step, Text, VALUES, Write};

/// Which steps a script may have beside reads and plain writes.
#[derive(Debug, Clone, Copy)]
#[allow(clippy::struct_excessive_bools, reason = "each is a kind of step, and the cases name them")]
pub(crate) struct Menu {
    pub(crate) lives: bool,
    pub(crate) conditions: bool,
    pub(crate) previous: bool,
    pub(crate) batches: bool,
    pub(crate) lists: bool,
    pub(crate) touches: bool,
    pub(crate) counters: bool,
    pub(crate) transactions: bool,
    /// Times to live may end while the script runs: the clock is its own.
    pub(crate) time_passes: bool,
    /// Conditions may name versions.
    pub(crate) versions: bool,
}

impl Menu {
    /// Reads and plain writes alone.
    pub(crate) const NOTHING: Self = Self {
        lives: false,
        conditions: false,
        previous: false,
        batches: false,
        lists: false,
        touches: false,
        counters: false,
        transactions: false,
        time_passes: false,
        versions: false,
    };

    /// Everything.
    pub(crate) const ALL: Self = Self {
        lives: true,
        conditions: true,
        previous: true,
        batches: true,
        lists: true,
        touches: true,
        counters: true,
        transactions: true,
        time_passes: true,
        versions: true,
    };

    /// As much of it as a store of these capabilities has, under a clock that moves or does not.
    pub(crate) fn within(self, store: &Capabilities, moves_clock: bool) -> Self {
        let reaches = matches!(store.transactions, Transactions::Any | Transactions::WithinFirst(1));
        Self {
            lives: self.lives,
            conditions: self.conditions && store.conditions,
            previous: self.previous && store.previous,
            batches: self.batches,
            lists: self.lists && store.has(kv_core::Capability::List),
            touches: self.touches && store.touch,
            counters: self.counters && store.counters,
            transactions: self.transactions && reaches,
            time_passes: self.lives && moves_clock,
            versions: self.conditions && store.conditions && store.versions,
        }
    }

    /// Scripts of these steps. They shrink to fewer steps, first keys and first values.
    pub(super) fn scripts(self) -> impl Strategy<Value = Vec<Step>> {
        vec(self.step(), 1..50)
    }

    fn step(self) -> BoxedStrategy<Step> {
        let write = self.write().boxed();
        let mut steps = vec![
            (4, name().prop_map(Step::Get).boxed()),
            (1, name().prop_map(Step::Contains).boxed()),
            (6, write.clone().prop_map(Step::Set).boxed()),
            (2, self.delete().boxed()),
        ];
        if self.batches {
            steps.push((1, vec(name(), 0..5).prop_map(Step::GetMany).boxed()));
            steps.push((1, vec(write, 0..5).prop_map(Step::SetMany).boxed()));
            steps.push((1, vec(name(), 0..5).prop_map(Step::DeleteMany).boxed()));
        }
        if self.lists {
            steps.push((3, listing().prop_map(Step::List).boxed()));
            steps.push((1, weighted(0.8, name()).prop_map(Step::Clear).boxed()));
        }
        if self.touches {
            steps.push((2, (name(), self.life()).prop_map(|(key, life)| Step::Touch(key, life)).boxed()));
        }
        if self.counters {
            let amount = prop_oneof![4 => -3..4_i64, 1 => Just(i64::MAX), 1 => Just(i64::MIN)];
            let increment = (name(), amount, self.life()).prop_map(|(key, by, life)| Step::Increment { key, by, life });
            steps.push((3, increment.boxed()));
        }
        if self.transactions {
            let change = prop_oneof![
                3 => (name(), text(), self.life()).prop_map(|(key, value, life)| Change::Set(key, value, life)),
                1 => name().prop_map(Change::Delete),
            ];
            let checks = vec((name(), self.guard()), 0..3);
            let commit = (checks, vec(change, 0..5)).prop_map(|(checks, changes)| Step::Commit { checks, changes });
            steps.push((3, commit.boxed()));
        }
        if self.time_passes {
            steps.push((3, prop_oneof![Just(1), Just(49), Just(50), Just(1_000)].prop_map(Step::Pass).boxed()));
            steps.push((1, Just(Step::Sweep).boxed()));
        }
        Union::new_weighted(steps).boxed()
    }

    fn write(self) -> impl Strategy<Value = Write> {
        (name(), text(), self.life(), self.guard(), self.asks()).prop_map(|(key, value, life, guard, previous)| Write {
            key,
            value,
            life,
            guard,
            previous,
        })
    }

    fn delete(self) -> impl Strategy<Value = Step> {
        (name(), self.guard(), self.asks()).prop_map(|(key, guard, previous)| Step::Delete { key, guard, previous })
    }

    fn asks(self) -> BoxedStrategy<bool> {
        if self.previous { any::<bool>().boxed() } else { Just(false).boxed() }
    }

    fn guard(self) -> BoxedStrategy<Guard> {
        let mut guards = vec![(4, Just(Guard::Always).boxed())];
        if self.conditions {
            guards.push((1, Just(Guard::Absent).boxed()));
            guards.push((1, Just(Guard::Present).boxed()));
            guards.push((2, text().prop_map(Guard::Value).boxed()));
        }
        if self.versions {
            guards.push((3, name().prop_map(Guard::SeenOf).boxed()));
        }
        Union::new_weighted(guards).boxed()
    }

    fn life(self) -> BoxedStrategy<Life> {
        const HOUR: u64 = 3_600_000;
        let never = Just(Life::Never).boxed();
        if !self.lives {
            return never;
        }
        let mut lives = vec![
            (4, never),
            (1, Just(Life::Keep).boxed()),
            (1, Just(Life::After(0)).boxed()),
            (1, Just(Life::After(HOUR)).boxed()),
            (1, Just(Life::Until(0)).boxed()),
        ];
        if self.time_passes {
            lives.push((4, prop_oneof![Just(1), Just(50), Just(1_000)].prop_map(Life::After).boxed()));
            lives.push((1, prop_oneof![Just(50), Just(2_000)].prop_map(Life::Until).boxed()));
        }
        Union::new_weighted(lives).boxed()
    }
}

fn name() -> impl Strategy<Value = Name> + Clone {
    // Most steps meet on two keys.
    prop_oneof![3 => 0..2_usize, 2 => 0..KEYS.len()].prop_map(Name)
}

fn text() -> impl Strategy<Value = Text> + Clone {
    (0..VALUES.len()).prop_map(Text)
}

fn listing() -> impl Strategy<Value = Listing> {
    let bounds = (weighted(0.5, name()), weighted(0.3, name()), weighted(0.3, name()));
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
