//! Histories with one defect each, and the same histories without the defect. The model must find each defect.

use std::collections::BTreeMap;
use std::sync::Arc;

use anykv::Version;

use crate::group::{Group, Reading};
use crate::operation::{Answer, Call, Change, Condition, Failure, Life, Seen, SharedCall, Value, Write};
use crate::shared::{COUNTERS, Place, Shared, TOGETHER};
use crate::state::{Slack, Span};
use crate::track::{Fault, Violation};

const START: u64 = 1_800_000_000_000_000;

/// A call that takes one millisecond, at this millisecond of the test.
fn at(millis: u64) -> Span {
    Span::new(START + millis * 1_000, START + millis * 1_000 + 1_000, Slack::default())
}

fn line() -> Arc<str> {
    "line".into()
}

fn value(number: u64) -> Value {
    Value::Written { writer: 0, number, size: 40 }
}

fn write(key: &str, number: u64, life: Life) -> Write {
    Write { key: key.to_owned(), value: value(number), life }
}

fn set(key: &str, number: u64) -> Call {
    Call::Set { write: write(key, number, Life::Unlimited), when: Condition::Always }
}

fn version(number: u8) -> Version {
    Version::from([number; 16])
}

fn stored(number: u8) -> Answer {
    Answer::Stored(Some(version(number)))
}

#[expect(clippy::unnecessary_wraps, reason = "every reading is an option")]
fn entry(number: u64, version_number: u8) -> Option<Seen> {
    Some(Seen { value: value(number), version: Some(version(version_number)), deadline: None })
}

struct Test(Group);

impl Test {
    /// A group with the keys `a`, `b` and `n`.
    fn new() -> Self {
        Self(Group::new("task0".to_owned(), ["a", "b", "n"].map(str::to_owned)))
    }

    fn apply(&mut self, call: &Call, span: Span, answer: &Answer) -> Result<(), Violation> {
        self.0.apply(call, span, Some(answer), &line())
    }

    fn with(mut self, call: &Call, answer: &Answer) -> Self {
        self.apply(call, at(0), answer).unwrap();
        self
    }

    fn unanswered(mut self, call: &Call) -> Self {
        self.0.apply(call, at(0), None, &line()).unwrap();
        self
    }

    /// Judges these readings at a millisecond of the test. Other keys are absent.
    fn judge(&mut self, millis: u64, found: &[(&str, Option<Seen>)]) -> Vec<Fault> {
        let mut readings: BTreeMap<String, Reading> =
            ["a", "b", "n"].into_iter().map(|key| (key.to_owned(), (None, at(millis)))).collect();
        readings.extend(found.iter().map(|(key, found)| ((*key).to_owned(), (found.clone(), at(millis)))));
        self.0.judge(&readings).iter().map(|violation| violation.fault).collect()
    }
}

#[test]
fn a_lost_write_is_found() {
    let test = || Test::new().with(&set("a", 1), &stored(1)).with(&set("a", 2), &stored(2));
    assert_eq!(test().judge(10, &[("a", entry(2, 2))]), []);
    assert_eq!(test().judge(10, &[("a", entry(1, 1))]), [Fault::Lost]);
    assert_eq!(test().judge(10, &[]), [Fault::Lost]);
    assert_eq!(test().judge(10, &[("a", entry(3, 3))]), [Fault::Wrong]);
    assert_eq!(test().judge(10, &[("a", entry(2, 2)), ("b", entry(4, 4))]), [Fault::Wrong]);
    let deleted = || test().with(&Call::Take("a".to_owned()), &Answer::Found(entry(2, 2)));
    assert_eq!(deleted().judge(10, &[]), []);
    assert_eq!(deleted().judge(10, &[("a", entry(2, 2))]), [Fault::Lost]);
}

#[test]
fn an_unanswered_write_may_be_there_until_it_was_seen() {
    let test = || Test::new().with(&set("a", 1), &stored(1)).unanswered(&set("a", 2));
    assert_eq!(test().judge(10, &[("a", entry(1, 1))]), []);
    assert_eq!(test().judge(10, &[]), [Fault::Lost]);
    let mut seen = test();
    assert_eq!(seen.judge(10, &[("a", entry(2, 2))]), []);
    assert_eq!(seen.judge(20, &[("a", entry(1, 1))]), [Fault::Lost]);
    let mut batch =
        Test::new().unanswered(&Call::SetMany(vec![write("a", 1, Life::Unlimited), write("b", 2, Life::Unlimited)]));
    assert_eq!(batch.judge(10, &[("b", entry(2, 2))]), []);
}

#[test]
fn a_write_that_certainly_did_not_happen_must_not_be_there() {
    let failed = |maybe_applied| {
        let failure = Failure { maybe_applied, unavailable: !maybe_applied, version: None, text: String::new() };
        Test::new().with(&set("a", 1), &Answer::Failed(failure))
    };
    assert_eq!(failed(true).judge(10, &[("a", entry(1, 1))]), []);
    assert_eq!(failed(false).judge(10, &[("a", entry(1, 1))]), [Fault::Wrong]);
    assert_eq!(failed(false).judge(10, &[]), []);
}

