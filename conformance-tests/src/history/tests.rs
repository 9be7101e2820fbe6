//! The checker accepts histories that some order explains, and rejects others.

use std::time::{Duration, SystemTime};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::check::check;
use super::model::{Answer, Call, Condition, Lifetime, Moment, Operation, State, Value};

fn moment(tick: u64) -> Moment {
    Moment { tick, time: SystemTime::UNIX_EPOCH + Duration::from_millis(tick) }
}

fn value(number: usize) -> Value {
    Value { client: 0, number }
}

fn write(number: usize, condition: Condition) -> Call {
    Call::Set { value: value(number), condition, lifetime: Lifetime::Never, previous: false }
}

/// A call between two ticks. A tick is also one millisecond.
fn op(called: u64, returned: u64, call: Call, answer: Answer) -> Operation {
    Operation { client: 0, call, called: moment(called), returned: Some((moment(returned), answer)) }
}

fn set(called: u64, returned: u64, number: usize) -> Operation {
    op(called, returned, write(number, Condition::Always), Answer::Stored)
}

fn get(called: u64, returned: u64, found: usize) -> Operation {
    op(called, returned, Call::Get, Answer::Found(Some(value(found))))
}

fn get_nothing(called: u64, returned: u64) -> Operation {
    op(called, returned, Call::Get, Answer::Found(None))
}

fn swap(called: u64, returned: u64, from: usize, to: usize, answer: Answer) -> Operation {
    op(called, returned, write(to, Condition::Value(value(from))), answer)
}

fn create(called: u64, returned: u64, number: usize, answer: Answer) -> Operation {
    op(called, returned, write(number, Condition::Absent), answer)
}

fn delete(called: u64, returned: u64, answer: Answer) -> Operation {
    op(called, returned, Call::Delete { condition: Condition::Always, previous: false }, answer)
}

fn set_with_ttl(called: u64, returned: u64, number: usize, millis: u64) -> Operation {
    let lifetime = Lifetime::After(Duration::from_millis(millis));
    let call = Call::Set { value: value(number), condition: Condition::Always, lifetime, previous: false };
    op(called, returned, call, Answer::Stored)
}

fn without_return(operation: &Operation) -> Operation {
    Operation { returned: None, ..operation.clone() }
}

#[track_caller]
fn assert_good(history: &[Operation]) {
    if let Err(violation) = check(history) {
        panic!("{violation}");
    }
}

#[track_caller]
fn assert_bad(history: &[Operation], unexplained: &Operation) {
    let text = check(history).unwrap_err().to_string();
    let marked: Vec<_> = text.lines().filter(|line| line.ends_with("<--")).collect();
    assert_eq!(marked.len(), 1, "{text}");
    assert!(marked[0].contains(&unexplained.call.to_string()), "{text}");
}

#[test]
fn sequential_operations_are_good() {
    assert_good(&[get_nothing(0, 1), set(2, 3, 1), get(4, 5, 1), delete(6, 7, Answer::Deleted), get_nothing(8, 9)]);
}

#[test]
fn concurrent_operations_may_have_either_order() {
    assert_good(&[set(0, 10, 1), set(1, 9, 2), get(11, 12, 1)]);
    assert_good(&[set(0, 10, 1), set(1, 9, 2), get(11, 12, 2)]);
    assert_good(&[set(0, 10, 1), get_nothing(1, 2), get(3, 4, 1)]);
}

#[test]
fn a_stale_read_is_bad() {
    let stale = get(4, 5, 1);
    assert_bad(&[set(0, 1, 1), set(2, 3, 2), stale.clone()], &stale);
}

#[test]
fn a_read_that_goes_back_is_bad() {
    let back = get(7, 8, 1);
    assert_bad(&[set(0, 1, 1), set(2, 10, 2), get(5, 6, 2), back.clone()], &back);
}

#[test]
fn a_value_before_its_write_is_bad() {
    let early = get(0, 1, 1);
    assert_bad(&[early.clone(), set(2, 3, 1)], &early);
}

#[test]
fn a_lost_update_is_bad() {
    let late = swap(3, 6, 1, 3, Answer::Stored);
    assert_bad(&[set(0, 1, 1), swap(2, 5, 1, 2, Answer::Stored), late.clone()], &late);
}

