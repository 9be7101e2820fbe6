//! Entries whose stored bytes were damaged while the store was closed.

use kv_core::{Capability, ErrorKind, KeyPrefix, KvStore, ListQuery};

use crate::case::{Need, cases};
use crate::context::{Context, key};
use crate::failure::{Verdict, ensure_eq};

cases! { damage, Durable:
    get_reports_it: "E-4" [Need::Reopen, Need::Damage] "`get` of a damaged entry fails with `Corrupt`, and other keys work";
    get_many_reports_it: "E-4" [Need::Reopen, Need::Damage] "`get_many` returns `Corrupt` for the damaged entry only";
    list_goes_on: "E-4" [Need::Reopen, Need::Damage, Need::Has(Capability::List)]
        "`list` reports the damaged entry once, as an error with the key of the entry, and returns all other entries";
    list_backwards_goes_on: "E-4" [Need::Reopen, Need::Damage, Need::Has(Capability::List)]
        "a reversed `list` in pages reports the damaged entry once, and returns all other entries";
    a_set_replaces_it: "E-4" [Need::Reopen, Need::Damage] "a `set` without a condition replaces a damaged entry";
    clear_removes_it: "L-5" [Need::Reopen, Need::Damage, Need::Has(Capability::List)] "`clear` also removes a damaged entry";
}

/// Stores `a` to `e` and damages `c`.
async fn with_damaged_c(cx: &mut Context) -> Verdict {
    for name in ["a", "b", "c", "d", "e"] {
        cx.set([name], format!("the value of {name}")).await?;
    }
    cx.damage(&key(["c"])).await
}

async fn get_reports_it(mut cx: Context) -> Verdict {
    with_damaged_c(&mut cx).await?;
    let kind = cx.store().get(&key(["c"])).await.map_err(|error| error.kind());
    ensure_eq!(kind, Err(ErrorKind::Corrupt), "the result of `get` of the damaged entry");
    for name in ["a", "b", "d", "e"] {
        cx.expect([name], format!("the value of {name}")).await?;
    }
    cx.set(["b"], "new").await?;
    cx.expect(["b"], "new").await?;
    cx.set(["c"], "clean up").await.map(drop)
}

async fn get_many_reports_it(mut cx: Context) -> Verdict {
    with_damaged_c(&mut cx).await?;
    let keys = ["a", "c", "missing", "e"].map(|name| key([name]));
    let found: Vec<_> = cx
        .store()
        .get_many(&keys)
        .await
        .into_iter()
        .map(|result| result.map(|entry| entry.map(|entry| entry.value)).map_err(|error| error.kind()))
        .collect();
    let expected =
        vec![Ok(Some("the value of a".into())), Err(ErrorKind::Corrupt), Ok(None), Ok(Some("the value of e".into()))];
    ensure_eq!(found, expected, "the results of `get_many` with a damaged entry");
    cx.set(["c"], "clean up").await.map(drop)
}

async fn list_goes_on(cx: Context) -> Verdict {
    listed(cx, ListQuery::new(KeyPrefix::ALL)).await
}

async fn list_backwards_goes_on(cx: Context) -> Verdict {
    listed(cx, ListQuery::new(KeyPrefix::ALL).with_limit(2).with_reverse()).await
}

/// Fails unless all pages of the query together have the four readable keys and the damaged key, each once.
async fn listed(mut cx: Context, query: ListQuery) -> Verdict {
    with_damaged_c(&mut cx).await?;
    let (mut live, mut damaged) = (Vec::new(), Vec::new());
    let mut query = query;
    for _ in 0..10 {
        let page = cx.store().list(&query).await?;
        let next = page.next.clone();
        live.extend(page.items.iter().map(|item| item.key.clone()));
        for error in &page.damaged {
            ensure_eq!(error.kind(), ErrorKind::Corrupt, "the kind of the damaged entry's error");
            damaged.push(error.key().cloned());
        }
        let Some(next) = next else { break };
        query = query.resume(next);
    }
    live.sort();
    ensure_eq!(live, ["a", "b", "d", "e"].map(|name| key([name])).to_vec(), "the keys that `list` returned");
    ensure_eq!(damaged, vec![Some(key(["c"]))], "the keys of damaged entries that `list` reported");
    cx.set(["c"], "clean up").await.map(drop)
}

async fn a_set_replaces_it(mut cx: Context) -> Verdict {
    with_damaged_c(&mut cx).await?;
    cx.set(["c"], "new").await?;
    cx.expect(["c"], "new").await?;
    cx.reopen().await?;
    cx.expect(["c"], "new").await
}

async fn clear_removes_it(mut cx: Context) -> Verdict {
    with_damaged_c(&mut cx).await?;
    cx.store().clear(&KeyPrefix::ALL).await?;
    for name in ["a", "b", "c", "d", "e"] {
        cx.expect_absent([name]).await?;
    }
    ensure_eq!(cx.keys(()).await?, Vec::new(), "the keys after `clear`");
    Ok(())
}
