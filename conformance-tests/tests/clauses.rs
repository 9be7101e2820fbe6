//! CONTRACT.md and the clauses of the cases agree.

use std::collections::{BTreeMap, BTreeSet};

use conformance_tests::Case;

const CONTRACT: &str = include_str!("../../CONTRACT.md");

/// Clauses that no case of this suite can test. Each has the reason, and the tests elsewhere that test the clause.
const TESTED_ELSEWHERE: &[(&str, &str)] = &[
    ("O-1", "needs a Redis Cluster"),
    ("L-4", "writing foreign data needs the backend's own tools: the tests of each adapter"),
    ("R-4", "eviction: the tests of each adapter that evicts"),
    ("V-4", "typed reads belong to the handle `Kv`: the tests of kv-core"),
    ("P-2", "freeing resources on a server: the tests of each adapter with a server"),
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
    let unknown: Vec<_> =
        Case::all().filter(|case| !clauses.contains(case.clause)).map(|case| (case.id, case.clause)).collect();
    assert!(unknown.is_empty(), "cases whose clause is not in CONTRACT.md: {unknown:?}");
}

#[test]
fn every_clause_has_a_case_or_another_test() {
    let tested: BTreeSet<_> = Case::all().map(|case| case.clause).collect();
    let elsewhere: BTreeSet<_> = TESTED_ELSEWHERE.iter().map(|(id, _)| *id).collect();
    let missing: Vec<_> = clauses().into_iter().filter(|id| !tested.contains(id) && !elsewhere.contains(id)).collect();
    assert!(missing.is_empty(), "clauses without a case: {missing:?}");
}

#[test]
fn ids_and_rules_of_cases_are_unique() {
    let mut ids = BTreeSet::new();
    let mut rules: BTreeMap<_, &str> = BTreeMap::new();
    for case in Case::all() {
        assert!(ids.insert(case.id), "two cases have the id {}", case.id);
        assert!(!case.rule.is_empty() && !case.rule.ends_with('.'), "the rule of {}: {:?}", case.id, case.rule);
        if let Some(other) = rules.insert(case.rule, case.id) {
            panic!("{other} and {} have the same rule", case.id);
        }
    }
}
