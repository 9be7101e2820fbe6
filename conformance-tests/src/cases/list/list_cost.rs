//! The cost of a page, counted in reads of one key: while a page is read, another task reads one key again and again.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use kv_core::{KvStore, ListQuery, SetItem};

use crate::case::{Need, cases};
use crate::context::{Context, key};
use crate::failure::{Failure, Verdict, ensure};

cases! { list_cost, List:
    pages_read_their_entries_only: "L-3" [Need::NativeList, Need::KeepsAll] "the cost of a page with a small limit does not grow with the number of entries in the store";
}

/// The number of entries in a small store, and in a large one.
const FEW: usize = 20;
const MANY: usize = 20_000;
/// The number of pages of each query.
const PAGES: usize = 9;
/// The index of the page that counts, in the order of their costs. A busy machine makes some pages seem expensive, and
/// may stop the other task while a page is read.
const COUNTED: usize = 2;
/// The factor by which a page of the large store may cost more. The large store has a thousand times the entries.
const MARGIN: u64 = 8;
/// The smallest number of reads that counts as a cost, because a page is not exactly as fast as a read.
const LEAST: u64 = 2;

fn listed(number: usize) -> String {
    format!("{number:06}")
}

async fn write(cx: &Context, numbers: std::ops::Range<usize>) -> Verdict {
    let items: Vec<_> = numbers.map(|number| SetItem::new(key(["k", &listed(number)]), "a short value")).collect();
    cx.set_many(&items).await
}

/// Queries of small pages: the first one, a later one, reversed ones, and one below a prefix.
fn queries(entries: usize) -> [(&'static str, ListQuery); 5] {
    let middle = key(["k", &listed(entries / 2)]);
    let page = || ListQuery::default().with_limit(2);
    [
        ("the first page", page()),
        ("a page in the middle", page().with_after(middle.clone())),
        ("the first reversed page", page().with_reverse()),
        ("a reversed page in the middle", page().with_reverse().with_before(middle.clone())),
        ("a page below a prefix", ListQuery::new(middle).with_limit(2)),
    ]
}

/// Returns the cost of a page: the number of reads that another task completes meanwhile.
async fn cost(cx: &Context, query: &ListQuery) -> Result<u64, Failure> {
    let reads = Arc::new(AtomicU64::new(0));
    let reading = tokio::spawn({
        let (store, reads) = (Arc::clone(cx.store().inner()), Arc::clone(&reads));
        async move {
            let k = key(["k", &listed(0)]);
            while store.get(&k).await.is_ok() {
                reads.fetch_add(1, Ordering::Relaxed);
                tokio::task::yield_now().await;
            }
        }
    });
    while reads.load(Ordering::Relaxed) == 0 {
        ensure!(!reading.is_finished(), "`get` failed while pages were read");
        tokio::task::yield_now().await;
    }
    let mut costs = Vec::new();
    for _ in 0..PAGES {
        let before = reads.load(Ordering::Relaxed);
        let page = cx.store().list(query).await?;
        ensure!(!page.items.is_empty(), "`list` returned an empty page of {query:?}");
        costs.push(reads.load(Ordering::Relaxed) - before);
    }
    reading.abort();
    costs.sort_unstable();
    Ok(costs.get(COUNTED).copied().unwrap_or_default())
}

async fn pages_read_their_entries_only(cx: Context) -> Verdict {
    write(&cx, 0..FEW).await?;
    let mut few = Vec::new();
    for (_, query) in queries(FEW) {
        few.push(cost(&cx, &query).await?);
    }
    write(&cx, FEW..MANY).await?;
    for ((name, query), few) in queries(MANY).into_iter().zip(few) {
        let many = cost(&cx, &query).await?;
        ensure!(
            many <= few.max(LEAST) * MARGIN,
            "{name} of two entries takes as long as {many} reads of one key in a store of {MANY} entries, and as long as \
             {few} reads in a store of {FEW} entries, but the store declares `List::Native`"
        );
    }
    Ok(())
}
