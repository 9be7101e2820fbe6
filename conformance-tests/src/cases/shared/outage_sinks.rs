//! Sinks, watchers and subscribers while the backend is unreachable. `outage` declares the cases.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::StreamExt;
use kv_core::{
    ChangeSink, GapReason, Key, KeyPrefix, KvStore, MessageEvent, Moment, SetOptions, WatchEvent, WatchQuery,
    WatchTarget,
};
use tokio::task::JoinSet;

use super::outage::{CALL_TIMEOUT, RECOVERY_TIMEOUT, recover};
use crate::context::{Context, key};
use crate::failure::{Failure, Verdict, ensure, ensure_eq};
use crate::recorder::Recorder;
use crate::sink::{Recorded, TOLERANCE};

/// The declared bound, or `None` if it is zero. Such a store calls sinks in its own process, and no link is involved.
fn bound(cx: &Context) -> Option<Duration> {
    Some(cx.store().info().watch_loss_bound).filter(|bound| !bound.is_zero())
}

/// Waits until the sink is current as of a moment after `since`.
async fn expect_current(sink: &Recorded, since: Moment) -> Verdict {
    let is_current = |calls: &crate::sink::Calls| calls.as_of.is_some_and(|as_of| as_of >= since);
    sink.wait_for(RECOVERY_TIMEOUT, "a call of `current` with a later moment", is_current).await
}

pub(super) async fn sinks_learn_of_the_loss(cx: Context) -> Verdict {
    let Some(bound) = bound(&cx) else { return Ok(()) };
    let (sink, _registration) = Recorded::register(&cx, KeyPrefix::ALL).await?;
    expect_current(&sink, Moment::now()).await?;
    cx.cut().await?;
    let cut = Moment::now();
    let expected = "a call of `lost` while the backend is unreachable";
    sink.wait_for(bound + TOLERANCE, expected, |calls| !calls.lost.is_empty()).await?;
    let age = sink.calls(|calls| calls.age_at_loss).unwrap_or_default();
    ensure!(age <= bound + TOLERANCE, "`as_of` was {age:?} old when `lost` was called, and the bound is {bound:?}");
    cx.wait(bound).await;
    let latest = sink.calls(|calls| calls.latest_as_of);
    ensure!(
        latest <= Some(cut),
        "`current` was called with a moment at which the backend was unreachable, {:?} after the cut",
        latest.map_or(Duration::ZERO, |latest| latest.since(cut))
    );
    let as_of = sink.calls(|calls| calls.as_of);
    ensure_eq!(as_of, None, "the last moment of `current` after `lost`, while the backend is unreachable");
    recover(&cx).await
}

pub(super) async fn sinks_are_current_again(cx: Context) -> Verdict {
    let Some(bound) = bound(&cx) else { return Ok(()) };
    let k = key(["k"]);
    let (sink, _registration) = Recorded::register(&cx, KeyPrefix::ALL).await?;
    for round in 0..2 {
        expect_current(&sink, Moment::now()).await?;
        sink.calls(|calls| calls.lost.clear());
        cx.cut().await?;
        sink.wait_for(bound + TOLERANCE, "a call of `lost`", |calls| !calls.lost.is_empty()).await?;
        let healed = Moment::now();
        recover(&cx).await?;
        expect_current(&sink, healed).await?;
        sink.calls(|calls| calls.changed.clear());
        cx.set(&k, round.to_string()).await?;
        sink.expect_changed(&cx, "a set after the outage", &k).await?;
    }
    Ok(())
}

/// A cache of one number: it keeps a number that was read while the sink was current, and serves it while `as_of` is
/// younger than the bound.
#[derive(Debug, Default)]
struct Cache(Mutex<Cached>);

#[derive(Debug, Default)]
struct Cached {
    /// The number of changes and losses.
    changes: u64,
    as_of: Option<Moment>,
    number: Option<u64>,
}