#[test]
fn a_torn_transaction_is_found() {
    let changes = vec![Change::Set(write("a", 3, Life::Unlimited)), Change::Set(write("b", 4, Life::Unlimited))];
    let commit = Call::Commit { checks: vec![("a".to_owned(), Condition::Present)], changes };
    let test = || Test::new().with(&set("a", 1), &stored(1)).with(&set("b", 2), &stored(2));
    let (old, new) = ([entry(1, 1), entry(2, 2)], [entry(3, 3), entry(4, 4)]);
    let judge = |mut test: Test, [a, b]: [Option<Seen>; 2]| test.judge(10, &[("a", a), ("b", b)]);
    assert_eq!(judge(test().unanswered(&commit), old.clone()), []);
    assert_eq!(judge(test().unanswered(&commit), new.clone()), []);
    assert_eq!(judge(test().unanswered(&commit), [new[0].clone(), old[1].clone()]), [Fault::Wrong]);
    let committed = Answer::Committed(vec![Some(version(3)), Some(version(4))]);
    assert_eq!(judge(test().with(&commit, &committed), new.clone()), []);
    assert_eq!(judge(test().with(&commit, &committed), [new[0].clone(), old[1].clone()]), [Fault::Lost]);
}

#[test]
fn a_check_that_was_evaluated_wrongly_is_found() {
    let refused = |when| Call::Commit { checks: vec![("a".to_owned(), when)], changes: Vec::new() };
    let mut test = Test::new().with(&set("a", 1), &stored(1));
    assert!(test.apply(&refused(Condition::Absent), at(1), &Answer::RefusedCheck(0)).is_ok());
    assert!(test.apply(&refused(Condition::Present), at(1), &Answer::RefusedCheck(0)).is_err());
    let only_new = Call::Set { write: write("a", 2, Life::Unlimited), when: Condition::Absent };
    assert!(test.apply(&only_new, at(1), &Answer::Refused(entry(1, 1))).is_ok());
    assert!(test.apply(&only_new, at(1), &stored(2)).is_err());
}

#[test]
fn a_doubled_increment_is_found() {
    let add = Call::Increment { key: "n".to_owned(), by: 5, life: Life::Unlimited };
    let number = |number, version_number| {
        Some(Seen { value: Value::Number(number), version: Some(version(version_number)), deadline: None })
    };
    let test = || Test::new().with(&add, &Answer::Sum(5));
    assert_eq!(test().judge(10, &[("n", number(5, 1))]), []);
    assert_eq!(test().judge(10, &[("n", number(10, 1))]), [Fault::Wrong]);
    assert_eq!(test().unanswered(&add).judge(10, &[("n", number(10, 1))]), []);
    assert_eq!(test().unanswered(&add).judge(10, &[("n", number(15, 1))]), [Fault::Wrong]);
    assert!(test().apply(&add, at(1), &Answer::Sum(15)).is_err());
}

#[test]
fn a_repeated_version_is_found() {
    let mut test = Test::new().with(&set("a", 1), &stored(1));
    let delete = Call::Delete { key: "a".to_owned(), when: Condition::Always };
    test.apply(&delete, at(1), &Answer::Deleted(true)).unwrap();
    assert!(test.apply(&set("a", 2), at(2), &stored(1)).unwrap_err().problem.contains("repeats"));
    let mut unanswered = Test::new().with(&set("a", 1), &stored(1)).unanswered(&set("a", 2));
    assert_eq!(unanswered.judge(10, &[("a", entry(2, 1))]), [Fault::Wrong]);
}

#[test]
fn a_deadline_outside_of_the_tolerance_is_found() {
    let call = Call::Set { write: write("a", 1, Life::Millis(1_000)), when: Condition::Always };
    let test = || Test::new().with(&call, &stored(1));
    let with_deadline =
        |millis: u64| Some(Seen { value: value(1), version: Some(version(1)), deadline: Some(START / 1_000 + millis) });
    assert_eq!(test().judge(500, &[("a", with_deadline(1_001))]), []);
    assert_eq!(test().judge(500, &[("a", with_deadline(1_020))]), [Fault::Wrong]);
    assert_eq!(test().judge(500, &[("a", entry(1, 1))]), [Fault::Wrong]);
    assert_eq!(test().judge(980, &[]), [Fault::Lost]);
    assert_eq!(test().judge(1_020, &[]), []);
    assert_eq!(test().judge(1_020, &[("a", with_deadline(1_001))]), [Fault::Wrong]);
    let touch = Call::Touch { key: "a".to_owned(), life: Life::Unlimited };
    assert_eq!(test().with(&touch, &Answer::Touched(true)).judge(1_020, &[("a", entry(1, 1))]), []);
    let kept = Call::Set { write: write("a", 2, Life::Keep), when: Condition::Always };
    assert_eq!(test().with(&kept, &stored(2)).judge(500, &[("a", entry(2, 2))]), [Fault::Wrong]);
}

