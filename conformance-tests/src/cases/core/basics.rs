//! Get, set and delete of single keys.

use kv_core::{Capability, DeleteOptions, DeleteOutcome, Expires, Key, KvStore, SetOptions, SetOutcome};

use crate::case::{Need, cases};
use crate::context::{Context, key};
use crate::failure::{Failure, Verdict, ensure, ensure_eq};

cases! { basics, Core:
    info_is_as_declared: "I-1" [] "the opened store has a name, and the capabilities that the suite declares";
    get_of_a_missing_key_is_none: "V-1" [] "`get` and `contains` find nothing under a key that was never written";
    set_then_get: "V-1" [] "`get` returns the value that `set` wrote";
    overwrite_replaces: "S-1" [] "`get` returns the value of the last `set`";
    delete_removes: "D-1" [] "a deleted key is absent, and `delete` reports that it removed an entry";
    delete_of_a_missing_key_is_fine: "D-1" [] "`delete` of an absent key is no error and removes nothing";
    delete_twice: "D-1" [] "the second delete removes nothing";
    delete_is_not_recursive: "D-1" [] "`delete` of a key leaves its children";
    set_after_delete: "S-1" [] "a deleted key can be written again";
    contains_agrees_with_get: "V-1" [] "`contains` agrees with `get` before an entry is written, while it exists, and after it is deleted";
    reading_changes_nothing: "G-1" [] "repeated reads return the same entry";
    each_write_has_a_version: "S-3" [Need::Has(Capability::Versions)] "`get` shows the version that the write returned";
    no_deadline_unless_asked: "S-1" [Need::Has(Capability::Deadlines)] "a `set` without an expiry makes a permanent entry";
    set_brings_the_previous: "S-1" [Need::Has(Capability::Previous)] "a `set` with `return_previous` returns the entry that it replaced, or none";
    delete_brings_the_previous: "D-1" [Need::Has(Capability::Previous)] "the first of two deletes with `return_previous` returns the removed entry, and the second returns none";
    previous_only_when_asked: "S-1" [] "`set` and `delete` return no previous entry unless the call requests it";
    many_keys_at_first: "R-1" [] "many tasks may make the first writes of a store concurrently";
    ping_and_flush_answer: "R-3" [] "`ping` and `flush` succeed before and after writes and change nothing";
}

async fn info_is_as_declared(cx: Context) -> Verdict {
    ensure_eq!(
        cx.store().info().capabilities,
        cx.capabilities(),
        "the capabilities that `info` of the opened store returned"
    );
    ensure!(!cx.store().info().name.is_empty(), "`info` returned an empty name");
    Ok(())
}

async fn get_of_a_missing_key_is_none(cx: Context) -> Verdict {
    cx.expect_absent(["missing"]).await
}

async fn set_then_get(cx: Context) -> Verdict {
    cx.set(["users", "1"], "ada").await?;
    cx.expect(["users", "1"], "ada").await?;
    cx.expect_absent(["users", "2"]).await
}

async fn overwrite_replaces(cx: Context) -> Verdict {
    for value in ["one", "another, longer one", "2"] {
        cx.set(["k"], value).await?;
        cx.expect(["k"], value).await?;
    }
    Ok(())
}

async fn delete_removes(cx: Context) -> Verdict {
    cx.set(["k"], "v").await?;
    ensure!(cx.delete(["k"]).await?, "`delete` of a live entry reported that it removed nothing");
    cx.expect_absent(["k"]).await
}

async fn delete_of_a_missing_key_is_fine(cx: Context) -> Verdict {
    let outcome = cx.store().delete(&key(["missing"]), &DeleteOptions::default()).await?;
    ensure_eq!(outcome, DeleteOutcome::Missing, "the outcome of `delete` of an absent key");
    Ok(())
}

async fn delete_twice(cx: Context) -> Verdict {
    cx.set(["k"], "v").await?;
    let removed = (cx.delete(["k"]).await?, cx.delete(["k"]).await?);
    ensure_eq!(removed, (true, false), "the results of two `delete` calls of one entry (true: removed)");
    Ok(())
}

async fn delete_is_not_recursive(cx: Context) -> Verdict {
    let keys: [Key; 3] = [key(["a"]), key(["a", "b"]), key(["a", ""])];
    for key in &keys {
        cx.set(key, "v").await?;
    }
    cx.delete(["a"]).await?;
    cx.expect_absent(["a"]).await?;
    cx.expect(["a", "b"], "v").await?;
    cx.expect(["a", ""], "v").await
}

