//! Messages: `publish` and `subscribe`.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use kv_core::{Capability, ErrorKind, Key, KeyPrefix, KvStore, MessageEvent, WatchQuery};

use crate::case::{Need, cases};
use crate::context::{Context, key};
use crate::failure::{Failure, Verdict, ensure, ensure_eq};
use crate::tasks::clients;
use crate::watcher::{Subscriber, Watcher, ended_early, key_of};

const MESSAGES: Need = Need::Has(Capability::Messages);
const WATCH: Need = Need::Has(Capability::Watch);

cases! { messages, Messages:
    reaches_its_channel: "P-1" [MESSAGES] "a message reaches a subscriber of its channel, with channel and payload";
    no_subscriber_is_fine: "P-1" [MESSAGES] "`publish` without subscribers succeeds, and the message is not kept";
    comes_in_order: "P-1" [MESSAGES] "1,000 messages of one publisher arrive once each and in order";
    publishers_keep_their_own_order: "P-1" [MESSAGES] "the messages of each of four concurrent publishers arrive once each and in order";
    every_subscriber_gets_it: "P-1" [MESSAGES] "each of three subscribers gets every message";
    live_when_the_call_returns: "P-1" [MESSAGES] "a message that is published right after `subscribe` returns arrives, in each of 100 rounds";
    nothing_from_before: "P-1" [MESSAGES] "a subscriber gets no message from before `subscribe`";
    prefix_covers_whole_segments: "P-1" [MESSAGES] "a subscription gets messages of its prefix and of channels below it, and of no sibling";
    empty_prefix_covers_all: "P-1" [MESSAGES] "a subscription to the empty prefix gets every message";
    channels_of_any_text: "K-1" [MESSAGES] "channels may contain separators, wildcards and control characters";
    payloads_of_any_bytes: "P-1" [MESSAGES] "empty, binary and equal payloads arrive unchanged";
    mebibyte_payloads: "P-1" [MESSAGES] "payloads of up to 1 MiB arrive, even if the notifications of the backend are smaller";
    payload_over_the_limit_is_invalid: "P-1" [MESSAGES] "a payload at the limit arrives; a payload over the limit is Invalid and reaches no subscriber";
    is_not_stored: "P-1" [MESSAGES] "a message writes no entry under the key of its channel";
    is_no_change: "P-1" [MESSAGES, WATCH] "watchers get no messages, and subscribers get no changes";
    slow_subscriber_is_told_of_its_loss: "P-1" [MESSAGES] "a subscriber that left 10,000 messages unread gets all of them or a gap, and blocks no publisher";
    slow_subscriber_of_large_payloads: "P-1" [MESSAGES] "a subscriber that left 64 MiB of messages unread gets all of them or a gap";
    dropped_subscriptions_cost_nothing: "P-2" [MESSAGES] "a subscription can be opened and dropped a thousand times";
    dropped_subscription_leaves_the_others: "P-2" [MESSAGES] "dropping one of two subscriptions to a channel does not affect the other";
    close_ends_the_stream: "R-3" [MESSAGES] "`close` ends the subscriptions of the store, with a waiting reader and with unread messages";
}

/// The timeout of a `publish` while a subscriber does not read.
const PUBLISH_TIMEOUT: Duration = Duration::from_secs(30);

fn channel() -> Key {
    key(["c"])
}

async fn subscriber(cx: &Context) -> Result<Subscriber, Failure> {
    Subscriber::start(cx.store(), channel()).await
}

async fn publish(cx: &Context, channel: &Key, payload: impl Into<Bytes>) -> Verdict {
    Ok(cx.store().publish(channel, payload.into()).await?)
}

async fn reaches_its_channel(cx: Context) -> Verdict {
    let mut subscriber = subscriber(&cx).await?;
    publish(&cx, &channel(), "hello").await?;
    subscriber.expect_message(&channel(), "hello").await
}

async fn no_subscriber_is_fine(cx: Context) -> Verdict {
    publish(&cx, &channel(), "nobody").await?;
    let mut subscriber = Subscriber::start(cx.store(), key(["other"])).await?;
    publish(&cx, &channel(), "nobody").await?;
    publish(&cx, &key(["other"]), "somebody").await?;
    subscriber.expect_message(&key(["other"]), "somebody").await
}

async fn comes_in_order(cx: Context) -> Verdict {
    let mut subscriber = subscriber(&cx).await?;
    let publisher = tokio::spawn({
        let cx = cx.clone();
        async move {
            for number in 0..1_000 {
                publish(&cx, &channel(), number.to_string()).await?;
            }
            Ok::<_, Failure>(())
        }
    });
    for number in 0..1_000 {
        subscriber.expect_message(&channel(), number.to_string()).await?;
    }
    publisher.await.map_err(|error| Failure::new(format!("the publishing task panicked: {error}")))?
}

