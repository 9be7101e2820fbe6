//! Tests of the hub.

use std::sync::{Arc, Mutex};

use futures_util::FutureExt;
use proptest::prelude::*;

use super::*;
use crate::key::{Key, KeyPrefix};

fn key(number: usize) -> Key {
    Key::new(["k", &number.to_string()]).unwrap()
}

/// Returns the deliveries that wait in an inbox.
fn waiting<Q: Queue>(inbox: &mut Inbox<Q>) -> Vec<Delivery<Q::Item>> {
    std::iter::from_fn(|| inbox.next().now_or_never().flatten()).collect()
}

#[tokio::test]
async fn a_queued_key_that_changes_again_is_delivered_once() {
    let hub = Hub::<Changes>::new();
    let mut inbox = hub.subscribe(KeyPrefix::ALL);
    for number in [1, 2, 1] {
        hub.notify(&key(number));
    }
    hub.close();
    assert_eq!(inbox.next().await, Some(Delivery::Item(key(1))));
    assert_eq!(inbox.next().await, Some(Delivery::Item(key(2))));
    assert_eq!(inbox.next().await, None);
}

#[tokio::test]
async fn a_slow_subscriber_gets_a_gap_and_then_later_items() {
    let hub = Hub::<Changes>::new();
    let mut inbox = hub.subscribe(KeyPrefix::ALL);
    (0..=Changes::MAX_KEYS).for_each(|number| hub.notify(&key(number)));
    hub.notify(&key(7));
    assert_eq!(inbox.next().await, Some(Delivery::Gap(GapReason::Lagged)));
    assert_eq!(inbox.next().await, Some(Delivery::Item(key(7))));
}

#[tokio::test]
async fn a_subscriber_with_a_full_queue_yields() {
    let hub = Hub::<Changes>::new();
    let mut inbox = hub.subscribe(KeyPrefix::ALL);
    (0..1_000).for_each(|number| hub.notify(&key(number)));
    let other = tokio::spawn(async {});
    for number in 0..1_000 {
        assert_eq!(inbox.next().await, Some(Delivery::Item(key(number))));
        if other.is_finished() {
            return;
        }
    }
    panic!("the subscriber never yields");
}

#[test]
fn a_dropped_inbox_unsubscribes() {
    let hub = Hub::<Changes>::new();
    let inbox = hub.subscribe(KeyPrefix::ALL);
    assert!(hub.has_subscribers());
    drop(inbox);
    assert!(!hub.has_subscribers());
}

#[test]
fn a_note_holds_until_the_next_subscriber() {
    let hub = Hub::<Changes>::new();
    let mut notes = [Unwatched::default(); 2];
    let mut notify = || {
        for (number, note) in notes.iter_mut().enumerate() {
            hub.notify_unless(note, &key(number));
        }
    };
    let mut expected = Vec::new();
    let mut inboxes: Vec<Inbox<Changes>> = Vec::new();
    for number in [0, 1, 1, 7] {
        notify();
        let mut inbox = hub.subscribe(WatchTarget::Key(key(number)));
        notify();
        expected.push(if number < 2 { vec![Delivery::Item(key(number))] } else { Vec::new() });
        assert_eq!(Some(&waiting(&mut inbox)), expected.last());
        notify();
        assert_eq!(Some(&waiting(&mut inbox)), expected.last());
        inboxes.push(inbox);
    }
    drop(inboxes);
    notify();
    let mut all = hub.subscribe(KeyPrefix::ALL);
    notify();
    assert_eq!(waiting(&mut all), [Delivery::Item(key(0)), Delivery::Item(key(1))]);
}

fn targets() -> impl Strategy<Value = WatchTarget> {
    let key = || proptest::collection::vec("[ab]{0,2}", 1..4).prop_map(|segments| Key::new(segments).unwrap());
    prop_oneof![
        1 => Just(WatchTarget::Prefix(KeyPrefix::ALL)),
        4 => key().prop_map(WatchTarget::Key),
        4 => key().prop_map(|key| WatchTarget::Prefix(key.into())),
        2 => key().prop_map(|key| WatchTarget::Prefix(KeyPrefix::descendants(&key))),
    ]
}

proptest! {
    #[test]
    fn each_subscriber_gets_the_keys_that_its_target_covers(
        targets in proptest::collection::vec(targets(), 1..30),
        removed in proptest::collection::vec(any::<prop::sample::Index>(), 0..20),
        keys in proptest::collection::vec(proptest::collection::vec("[ab]{0,2}", 1..5), 1..20),
    ) {
        let hub = Hub::<Changes>::new();
        let mut subscribed: Vec<_> = targets.iter().map(|target| (target, hub.subscribe(target.clone()))).collect();
        for at in removed {
            if !subscribed.is_empty() {
                subscribed.swap_remove(at.index(subscribed.len()));
            }
        }
        prop_assert_eq!(hub.has_subscribers(), !subscribed.is_empty());
        let mut keys: Vec<_> = keys.iter().map(|segments| Key::new(segments).unwrap()).collect();
        keys.sort_unstable();
        keys.dedup();
        for key in &keys {
            hub.notify(key);
        }
        for (target, mut inbox) in subscribed {
            let covered: Vec<_> =
                keys.iter().filter(|key| target.covers(key)).map(|key| Delivery::Item(key.clone())).collect();
            prop_assert_eq!(waiting(&mut inbox), covered, "{:?}", target);
        }
        prop_assert!(!hub.has_subscribers());
    }
}

