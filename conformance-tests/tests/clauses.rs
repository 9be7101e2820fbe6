//! Holds CONTRACT.md and the clauses of the cases together.

use std::collections::{BTreeMap, BTreeSet};

use conformance_tests::Case;

const CONTRACT: &str = include_str!("../../CONTRACT.md");

/// Clauses that no case of this suite can prove, and what does.
const PROVEN_ELSEWHERE: &[(&str, &str)] = &[
    ("O-1", "needs a Redis Cluster"),
    ("L-4", "foreign data needs the backend's own tools: the tests of each adapter"),
    ("E-4", "damage needs the backend's own files: the tests of each adapter"),
    ("R-1", "opening by many processes: the tests of each adapter"),
    ("R-2", "sudden ends: the crash tests of each durable adapter"),
    ("R-4", "eviction: the tests of each adapter that evicts"),
    ("V-4", "typed reads are the handle's: the tests of kv-core"),
    ("P-2", "freed resources on a server: the tests of each adapter with one"),
];

fn clauses() -> BTreeSet<&'static str> {
    CONTRACT
        .lines()
        .filter_map(|line| line.strip_prefix("- ")?.split_once(' '))
        .map(|(id, _)| id)
        .filter(|id| {
            id.split_once('-').is_some_and(|(letter, number)| letter.len() == 1 && number.parse::<u8>().is_ok())
        })
        .collect()
}

#[test]
fn every_case_names_a_clause_of_the_contract() {
    let clauses = clauses();
    let strays: Vec<_> =
        Case::all().filter(|case| !clauses.contains(case.clause)).map(|case| (case.id, case.clause)).collect();
    assert!(strays.is_empty(), "cases of clauses that CONTRACT.md does not have: {strays:?}");
}

#[test]
fn every_clause_has_a_case_or_says_where_it_is_proven() {
    let proven: BTreeSet<_> = Case::all().map(|case| case.clause).collect();
    let elsewhere: BTreeSet<_> = PROVEN_ELSEWHERE.iter().map(|(id, _)| *id).collect();
    let missing: Vec<_> = clauses().into_iter().filter(|id| !proven.contains(id) && !elsewhere.contains(id)).collect();
    assert!(missing.is_empty(), "clauses without a case: {missing:?}");
}

#[test]
fn the_names_of_cases_are_unique_and_their_rules_are_sentences_of_their_own() {
    let mut ids = BTreeSet::new();
    let mut rules: BTreeMap<_, &str> = BTreeMap::new();
    for case in Case::all() {
        assert!(ids.insert(case.id), "two cases are called {}", case.id);
        assert!(!case.rule.is_empty() && !case.rule.ends_with('.'), "the rule of {}: {:?}", case.id, case.rule);
        if let Some(other) = rules.insert(case.rule, case.id) {
            panic!("{other} and {} have one rule", case.id);
        }
    }
}