async fn publishers_keep_their_own_order(cx: Context) -> Verdict {
    const EACH: u32 = 200;
    let mut subscriber = subscriber(&cx).await?;
    clients(&cx, 4, |cx, client| async move {
        for number in 0..EACH {
            publish(&cx, &channel(), format!("{client}.{number}")).await?;
            tokio::task::yield_now().await;
        }
        Ok(())
    })
    .await?;
    let mut next: BTreeMap<String, u32> = BTreeMap::new();
    for _ in 0..4 * EACH {
        let (_, payload) = subscriber.message().await?;
        let text = String::from_utf8_lossy(&payload).into_owned();
        let Some((client, number)) = text.split_once('.') else {
            return Err(Failure::new(format!("the subscriber got the message {text:?}, which no client published")));
        };
        let expected = next.entry(client.to_owned()).or_default();
        ensure_eq!(number, expected.to_string(), "the number of the next message of publisher {client}");
        *expected += 1;
    }
    Ok(())
}

async fn every_subscriber_gets_it(cx: Context) -> Verdict {
    let mut all =
        [subscriber(&cx).await?, subscriber(&cx).await?, Subscriber::start(cx.store(), KeyPrefix::ALL).await?];
    for payload in ["a", "b", "c"] {
        publish(&cx, &channel(), payload).await?;
    }
    for subscriber in &mut all {
        for payload in ["a", "b", "c"] {
            subscriber.expect_message(&channel(), payload).await?;
        }
    }
    Ok(())
}

async fn live_when_the_call_returns(cx: Context) -> Verdict {
    for round in 0..100 {
        let own = key(["c", &round.to_string()]);
        let mut subscriber = Subscriber::start(cx.store(), &own).await?;
        publish(&cx, &own, "first").await?;
        subscriber.expect_message(&own, "first").await?;
    }
    Ok(())
}

async fn nothing_from_before(cx: Context) -> Verdict {
    for round in 0..20 {
        publish(&cx, &channel(), "before").await?;
        let mut subscriber = subscriber(&cx).await?;
        publish(&cx, &channel(), round.to_string()).await?;
        subscriber.expect_message(&channel(), round.to_string()).await?;
    }
    Ok(())
}

async fn prefix_covers_whole_segments(cx: Context) -> Verdict {
    let mut subscriber = Subscriber::start(cx.store(), key(["a", "b"])).await?;
    for own in [key(["a", "b"]), key(["a", "b", ""]), key(["a", "b", "c", "d"])] {
        for stray in [key(["a"]), key(["a", "bc"]), key(["a", "c"]), key(["ab"]), key(["b"]), key(["a", "b:c"])] {
            publish(&cx, &stray, "stray").await?;
        }
        publish(&cx, &own, "own").await?;
        subscriber.expect_message(&own, "own").await?;
    }
    Ok(())
}

async fn empty_prefix_covers_all(cx: Context) -> Verdict {
    let mut subscriber = Subscriber::start(cx.store(), KeyPrefix::ALL).await?;
    for own in [key([""]), key(["a"]), key(["b", "c"]), key(["", ""])] {
        publish(&cx, &own, "v").await?;
        subscriber.expect_message(&own, "v").await?;
    }
    Ok(())
}

async fn channels_of_any_text(cx: Context) -> Verdict {
    let long = "x".repeat(Key::MAX_BYTES - 2);
    for text in ["a*", "a?[b]", "%_", "a:b", "a#b", "a$b", "\0\n", "🦀", "", "'; --", "\"", "{x}", &long] {
        let own = key([text, "k"]);
        let mut subscriber = Subscriber::start(cx.store(), key([text])).await?;
        publish(&cx, &key(["ax", "k"]), "stray").await?;
        publish(&cx, &own, "own").await?;
        subscriber.expect_message(&own, "own").await?;
    }
    Ok(())
}

async fn payloads_of_any_bytes(cx: Context) -> Verdict {
    let mut subscriber = subscriber(&cx).await?;
    let payloads = [Vec::new(), vec![0], vec![0xff, 0, b'\n', 0xc3], b"same".to_vec(), b"same".to_vec(), Vec::new()];
    for payload in &payloads {
        publish(&cx, &channel(), payload.clone()).await?;
    }
    for payload in &payloads {
        subscriber.expect_message(&channel(), payload).await?;
    }
    Ok(())
}

async fn mebibyte_payloads(cx: Context) -> Verdict {
    let mut subscriber = subscriber(&cx).await?;
    for length in [7_999, 8_000, 8_001, 65_536, 1 << 20] {
        let payload: Vec<u8> = (0..length).map(|index: u32| index.to_le_bytes()[0]).collect();
        publish(&cx, &channel(), payload.clone()).await?;
        let (_, received) = subscriber.message().await?;
        ensure!(
            received == payload,
            "the subscriber got a message of {} bytes that differs from the published message of {length} bytes",
            received.len()
        );
    }
    Ok(())
}