#[test]
fn a_write_that_is_applied_twice_is_bad() {
    let again = get(6, 7, 1);
    assert_bad(&[set(0, 1, 1), set(2, 3, 2), get(4, 5, 2), again.clone()], &again);
}

#[test]
fn two_creators_are_bad() {
    let second = create(1, 4, 2, Answer::Stored);
    assert_bad(&[create(0, 3, 1, Answer::Stored), second.clone()], &second);
    assert_good(&[create(0, 3, 1, Answer::Stored), create(1, 4, 2, Answer::Refused(Some(value(1))))]);
}

#[test]
fn a_refusal_must_return_the_current_value() {
    let wrong = swap(4, 5, 9, 3, Answer::Refused(Some(value(1))));
    assert_bad(&[set(0, 1, 1), set(2, 3, 2), wrong.clone()], &wrong);
    let unfounded = swap(2, 3, 1, 3, Answer::Refused(Some(value(1))));
    assert_bad(&[set(0, 1, 1), unfounded.clone()], &unfounded);
}

#[test]
fn one_entry_is_deleted_once() {
    let second = delete(3, 6, Answer::Deleted);
    assert_bad(&[set(0, 1, 1), delete(2, 5, Answer::Deleted), second.clone()], &second);
    assert_good(&[set(0, 1, 1), delete(2, 5, Answer::Deleted), delete(3, 6, Answer::Missing)]);
}

#[test]
fn a_write_without_return_may_take_effect_now_later_or_never() {
    let unanswered = without_return(&set(2, 0, 2));
    assert_good(&[set(0, 1, 1), unanswered.clone(), get(3, 4, 1), get(5, 6, 1)]);
    assert_good(&[set(0, 1, 1), unanswered.clone(), get(3, 4, 2)]);
    assert_good(&[set(0, 1, 1), unanswered.clone(), get(3, 4, 1), get(5, 6, 2)]);
    let twice = get(9, 10, 2);
    assert_bad(&[set(0, 1, 1), unanswered, get(3, 4, 2), set(5, 6, 3), get(7, 8, 3), twice.clone()], &twice);
}

#[test]
fn many_writes_without_return_are_checked_fast() {
    let mut history: Vec<Operation> =
        (0..25_usize).map(|number| without_return(&set(number as u64, 0, number))).collect();
    history.extend((25..50).map(|tick| without_return(&delete(tick, 0, Answer::Deleted))));
    history.push(set(60, 61, 60));
    history.push(get(62, 63, 60));
    history.push(get_nothing(64, 65));
    history.push(delete(66, 67, Answer::Deleted));
    assert_good(&history);
    // The delete above used one of the 25 sets, so no set is left to explain the last of these 25 deletes.
    history.extend((0..25).map(|number| delete(70 + 2 * number, 71 + 2 * number, Answer::Deleted)));
    let unexplained = history.last().unwrap().clone();
    assert_bad(&history, &unexplained);
}

#[test]
fn a_read_value_is_explained_only_by_its_own_write() {
    let lost = without_return(&set(1, 0, 1));
    let seen = without_return(&set(2, 0, 2));
    assert_good(&[lost.clone(), seen.clone(), get(3, 4, 2), get(5, 6, 2)]);
    let back = get(7, 8, 2);
    assert_bad(&[lost, seen, get(3, 4, 2), delete(5, 6, Answer::Deleted), back.clone()], &back);
}

#[test]
fn an_entry_is_live_until_its_deadline_only() {
    let history = [set_with_ttl(0, 4, 1, 10), get(8, 9, 1)];
    assert_good(&history);
    // The write took effect at some moment up to 4, so the entry expires at some moment up to 14.
    assert_good(&[history[0].clone(), get(11, 12, 1), get_nothing(13, 15)]);
    let (early, late) = (get_nothing(8, 9), get(15, 16, 1));
    assert_bad(&[history[0].clone(), early.clone()], &early);
    assert_bad(&[history[0].clone(), late.clone()], &late);
    let back = get(13, 14, 1);
    assert_bad(&[history[0].clone(), get_nothing(11, 12), back.clone()], &back);
}