#[test]
fn a_listing_that_leaves_out_an_entry_is_found() {
    let list = Call::List { reverse: false };
    let mut test = Test::new().with(&set("a", 1), &stored(1)).with(&set("b", 2), &stored(2));
    let listed = |keys: &[(&str, Option<Seen>)]| {
        Answer::Listed(keys.iter().map(|(key, seen)| ((*key).to_owned(), seen.clone().unwrap())).collect())
    };
    let (a, b) = (("a", entry(1, 1)), ("b", entry(2, 2)));
    assert!(test.apply(&list, at(1), &listed(&[a.clone(), b.clone()])).is_ok());
    assert!(test.apply(&list, at(1), &listed(std::slice::from_ref(&b))).is_err());
    assert!(test.apply(&list, at(1), &listed(&[b, a])).is_err());
}

/// A shared call, its place, and the place and the answer of its return.
type Done = (SharedCall, u64, Option<(u64, Answer)>);

fn judge_shared(operations: &[Done], found: &[(&str, Option<Seen>)]) -> Vec<Fault> {
    let mut shared = Shared::default();
    for (call, called, returned) in operations {
        let place = Place { called: *called, returned: returned.as_ref().map(|(place, _)| *place) };
        if let Err(violation) = shared.apply(call, place, returned.as_ref().map(|(_, answer)| answer), &line()) {
            return vec![violation.fault];
        }
    }
    let readings = found.iter().map(|(key, found)| ((*key).to_owned(), (found.clone(), at(10)))).collect();
    shared.judge(&readings).iter().map(|violation| violation.fault).collect()
}

#[test]
fn shared_counters_have_each_acknowledged_addition_once() {
    let add = |by, called, returned| (SharedCall::Add { key: COUNTERS[0].to_owned(), by }, called, returned);
    let sum =
        |sum| [(COUNTERS[0], Some(Seen { value: Value::Number(sum), version: Some(version(1)), deadline: None }))];
    let both = [add(3, 1, Some((4, Answer::Sum(8)))), add(5, 2, Some((3, Answer::Sum(5))))];
    assert_eq!(judge_shared(&both, &sum(8)), []);
    assert_eq!(judge_shared(&both, &sum(5)), [Fault::Lost]);
    assert_eq!(judge_shared(&both, &sum(13)), [Fault::Wrong]);
    let mut unanswered = both.to_vec();
    unanswered.push(add(100, 5, None));
    assert_eq!(judge_shared(&unanswered, &sum(108)), []);
    assert_eq!(judge_shared(&unanswered, &sum(8)), []);
    assert_eq!(judge_shared(&unanswered, &sum(208)), [Fault::Wrong]);
    let same_sum = [add(3, 1, Some((4, Answer::Sum(5)))), add(5, 2, Some((3, Answer::Sum(5))))];
    assert_eq!(judge_shared(&same_sum, &sum(8)), [Fault::Wrong]);
    let stale = [add(3, 1, Some((2, Answer::Sum(8)))), add(5, 3, Some((4, Answer::Sum(5))))];
    assert_eq!(judge_shared(&stale, &sum(8)), [Fault::Wrong]);
}

#[test]
fn shared_transactions_are_whole_and_the_last_transaction_stays() {
    let all = |number, called, returned| (SharedCall::WriteAll { writer: 0, number, size: 40 }, called, returned);
    let committed = |place, number: u8| Some((place, Answer::Committed(vec![Some(version(number)); 3])));
    let found = |numbers: [u64; 3], version_number| {
        [0, 1, 2].map(|index| (TOGETHER[index], entry(numbers[index], version_number)))
    };
    let one_by_one = [all(1, 1, committed(2, 1)), all(2, 3, committed(4, 2))];
    assert_eq!(judge_shared(&one_by_one, &found([2; 3], 2)), []);
    assert_eq!(judge_shared(&one_by_one, &found([2, 1, 2], 2)), [Fault::Wrong]);
    assert_eq!(judge_shared(&one_by_one, &found([1; 3], 1)), [Fault::Lost]);
    assert_eq!(judge_shared(&one_by_one, &[]), [Fault::Lost]);
    assert_eq!(judge_shared(&one_by_one, &found([2; 3], 9)), [Fault::Wrong]);
    let at_once = [all(1, 1, committed(3, 1)), all(2, 2, committed(4, 2))];
    assert_eq!(judge_shared(&at_once, &found([1; 3], 1)), []);
    let unanswered = [all(1, 1, None), all(2, 3, committed(4, 2))];
    assert_eq!(judge_shared(&unanswered, &found([1; 3], 7)), []);
    assert_eq!(judge_shared(&unanswered, &found([2; 3], 2)), []);
}