async fn set_after_delete(cx: Context) -> Verdict {
    cx.set(["k"], "first").await?;
    cx.delete(["k"]).await?;
    cx.set(["k"], "second").await?;
    cx.expect(["k"], "second").await
}

async fn contains_agrees_with_get(cx: Context) -> Verdict {
    cx.expect_absent(["k"]).await?;
    cx.set(["k"], "").await?;
    cx.expect(["k"], "").await?;
    cx.delete(["k"]).await?;
    cx.expect_absent(["k"]).await
}

async fn reading_changes_nothing(cx: Context) -> Verdict {
    cx.set(["k"], "v").await?;
    let first = cx.entry(["k"]).await?;
    for _ in 0..10 {
        ensure!(cx.store().contains(&key(["k"])).await?, "`contains` returned false for a live entry");
        ensure_eq!(cx.entry(["k"]).await?, first, "the entry that a repeated `get` returned");
    }
    Ok(())
}

async fn each_write_has_a_version(cx: Context) -> Verdict {
    for value in ["one", "two", "two", ""] {
        let version = cx.set_versioned(["k"], value).await?;
        let entry = cx.entry(["k"]).await?;
        ensure_eq!(
            (entry.value.as_ref(), entry.version),
            (value.as_bytes(), Some(version)),
            "the value and version that `get` returned after `set`"
        );
    }
    Ok(())
}

async fn no_deadline_unless_asked(cx: Context) -> Verdict {
    cx.set(["k"], "v").await?;
    ensure_eq!(
        cx.entry(["k"]).await?.expires,
        Expires::Never,
        "the deadline of an entry that `set` wrote without an expiry"
    );
    Ok(())
}

async fn set_brings_the_previous(cx: Context) -> Verdict {
    let options = SetOptions::default().with_previous();
    let mut expected = None;
    for value in ["one", "two", ""] {
        match cx.store().set(&key(["k"]), value.into(), &options).await? {
            SetOutcome::Stored { previous, .. } => {
                ensure_eq!(previous, expected, "the previous entry that `set` of {value:?} returned");
            }
            SetOutcome::Refused { .. } => return Err(Failure::new("`set` without a condition was refused")),
        }
        expected = Some(cx.entry(["k"]).await?);
    }
    Ok(())
}

async fn delete_brings_the_previous(cx: Context) -> Verdict {
    cx.set(["k"], "v").await?;
    let previous = Some(cx.entry(["k"]).await?);
    let options = DeleteOptions::default().with_previous();
    let outcome = cx.store().delete(&key(["k"]), &options).await?;
    ensure_eq!(
        outcome,
        DeleteOutcome::Deleted { previous },
        "the outcome of the first `delete`, with `return_previous`"
    );
    let outcome = cx.store().delete(&key(["k"]), &options).await?;
    ensure_eq!(outcome, DeleteOutcome::Missing, "the outcome of the second `delete` of the same key");
    Ok(())
}

async fn previous_only_when_asked(cx: Context) -> Verdict {
    cx.set(["k"], "old").await?;
    match cx.store().set(&key(["k"]), "new".into(), &SetOptions::default()).await? {
        SetOutcome::Stored { previous, .. } => {
            ensure_eq!(previous, None, "the previous entry of a `set` that did not ask for it");
        }
        SetOutcome::Refused { .. } => return Err(Failure::new("`set` without a condition was refused")),
    }
    let outcome = cx.store().delete(&key(["k"]), &DeleteOptions::default()).await?;
    ensure_eq!(
        outcome,
        DeleteOutcome::Deleted { previous: None },
        "the outcome of a `delete` that did not ask for the previous entry"
    );
    Ok(())
}

async fn many_keys_at_first(cx: Context) -> Verdict {
    let tasks: Vec<_> = (0..50)
        .map(|at| {
            let cx = cx.clone();
            tokio::spawn(async move { cx.set(["k", &at.to_string()], at.to_string()).await })
        })
        .collect();
    for task in tasks {
        task.await.map_err(|error| Failure::new(format!("a writing task panicked: {error}")))??;
    }
    for at in 0..50 {
        cx.expect(["k", &at.to_string()], at.to_string()).await?;
    }
    Ok(())
}

async fn ping_and_flush_answer(cx: Context) -> Verdict {
    for value in ["one", "two"] {
        cx.store().ping().await?;
        cx.store().flush().await?;
        cx.set(["k"], value).await?;
        cx.store().flush().await?;
        cx.store().ping().await?;
        cx.expect(["k"], value).await?;
    }
    Ok(())
}