async fn payload_over_the_limit_is_invalid(cx: Context) -> Verdict {
    let limit = cx.limits().max_message_bytes;
    let mut subscriber = subscriber(&cx).await?;
    match cx.store().publish(&channel(), vec![1; limit + 1].into()).await {
        Err(error) if error.kind() == ErrorKind::Invalid => {}
        other => {
            return Err(Failure::new(format!(
                "expected `publish` of a payload over the limit to fail as Invalid, but it returned {other:?}"
            )));
        }
    }
    publish(&cx, &channel(), vec![2; limit]).await?;
    let (_, received) = subscriber.message().await?;
    ensure!(
        received == vec![2; limit],
        "the subscriber got a message of {} bytes that differs from the published message of {limit} bytes",
        received.len()
    );
    Ok(())
}

async fn is_not_stored(cx: Context) -> Verdict {
    publish(&cx, &channel(), "v").await?;
    cx.expect_absent(channel()).await?;
    if cx.has(Capability::List) {
        ensure_eq!(cx.keys(()).await?, Vec::<Key>::new(), "the keys that `list` returned after `publish`");
    }
    Ok(())
}

async fn is_no_change(cx: Context) -> Verdict {
    let sentinel = key(["c", "sentinel"]);
    let mut watcher = Watcher::start(cx.store(), WatchQuery::prefix(channel())).await?;
    let mut subscriber = subscriber(&cx).await?;
    publish(&cx, &key(["c", "k"]), "message").await?;
    cx.set(&sentinel, "change").await?;
    for event in watcher.events_until(&sentinel, "change").await? {
        ensure!(key_of(&event) == Some(&sentinel), "the watch reported {event:?} for a message");
    }
    publish(&cx, &key(["c", "k"]), "second").await?;
    subscriber.expect_message(&key(["c", "k"]), "message").await?;
    subscriber.expect_message(&key(["c", "k"]), "second").await
}

/// Publishes numbered messages to a subscriber that does not read, and then reads them.
async fn publish_unread(cx: &Context, count: u32, padding: usize) -> Verdict {
    let mut slow = subscriber(cx).await?;
    let payload = |number: u32| [format!("{number}.").into_bytes(), vec![b'x'; padding]].concat();
    for number in 0..count {
        match tokio::time::timeout(PUBLISH_TIMEOUT, publish(cx, &channel(), payload(number))).await {
            Ok(result) => result?,
            Err(_) => {
                return Err(Failure::new(format!(
                    "`publish` did not end within {PUBLISH_TIMEOUT:?} while a subscriber did not read"
                )));
            }
        }
    }
    let mut expected = 0;
    while expected < count {
        match slow.next().await? {
            Some(MessageEvent::Message(message)) => {
                let text = String::from_utf8_lossy(&message.payload).into_owned();
                let number = text.split_once('.').and_then(|(number, _)| number.parse::<u32>().ok());
                ensure_eq!(number, Some(expected), "the number of the next message without a gap before it");
                expected += 1;
            }
            Some(_) => return expect_message_after_gap(cx, slow).await,
            None => return Err(ended_early()),
        }
    }
    Ok(())
}

/// Fails unless a subscriber still receives new messages after a gap. Queued messages may arrive first.
async fn expect_message_after_gap(cx: &Context, mut slow: Subscriber) -> Verdict {
    publish(cx, &channel(), "after the gap").await?;
    loop {
        match slow.next().await? {
            Some(MessageEvent::Message(message)) if message.payload == "after the gap" => return Ok(()),
            Some(MessageEvent::Message(_)) => {}
            Some(_) => publish(cx, &channel(), "after the gap").await?,
            None => return Err(ended_early()),
        }
    }
}

async fn slow_subscriber_is_told_of_its_loss(cx: Context) -> Verdict {
    publish_unread(&cx, 10_000, 0).await
}

async fn slow_subscriber_of_large_payloads(cx: Context) -> Verdict {
    publish_unread(&cx, 64, (1 << 20) - 16).await
}

async fn dropped_subscriptions_cost_nothing(cx: Context) -> Verdict {
    for round in 0..1_000 {
        let dropped = subscriber(&cx).await?;
        if round % 100 == 0 {
            publish(&cx, &channel(), round.to_string()).await?;
        }
        drop(dropped);
    }
    let mut subscriber = subscriber(&cx).await?;
    publish(&cx, &channel(), "last").await?;
    subscriber.expect_message(&channel(), "last").await
}

async fn dropped_subscription_leaves_the_others(cx: Context) -> Verdict {
    let (dropped, mut stays) = (subscriber(&cx).await?, subscriber(&cx).await?);
    publish(&cx, &channel(), "before").await?;
    drop(dropped);
    publish(&cx, &channel(), "after").await?;
    stays.expect_message(&channel(), "before").await?;
    stays.expect_message(&channel(), "after").await
}

async fn close_ends_the_stream(cx: Context) -> Verdict {
    let (mut waiting, unread) = (subscriber(&cx).await?, subscriber(&cx).await?);
    publish(&cx, &channel(), "v").await?;
    waiting.expect_message(&channel(), "v").await?;
    let waiting = tokio::spawn(waiting.expect_end());
    cx.store().close().await?;
    unread.expect_end().await?;
    waiting.await.map_err(|error| Failure::new(format!("the reading task panicked: {error}")))?
}