#[test]
fn a_write_that_was_checked_before_the_deadline_may_take_effect_after_it() {
    let renewed = |called| op(called, 16, write(2, Condition::Present), Answer::Stored);
    assert_good(&[set_with_ttl(0, 1, 1, 10), renewed(9), get_nothing(12, 13), get(17, 18, 2)]);
    let late = renewed(14);
    assert_bad(&[set_with_ttl(0, 1, 1, 10), get_nothing(12, 13), late.clone()], &late);
}

#[test]
fn an_expired_entry_can_be_created_but_not_deleted() {
    let written = set_with_ttl(0, 1, 1, 5);
    assert_good(&[written.clone(), create(7, 8, 2, Answer::Stored), get(20, 21, 2)]);
    assert_good(&[written.clone(), delete(7, 8, Answer::Missing)]);
    let deleted = delete(7, 8, Answer::Deleted);
    assert_bad(&[written, deleted.clone()], &deleted);
}

/// Compares the checker with a search through every order of all operations, on small random histories.
#[test]
fn the_checker_agrees_with_trying_every_order() {
    let mut rng = StdRng::seed_from_u64(7);
    let (mut good, mut bad) = (0, 0);
    for _ in 0..8_000 {
        let count = rng.random_range(2..7_usize);
        let mut ticks: Vec<u64> = (0..2 * count as u64).collect();
        let history: Vec<Operation> = (0..count)
            .map(|number| {
                let mut take = || ticks.swap_remove(rng.random_range(0..ticks.len()));
                let (one, other) = (take(), take());
                let known = Some(value(rng.random_range(0..count))).filter(|_| rng.random_bool(0.8));
                let (call, answer) = match rng.random_range(0..4) {
                    0 => (Call::Get, Answer::Found(known)),
                    1 => (Call::Delete { condition: Condition::Always, previous: false }, Answer::Deleted),
                    _ => {
                        let condition =
                            known.filter(|_| rng.random_bool(0.4)).map_or(Condition::Always, Condition::Value);
                        (write(number, condition), Answer::Stored)
                    }
                };
                let operation = op(one.min(other), one.max(other), call, answer);
                if call != Call::Get && rng.random_bool(0.4) { without_return(&operation) } else { operation }
            })
            .collect();
        let expected = some_order_explains(&history, &mut vec![false; history.len()], None);
        assert_eq!(check(&history).is_ok(), expected, "{history:#?}");
        *(if expected { &mut good } else { &mut bad }) += 1;
    }
    assert!(good > 200 && bad > 200, "too few histories of one kind: {good} good and {bad} bad histories");
}

fn some_order_explains(history: &[Operation], placed: &mut [bool], state: State) -> bool {
    if history.iter().zip(&*placed).all(|(operation, placed)| *placed || operation.returned.is_none()) {
        return true;
    }
    for next in 0..history.len() {
        // Every operation that returned before this call must be in the order already.
        let is_free = !placed[next]
            && history.iter().zip(&*placed).all(|(other, placed)| {
                *placed || other.returned.is_none_or(|(moment, _)| moment.tick > history[next].called.tick)
            });
        if is_free {
            placed[next] = true;
            let found = history[next].effects(state).any(|state| some_order_explains(history, placed, state));
            placed[next] = false;
            if found {
                return true;
            }
        }
    }
    false
}

#[test]
fn a_violation_is_shown_as_a_timeline() {
    let unanswered = without_return(&Operation { client: 2, ..delete(3, 0, Answer::Deleted) });
    let stale = Operation { client: 1, ..get(9, 12, 4) };
    let violation = check(&[set(0, 5, 1), unanswered, set(7, 8, 2), stale]).unwrap_err();
    assert_eq!(
        violation.to_string(),
        "no order of the operations explains the marked answer
  the earlier answers leave the key with: 0.2
  |-|      client 0: set 0.1 -> stored
   |-----… client 2: delete -> no answer, may have happened
     ||    client 0: set 0.2 -> stored
       ||  client 1: get -> 0.4  <--
"
    );
}
