//! Get, set and delete of single keys.

use kv_core::{DeleteOptions, DeleteOutcome, Key, KvStore};

use crate::case::cases;
use crate::context::{Context, key};
use crate::failure::{Verdict, ensure, ensure_eq};

cases! { basics, Core:
    info_is_as_declared: "O-0" [] "the opened store has the capabilities that the suite was given, and a name";
    get_of_a_missing_key_is_none: "V-1" [] "a key that was never written is absent";
    set_then_get: "V-1" [] "what was written is read";
    overwrite_replaces: "S-1" [] "the last write is what is read";
    delete_removes: "D-1" [] "a deleted key is absent, and the delete says that it removed something";
    delete_of_a_missing_key_is_fine: "D-1" [] "deleting what is not there is no error and removes nothing";
    delete_twice: "D-1" [] "the second delete removes nothing";
    delete_is_not_recursive: "D-1" [] "deleting a key leaves its children";
    set_after_delete: "S-1" [] "a deleted key can be written again";
    contains_agrees_with_get: "V-1" [] "contains tells what get finds, before, with and after an entry";
}

async fn info_is_as_declared(cx: Context) -> Verdict {
    ensure_eq!(cx.store().info().capabilities, cx.capabilities(), "the capabilities of the opened store");
    ensure!(!cx.store().info().name.is_empty(), "the store has no name");
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
    ensure!(cx.delete(["k"]).await?, "deleting a live entry says that nothing was removed");
    cx.expect_absent(["k"]).await
}

async fn delete_of_a_missing_key_is_fine(cx: Context) -> Verdict {
    let outcome = cx.store().delete(&key(["missing"]), &DeleteOptions::default()).await?;
    ensure_eq!(outcome, DeleteOutcome::Missing, "the outcome of deleting what is not there");
    Ok(())
}

async fn delete_twice(cx: Context) -> Verdict {
    cx.set(["k"], "v").await?;
    let answers = (cx.delete(["k"]).await?, cx.delete(["k"]).await?);
    ensure_eq!(answers, (true, false), "whether each of two deletes removed something");
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
