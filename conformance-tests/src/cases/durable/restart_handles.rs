//! The cases of [`restart`](super::restart) with more than one handle, or with a dropped handle.

use std::time::Duration;

use kv_core::{DeleteOptions, ErrorKind, KvStore, SetOptions, SetOutcome, When};

use crate::context::{Context, key};
use crate::failure::{Failure, Verdict, ensure, ensure_eq};

pub(super) async fn dropped_without_close(cx: Context) -> Verdict {
    let store = cx.other_store().await?;
    let k = key(["k"]);
    ensure!(
        store.set(&k, "v".into(), &SetOptions::default()).await?.is_stored(),
        "`set` without a condition was refused"
    );
    if !cx.capabilities().durability.interval.is_zero() {
        store.flush().await?;
    }
    drop(store);
    // The tasks and threads of the dropped handle may need a moment to release the files and locks.
    let mut tries = 0;
    let again = loop {
        match cx.other_store().await {
            Ok(store) => break store,
            Err(failure) if tries == 100 => return Err(failure),
            Err(_) => tries += 1,
        }
        cx.wait(Duration::from_millis(100)).await;
    };
    let found = again.get(&k).await?.map(|entry| entry.value);
    ensure!(
        again.delete(&k, &DeleteOptions::default()).await?.is_deleted() == found.is_some(),
        "`delete` and `get` disagree: one found the entry of the dropped handle, the other did not"
    );
    again.close().await?;
    ensure_eq!(
        found.as_deref(),
        Some(b"v".as_slice()),
        "the value that `get` returned after the handle was dropped and the store reopened"
    );
    Ok(())
}

pub(super) async fn handles_share(cx: Context) -> Verdict {
    let other = cx.second_handle().await?;
    for at in 0..20 {
        let (k, value) = (key(["k", &at.to_string()]), at.to_string());
        cx.set(&k, value.clone()).await?;
        let seen = other.get(&k).await?.map(|entry| entry.value);
        ensure_eq!(
            seen.as_deref(),
            Some(value.as_bytes()),
            "the value that `get` of the second handle returned after `set` of the first one"
        );
        ensure!(
            other.delete(&k, &DeleteOptions::default()).await?.is_deleted(),
            "`delete` of the second handle removed nothing after `set` of the first one"
        );
        cx.expect_absent(&k).await?;
    }
    other.close().await?;
    Ok(())
}

pub(super) async fn handles_judge_together(cx: Context) -> Verdict {
    let other = cx.second_handle().await?;
    let options = SetOptions::default().with_when(When::Absent);
    for at in 0..20 {
        let k = key(["k", &at.to_string()]);
        let (one, two) =
            tokio::join!(cx.store().set(&k, "one".into(), &options), other.set(&k, "two".into(), &options));
        let stored = [one?, two?].iter().filter(|outcome| matches!(outcome, SetOutcome::Stored { .. })).count();
        ensure_eq!(stored, 1, "the number of handles whose concurrent `set` with `When::Absent` was stored");
    }
    other.close().await?;
    Ok(())
}

pub(super) async fn handles_are_closed_alone(cx: Context) -> Verdict {
    let other = cx.second_handle().await?;
    cx.set(["k"], "v").await?;
    other.close().await?;
    cx.expect(["k"], "v").await?;
    cx.set(["k"], "new").await?;
    cx.expect(["k"], "new").await
}

pub(super) async fn a_runtime_that_ended(cx: Context) -> Verdict {
    let (send, receive) = tokio::sync::oneshot::channel();
    std::thread::spawn({
        let cx = cx.clone();
        move || {
            let opened = match tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build() {
                Ok(runtime) => runtime.block_on(cx.other_store()),
                Err(error) => Err(Failure::new(format!("could not start a runtime for the other store: {error}"))),
            };
            // The runtime of the other store has ended here.
            let _ = send.send(opened);
        }
    });
    let other = receive.await.map_err(|_| Failure::new("opening the other store panicked"))??;
    for _ in 0..3 {
        let written = other.set(&key(["k"]), "v".into(), &SetOptions::default()).await.map(drop);
        let read = other.get(&key(["k"])).await.map(drop);
        let deleted = other.delete(&key(["k"]), &DeleteOptions::default()).await.map(drop);
        for error in [written.err(), read.err(), deleted.err()].into_iter().flatten() {
            ensure_eq!(
                error.kind(),
                ErrorKind::Unavailable,
                "the kind of the error `{error}` of a call after the runtime ended"
            );
        }
    }
    other.close().await.or_else(|error| if error.kind() == ErrorKind::Unavailable { Ok(()) } else { Err(error) })?;
    cx.set(["own"], "v").await?;
    cx.expect(["own"], "v").await
}