#[test]
fn a_suspension_is_announced_once_and_ends_in_a_gap() {
    let hub = Hub::<Changes>::new();
    let mut inbox = hub.subscribe(KeyPrefix::ALL);
    hub.notify(&key(1));
    hub.suspend(GapReason::Disconnected);
    hub.suspend(GapReason::Unanswered);
    assert_eq!(waiting(&mut inbox), [Delivery::Suspended(GapReason::Disconnected), Delivery::Item(key(1))]);
    hub.gap(GapReason::Reconnected);
    hub.notify(&key(2));
    assert_eq!(waiting(&mut inbox), [Delivery::Gap(GapReason::Reconnected), Delivery::Item(key(2))]);
}

#[test]
fn a_gap_replaces_a_suspension_that_was_not_received() {
    let hub = Hub::<Changes>::new();
    let mut inbox = hub.subscribe(KeyPrefix::ALL);
    hub.suspend(GapReason::Disconnected);
    hub.gap(GapReason::Reconnected);
    assert_eq!(waiting(&mut inbox), [Delivery::Gap(GapReason::Reconnected)]);
    hub.suspend(GapReason::Disconnected);
    hub.close();
    assert_eq!(inbox.next().now_or_never(), Some(Some(Delivery::Suspended(GapReason::Disconnected))));
    assert_eq!(inbox.next().now_or_never(), Some(None));
}

#[test]
fn items_never_resume_after_a_suspension_without_a_gap() {
    let hub = Hub::<Changes>::new();
    let mut inbox = hub.subscribe(KeyPrefix::ALL);
    hub.suspend(GapReason::Unanswered);
    assert_eq!(waiting(&mut inbox), [Delivery::Suspended(GapReason::Unanswered)]);
    hub.notify(&key(1));
    hub.notify(&key(2));
    let expected = [Delivery::Gap(GapReason::Unanswered), Delivery::Item(key(1)), Delivery::Item(key(2))];
    assert_eq!(waiting(&mut inbox), expected);
}

/// A sink that records its calls, and panics for one key.
#[derive(Debug, Default)]
struct Recorded {
    calls: Mutex<Vec<String>>,
    panics_for: Option<Key>,
}

impl Recorded {
    fn note(&self, call: String) {
        self.calls.lock().unwrap().push(call);
    }

    fn calls(&self) -> Vec<String> {
        std::mem::take(&mut self.calls.lock().unwrap())
    }
}

impl ChangeSink for Recorded {
    fn changed(&self, key: &Key) {
        self.note(format!("changed {key}"));
        assert_ne!(self.panics_for.as_ref(), Some(key));
    }

    fn current(&self, _as_of: Moment) {
        self.note("current".to_owned());
    }

    fn lost(&self, reason: GapReason) {
        self.note(format!("lost {reason:?}"));
    }
}

#[test]
fn a_sink_is_called_for_its_target_until_its_registration_is_dropped() {
    let (hub, sink) = (Hub::<Changes>::new(), Arc::new(Recorded::default()));
    let direct: Arc<dyn ChangeSink> = Arc::<Recorded>::clone(&sink);
    let registration = hub.attach(WatchTarget::Key(key(1)), Arc::clone(&direct), None);
    assert!(hub.has_subscribers());
    hub.notify(&key(1));
    hub.notify(&key(2));
    hub.current(Moment::now());
    hub.suspend(GapReason::Disconnected);
    hub.gap(GapReason::Reconnected);
    assert_eq!(sink.calls(), ["changed k#1", "current", "lost Disconnected", "lost Reconnected"]);
    drop(registration);
    hub.notify(&key(1));
    assert_eq!(sink.calls(), [""; 0]);
    let registration = hub.attach(WatchTarget::Key(key(1)), Arc::clone(&direct), Some(Moment::now()));
    hub.close();
    assert_eq!(sink.calls(), ["current", "lost Closed"]);
    drop(registration);
    drop(hub.attach(WatchTarget::Key(key(1)), direct, Some(Moment::now())));
    assert_eq!(sink.calls(), ["lost Closed"]);
}

#[test]
fn a_sink_that_panics_is_told_of_the_loss_and_disturbs_no_one() {
    let hub = Hub::<Changes>::new();
    let sink = Arc::new(Recorded { panics_for: Some(key(1)), ..Recorded::default() });
    let _registration = hub.attach(KeyPrefix::ALL.into(), Arc::clone(&sink) as Arc<dyn ChangeSink>, None);
    let mut inbox = hub.subscribe(KeyPrefix::ALL);
    hub.notify(&key(1));
    hub.notify(&key(2));
    assert_eq!(waiting(&mut inbox), [Delivery::Item(key(1)), Delivery::Item(key(2))]);
    assert_eq!(sink.calls(), ["changed k#1", "lost Lagged", "changed k#2"]);
}
