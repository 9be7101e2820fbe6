//! Stores whose loss bound is zero: a sink is called inside the section that makes a write visible.

use std::sync::mpsc::Receiver;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use kv_core::{
    BoxFuture, Capability, ChangeSink, Expiry, GapReason, IncrementOptions, Key, KvStore, ListQuery, Moment, NewExpiry,
    SetItem, SetOptions, Transaction, WatchTarget, When,
};
use tokio::runtime::Handle;
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tokio::task::JoinSet;

use crate::case::{Need, cases};
use crate::context::{Context, key};
use crate::failure::{Failure, Verdict, ensure, ensure_eq};

const SINKS: Need = Need::Has(Capability::Sinks);

cases! { zero_bound, Watch:
    writes_call_sinks_in_their_section: "W-5" [SINKS]
        "with a bound of zero, no read returns while a sink is called for a write, and every read then returns the write";
    transactions_call_sinks_in_their_section: "W-5" [SINKS, Need::Has(Capability::Transactions)]
        "with a bound of zero, no read returns while a sink is called for a transaction, and every read then returns the write";
}

/// The time for which a read must not return while a sink is called.
const SILENCE: Duration = Duration::from_millis(30);

/// The longest time for which a sink waits at its gate.
const MAX_WAIT: Duration = Duration::from_secs(30);

/// A sink that waits at a gate in each call of `changed`. The gate opens when the sender is dropped.
#[derive(Debug)]
struct Gated {
    entered: UnboundedSender<Key>,
    gate: Mutex<Receiver<()>>,
}

impl ChangeSink for Gated {
    fn changed(&self, key: &Key) {
        let _ = self.entered.send(key.clone());
        let _ = self.gate.lock().unwrap_or_else(PoisonError::into_inner).recv_timeout(MAX_WAIT);
    }

    fn current(&self, _as_of: Moment) {}

    fn lost(&self, _reason: GapReason) {}
}

fn k() -> Key {
    key(["s", "k"])
}

/// A write of the key [`k`], and the value that the key then has.
struct Write {
    name: &'static str,
    run: BoxFuture<'static, Verdict>,
    after: Option<Bytes>,
}

/// A read of the key [`k`] with its name.
type Read = (&'static str, BoxFuture<'static, Result<Option<Bytes>, Failure>>);