impl Cache {
    fn lock<T>(&self, read: impl FnOnce(&mut Cached) -> T) -> T {
        read(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The number that the cache serves, and the moment as of which it is current.
    fn served(&self, bound: Duration) -> Option<(u64, Moment)> {
        self.lock(|cached| {
            let as_of = cached.as_of.filter(|as_of| as_of.elapsed() <= bound)?;
            Some((cached.number?, as_of))
        })
    }

    /// If the cache has no number, reads it from the store, and keeps it unless something changed meanwhile. Errors are
    /// ignored.
    async fn fill(&self, store: &Recorder, key: &Key) {
        let before = self.lock(|cached| cached.as_of.filter(|_| cached.number.is_none()).map(|_| cached.changes));
        if before.is_none() {
            return;
        }
        let Ok(found) = store.get(key).await else { return };
        let number = found.and_then(|entry| std::str::from_utf8(&entry.value).ok()?.parse().ok());
        self.lock(|cached| {
            if before == Some(cached.changes) {
                cached.number = number;
            }
        });
    }
}

impl ChangeSink for Cache {
    fn changed(&self, _key: &Key) {
        self.lock(|cached| {
            cached.changes += 1;
            cached.number = None;
        });
    }

    fn current(&self, as_of: Moment) {
        self.lock(|cached| cached.as_of = Some(as_of));
    }

    fn lost(&self, _reason: GapReason) {
        self.lock(|cached| {
            cached.changes += 1;
            cached.number = None;
            cached.as_of = None;
        });
    }
}

/// The numbers that the writer has sent.
#[derive(Debug, Default)]
struct Written {
    /// The acknowledged numbers, with the moments of their acknowledgements.
    acknowledged: Vec<(u64, Moment)>,
    /// The numbers without an answer, which may still appear.
    unanswered: Vec<u64>,
}

/// The state that the tasks of the case share.
#[derive(Debug, Default)]
struct Scene {
    cache: Arc<Cache>,
    written: Mutex<Written>,
    /// True while the writer waits.
    is_paused: AtomicBool,
    is_done: AtomicBool,
}

impl Scene {
    fn written<T>(&self, read: impl FnOnce(&mut Written) -> T) -> T {
        read(&mut self.written.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn runs(&self) -> bool {
        !self.is_done.load(Ordering::Acquire)
    }

    async fn write(self: Arc<Self>, cx: Context, store: Recorder, key: Key) -> Verdict {
        for number in 1.. {
            if !self.runs() {
                break;
            }
            while self.is_paused.load(Ordering::Acquire) && self.runs() {
                cx.wait(Duration::from_millis(2)).await;
            }
            match store.set(&key, number.to_string().into(), &SetOptions::default()).await {
                Ok(_) => self.written(|written| written.acknowledged.push((number, Moment::now()))),
                Err(_) => self.written(|written| written.unanswered.push(number)),
            }
            cx.wait(Duration::from_millis(7)).await;
        }
        Ok(())
    }

    async fn fill(self: Arc<Self>, cx: Context, key: Key) -> Verdict {
        while self.runs() {
            self.cache.fill(cx.store(), &key).await;
            cx.wait(Duration::from_millis(2)).await;
        }
        Ok(())
    }

    async fn judge(self: Arc<Self>, cx: Context, bound: Duration) -> Verdict {
        while self.runs() {
            if let Some((served, as_of)) = self.cache.served(bound) {
                self.written(|written| {
                    let known = written.acknowledged.iter().rev().find(|(_, acknowledged)| *acknowledged < as_of);
                    let is_old = known.is_some_and(|(number, _)| served < *number);
                    ensure!(
                        !is_old || written.unanswered.contains(&served),
                        "the cache serves the write {served} as of {:?} ago, but a later write was acknowledged before",
                        as_of.elapsed()
                    );
                    Ok(())
                })?;
            }
            cx.wait(Duration::from_millis(1)).await;
        }
        Ok(())
    }
}

impl Scene {
    /// Reads the number from the store, and fails if the cache serves an older one as of a later moment.
    async fn expect_as_read(&self, cx: &Context, bound: Duration, key: &Key) -> Verdict {
        let entry = cx.store().get(key).await?;
        let read: u64 = entry.and_then(|entry| std::str::from_utf8(&entry.value).ok()?.parse().ok()).unwrap_or(0);
        let (after, started) = (Moment::now(), Moment::now());
        while started.elapsed() < RECOVERY_TIMEOUT {
            if let Some((served, _)) = self.cache.served(bound).filter(|(_, as_of)| *as_of > after) {
                ensure!(
                    served >= read,
                    "the cache serves the write {served}, as of a moment after the write {read} was read"
                );
                return Ok(());
            }
            cx.wait(Duration::from_millis(2)).await;
        }
        Err(Failure::new(format!("the cache served nothing within {RECOVERY_TIMEOUT:?} after the outage")))
    }
}

pub(super) async fn caches_over_sinks_stay_fresh(cx: Context) -> Verdict {
    let Some(bound) = bound(&cx) else { return Ok(()) };
    let (k, scene) = (key(["k"]), Arc::new(Scene::default()));
    let sink = Arc::clone(&scene.cache) as Arc<dyn ChangeSink>;
    let _registration = cx.store().watch_into(&WatchTarget::Key(k.clone()), sink).await?;
    let mut tasks = JoinSet::new();
    tasks.spawn(Arc::clone(&scene).write(cx.clone(), cx.second_handle().await?, k.clone()));
    tasks.spawn(Arc::clone(&scene).fill(cx.clone(), k.clone()));
    tasks.spawn(Arc::clone(&scene).judge(cx.clone(), bound));
    for outage in [bound / 10, bound + bound / 2] {
        cx.wait(bound / 2).await;
        cx.cut().await?;
        cx.wait(outage).await;
        // Writes without an answer may be in the store. With a paused writer, no later change makes up for a lost one.
        scene.is_paused.store(true, Ordering::Release);
        recover(&cx).await?;
        scene.expect_as_read(&cx, bound, &k).await?;
        scene.is_paused.store(false, Ordering::Release);
        cx.wait(bound).await;
    }
    scene.is_done.store(true, Ordering::Release);
    while let Some(ended) = tasks.join_next().await {
        ended.map_err(|error| Failure::new(format!("a task of the case panicked: {error}")))??;
    }
    // The writer has ended, so the cache must come to serve the number that the store has.
    let started = Moment::now();
    loop {
        scene.cache.fill(cx.store(), &k).await;
        let read = cx.store().get(&k).await.ok().flatten().map(|entry| entry.value);
        let served = scene.cache.served(bound).map(|(number, _)| number.to_string());
        if served.is_some() && served.as_deref().map(str::as_bytes) == read.as_deref() {
            return Ok(());
        }
        ensure!(
            started.elapsed() < RECOVERY_TIMEOUT,
            "{RECOVERY_TIMEOUT:?} after the outages, the cache serves {served:?}, and the store has {read:?}"
        );
        cx.wait(Duration::from_millis(20)).await;
    }
}

pub(super) async fn watchers_learn_what_sinks_learn(cx: Context) -> Verdict {
    let Some(bound) = bound(&cx) else { return Ok(()) };
    let k = key(["k"]);
    let (sink, _registration) = Recorded::register(&cx, KeyPrefix::ALL).await?;
    let mut events = cx.store().watch(&WatchQuery::key(k.clone())).await?;
    cx.set(&k, "before").await?;
    let first = tokio::time::timeout(RECOVERY_TIMEOUT, events.next()).await;
    ensure!(matches!(first, Ok(Some(Ok(WatchEvent::Set { .. })))), "expected the set before the outage, got {first:?}");
    expect_current(&sink, Moment::now()).await?;
    cx.cut().await?;
    sink.wait_for(bound + TOLERANCE, "a call of `lost`", |calls| !calls.lost.is_empty()).await?;
    match tokio::time::timeout(TOLERANCE, events.next()).await {
        Ok(Some(Ok(WatchEvent::Suspended { .. }))) => {}
        Ok(Some(Ok(WatchEvent::Gap { .. })) | None) => return recover(&cx).await,
        Ok(event) => return Err(Failure::new(format!("a sink got `lost`, and the watch then sent {event:?}"))),
        Err(_) => return Err(Failure::new("a sink got `lost`, and the watch did not send `Suspended`")),
    }
    recover(&cx).await?;
    let started = Moment::now();
    while started.elapsed() < RECOVERY_TIMEOUT {
        let _ = cx.store().set(&k, "after".into(), &SetOptions::default()).await;
        let Ok(event) = tokio::time::timeout(Duration::from_millis(50), events.next()).await else { continue };
        match event {
            Some(Ok(WatchEvent::Gap { .. })) | None => return Ok(()),
            Some(Ok(WatchEvent::Suspended { .. })) => {}
            event => return Err(Failure::new(format!("after `Suspended` the watch sent {event:?} without a gap"))),
        }
    }
    Err(Failure::new(format!("the watch was suspended and sent no gap within {RECOVERY_TIMEOUT:?} after the outage")))
}

pub(super) async fn subscriptions_never_resume_silently(cx: Context) -> Verdict {
    let channel = key(["c"]);
    let mut events = cx.store().subscribe(&KeyPrefix::from(&channel)).await?;
    cx.store().publish(&channel, "before".into()).await?;
    let first = tokio::time::timeout(RECOVERY_TIMEOUT, events.next()).await;
    ensure!(matches!(first, Ok(Some(Ok(MessageEvent::Message(_))))), "expected the first message, got {first:?}");
    cx.cut().await?;
    let _ = tokio::time::timeout(CALL_TIMEOUT, cx.store().publish(&channel, "lost".into())).await;
    recover(&cx).await?;
    let (started, mut is_suspended, mut messages) = (Moment::now(), false, 0);
    while started.elapsed() < RECOVERY_TIMEOUT {
        let _ = cx.store().publish(&channel, "after".into()).await;
        let Ok(event) = tokio::time::timeout(Duration::from_millis(50), events.next()).await else { continue };
        match event {
            Some(Ok(MessageEvent::Gap { .. })) | None => return Ok(()),
            Some(Ok(MessageEvent::Suspended { .. })) => is_suspended = true,
            Some(Ok(event)) => {
                ensure!(!is_suspended, "after `Suspended` the subscription sent {event:?} without a gap");
                messages += 1;
                // Nothing was announced, so nothing may be lost, and `outage/subscribers_are_told` judges that.
                if messages > 20 {
                    return Ok(());
                }
            }
            Some(Err(error)) => return Err(error.into()),
        }
    }
    Err(Failure::new(format!("the subscription sent neither a gap nor 20 messages within {RECOVERY_TIMEOUT:?}")))
}