impl Write {
    fn new<F>(name: &'static str, cx: &Context, run: impl FnOnce(Context) -> F, after: Option<&str>) -> Self
    where
        F: Future<Output = Verdict> + Send + 'static,
    {
        let after = after.map(|value| Bytes::copy_from_slice(value.as_bytes()));
        Self { name, run: Box::pin(run(cx.clone())), after }
    }

    fn set(name: &'static str, cx: &Context, value: impl Into<String>, options: SetOptions) -> Self {
        let value = value.into();
        let after = if options.expiry == Expiry::After(Duration::ZERO) { None } else { Some(value.clone()) };
        let run = |cx: Context| async move { cx.set_with(k(), value, options).await.map(drop) };
        Self::new(name, cx, run, after.as_deref())
    }
}

/// The reads of the key [`k`].
fn reads(cx: &Context) -> Vec<Read> {
    let [one, two, three] = std::array::from_fn(|_| cx.clone());
    let get = async move { one.get(k()).await };
    let get_many = async move {
        let found = two.store().get_many(&[k()]).await.into_iter().next();
        Ok(found.transpose()?.flatten().map(|entry| entry.value))
    };
    let list = async move {
        let items = three.list_all(ListQuery::new(k())).await?;
        Ok(items.into_iter().find_map(|item| item.entry).map(|entry| entry.value))
    };
    let mut reads: Vec<Read> = vec![("get", Box::pin(get)), ("get_many", Box::pin(get_many))];
    if cx.has(Capability::List) {
        reads.push(("list", Box::pin(list)));
    }
    reads
}

/// Runs a write whose sink waits at a gate. Fails if a read of the key returns before the gate opens, or if a read then
/// returns another value than the written one.
async fn expect_in_section(cx: &Context, write: Write) -> Verdict {
    let Write { name, run, after } = write;
    let (entered, mut has_entered) = unbounded_channel();
    let (open, gate) = std::sync::mpsc::channel::<()>();
    let sink = Arc::new(Gated { entered, gate: Mutex::new(gate) });
    let registration = cx.store().watch_into(&WatchTarget::Key(k()), sink).await?;
    // A failure drops `open` first, so that the sink does not wait while the registration ends.
    let open = open;
    // The write and the reads may block their threads, so they do not run on the threads of the runtime.
    let runtime = Handle::current();
    let mut writing = tokio::task::spawn_blocking({
        let runtime = runtime.clone();
        move || runtime.block_on(run)
    });
    let panicked = |error| Failure::new(format!("{name}: a task panicked: {error}"));
    tokio::select! {
        Some(changed) = has_entered.recv() => ensure_eq!(changed, k(), "{name}: the key that the sink got"),
        ended = &mut writing => {
            ended.map_err(panicked)??;
            return Err(Failure::new(format!("{name} was acknowledged before the sink was called")));
        }
    }
    let mut reading = JoinSet::new();
    for (operation, read) in reads(cx) {
        let runtime = runtime.clone();
        reading.spawn_blocking(move || (operation, runtime.block_on(read)));
    }
    if let Ok(Some(early)) = tokio::time::timeout(SILENCE, reading.join_next()).await {
        let (operation, found) = early.map_err(panicked)?;
        let found = found?;
        return Err(Failure::new(format!("{name}: `{operation}` returned {found:?} while the sink was called")));
    }
    drop(open);
    while let Some(read) = reading.join_next().await {
        let (operation, found) = read.map_err(panicked)?;
        ensure_eq!(found?, after, "{name}: the value that `{operation}` returned after the call of the sink");
    }
    writing.await.map_err(panicked)??;
    drop(registration);
    Ok(())
}

/// True if the store declares a bound of zero.
fn applies(cx: &Context) -> bool {
    cx.store().info().watch_loss_bound.is_zero()
}

async fn writes_call_sinks_in_their_section(cx: Context) -> Verdict {
    if !applies(&cx) {
        return Ok(());
    }
    let plain = SetOptions::default;
    expect_in_section(&cx, Write::set("a creation", &cx, "2", plain())).await?;
    let mut writes = vec![
        Write::set("a set", &cx, "2", plain()),
        Write::set("a set of another length", &cx, "2".repeat(2_000), plain()),
        Write::set("a set of a large value", &cx, "2".repeat(70_000), plain()),
        Write::set("a set that expires at once", &cx, "2", plain().with_expiry(Expiry::After(Duration::ZERO))),
        Write::new("a set_many", &cx, |cx| async move { cx.set_many(&[SetItem::new(k(), "2")]).await }, Some("2")),
        Write::new("a delete", &cx, |cx| async move { cx.delete(k()).await.map(drop) }, None),
        Write::new("a delete_many", &cx, delete_many, None),
    ];
    if cx.has(Capability::Conditions) {
        writes.push(Write::set("a set of a present key", &cx, "2", plain().with_when(When::Present)));
    }
    if cx.has(Capability::Counters) {
        writes.push(Write::new("an increment", &cx, increment, Some("2")));
    }
    if cx.has(Capability::Touch) {
        writes.push(Write::new("a touch that ends the entry", &cx, touch, None));
    }
    if cx.has(Capability::List) {
        let clear = |cx: Context| async move { Ok(cx.store().clear(&key(["s"]).into()).await.map(drop)?) };
        writes.push(Write::new("a clear", &cx, clear, None));
    }
    for write in writes {
        cx.set(k(), "1").await?;
        expect_in_section(&cx, write).await?;
    }
    Ok(())
}

async fn delete_many(cx: Context) -> Verdict {
    for deleted in cx.store().delete_many(&[k()]).await {
        let _ = deleted?;
    }
    Ok(())
}

async fn increment(cx: Context) -> Verdict {
    let sum = cx.store().increment(&k(), 1, &IncrementOptions::default()).await?;
    ensure_eq!(sum, 2, "the sum that `increment` returned");
    Ok(())
}

async fn touch(cx: Context) -> Verdict {
    ensure!(cx.store().touch(&k(), NewExpiry::After(Duration::ZERO)).await?, "`touch` found no entry");
    Ok(())
}

async fn transactions_call_sinks_in_their_section(cx: Context) -> Verdict {
    if !applies(&cx) {
        return Ok(());
    }
    let other = || key(["s", "other"]);
    let set = Transaction::new().set(other(), "2", Expiry::Never).set(k(), "2", Expiry::Never);
    let delete = Transaction::new().delete(k()).set(other(), "2", Expiry::Never);
    for (name, transaction, after) in
        [("a transaction that sets", set, Some("2")), ("a transaction that deletes", delete, None)]
    {
        cx.set(k(), "1").await?;
        let commit = |cx: Context| async move {
            ensure!(cx.store().commit(&transaction).await?.is_committed(), "the transaction was refused");
            Ok(())
        };
        expect_in_section(&cx, Write::new(name, &cx, commit, after)).await?;
    }
    Ok(())
}
