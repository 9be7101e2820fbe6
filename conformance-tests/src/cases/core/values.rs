//! Values: `get` returns exactly the bytes that `set` wrote.

use bytes::{Bytes, BytesMut};
use kv_core::{ErrorKind, KvStore, Limits, Operation, SetItem, SetOptions};
use rand::{RngExt, SeedableRng};

use crate::case::{Need, cases};
use crate::context::{Context, key};
use crate::failure::{Failure, Verdict, ensure, ensure_eq};

cases! { values, Core:
    empty_is_not_absent: "V-1" [] "an empty value is an entry, not an absent key";
    every_byte: "V-1" [] "each of the 256 byte values is returned, alone and among others";
    nul_does_not_end_it: "V-1" [] "a NUL does not end a value";
    invalid_utf8: "V-1" [] "bytes that are not valid UTF-8 are returned unchanged";
    text_is_not_interpreted: "V-1" [] "text that looks like null, a number, JSON or a query is returned unchanged";
    nothing_is_trimmed: "V-1" [] "spaces, newlines and padding at the ends stay";
    sizes: "V-1" [] "values of 1 byte to 1 MiB are returned, including sizes around powers of two";
    random_bytes: "V-1" [] "random bytes of random lengths are returned unchanged";
    eight_mebibytes: "V-3" [Need::KeepsAll] "every store accepts a value of 8 MiB";
    the_declared_limit: "V-3" [] "the declared limit is at least 8 MiB";
    at_the_limit: "V-3" [Need::KeepsAll] "a value of exactly the declared limit is accepted";
    over_the_limit_is_refused: "V-3" [] "a value one byte over the limit is Invalid, the error names size and limit, and the old value stays";
    over_the_limit_in_a_batch: "V-3" [] "in `set_many`, only the item with a value over the limit fails";
    a_shorter_one_leaves_no_tail: "S-1" [] "a shorter value replaces a longer value completely";
    the_same_under_many_keys: "V-1" [] "equal values under different keys are independent";
    the_buffer_is_the_callers: "V-2" [] "changes of the caller's buffer after a write do not reach the store";
    what_was_read_stays: "V-2" [] "a value that `get` returned does not change when the key is overwritten or deleted";
}

async fn empty_is_not_absent(cx: Context) -> Verdict {
    cx.expect_absent(["k"]).await?;
    cx.set(["k"], Bytes::new()).await?;
    cx.expect(["k"], "").await?;
    ensure!(cx.delete(["k"]).await?, "`delete` of an empty value reported that it removed nothing");
    cx.expect_absent(["k"]).await
}

async fn every_byte(cx: Context) -> Verdict {
    for byte in 0..=u8::MAX {
        round_trip(&cx, &[byte]).await?;
    }
    let all: Vec<u8> = (0..=u8::MAX).collect();
    round_trip(&cx, &all).await?;
    let backwards: Vec<u8> = (0..=u8::MAX).rev().collect();
    round_trip(&cx, &backwards).await
}

async fn nul_does_not_end_it(cx: Context) -> Verdict {
    for value in ["\0", "\0\0\0", "a\0b", "\0a", "a\0", "a\0\0b\0"] {
        round_trip(&cx, value.as_bytes()).await?;
    }
    Ok(())
}

async fn invalid_utf8(cx: Context) -> Verdict {
    let values: [&[u8]; 7] =
        [b"\xff", b"\xc3", b"\xc3\x28", b"\xed\xa0\x80", b"\xf8\x88\x80\x80\x80", b"\xef\xbb\xbftext", b"ok\xfe\xff"];
    for value in values {
        round_trip(&cx, value).await?;
    }
    Ok(())
}

async fn text_is_not_interpreted(cx: Context) -> Verdict {
    let texts = [
        "null",
        "nil",
        "(nil)",
        "undefined",
        "NULL",
        "\\N",
        "true",
        "false",
        "0",
        "-0",
        "007",
        "1.0",
        "1e3",
        "NaN",
        "9007199254740993",
        "18446744073709551616",
        "{}",
        "[]",
        "{\"b\":1,\"a\":1,\"a\":2}",
        "\"quoted\"",
        "'quoted'",
        "'; drop table kv; --",
        "\\x00ff",
        "\\000",
        "%00",
        "OK",
        "QUEUED",
        "+OK\r\n",
        "$-1\r\n",
        "*0\r\n",
    ];
    for text in texts {
        round_trip(&cx, text.as_bytes()).await?;
    }
    Ok(())
}

async fn nothing_is_trimmed(cx: Context) -> Verdict {
    for value in [" ", "  a  ", "\n", "a\n", "\r\na\r\n", "\ta\t", "a\0\0\0\0", "\u{feff}a", "a="] {
        round_trip(&cx, value.as_bytes()).await?;
    }
    Ok(())
}

async fn sizes(cx: Context) -> Verdict {
    let edges = [8, 12, 13, 16].map(|power| 1_usize << power);
    for size in edges.into_iter().flat_map(|edge| [edge - 1, edge, edge + 1]).chain([1, 2, 3, 1 << 20]) {
        round_trip(&cx, &noise(&cx, size)).await?;
    }
    Ok(())
}

async fn random_bytes(cx: Context) -> Verdict {
    let mut random = rand::rngs::StdRng::seed_from_u64(cx.seed());
    for at in 0..100 {
        let mut value = vec![0; random.random_range(0..2_000)];
        random.fill(value.as_mut_slice());
        let name = format!("{at}");
        cx.set(["k", &name], value.clone()).await?;
        cx.expect(["k", &name], value).await?;
    }
    Ok(())
}

async fn eight_mebibytes(cx: Context) -> Verdict {
    round_trip(&cx, &noise(&cx, Limits::MIN_VALUE_BYTES)).await
}

async fn the_declared_limit(cx: Context) -> Verdict {
    let limit = cx.limits().max_value_bytes;
    ensure!(
        limit >= Limits::MIN_VALUE_BYTES,
        "expected a declared limit of at least 8 MiB, but `info` declares {limit} bytes"
    );
    Ok(())
}

async fn at_the_limit(cx: Context) -> Verdict {
    // A larger limit is tested only up to this size, because such a value may not fit into memory.
    const MAX_TESTED: usize = 64 << 20;
    round_trip(&cx, &noise(&cx, cx.limits().max_value_bytes.min(MAX_TESTED))).await
}

async fn over_the_limit_is_refused(cx: Context) -> Verdict {
    let limit = cx.limits().max_value_bytes;
    let Some(value) = one_more(limit) else { return Ok(()) };
    let version = cx.set(["k"], "old").await?;
    match cx.store().set(&key(["k"]), value.clone(), &SetOptions::default()).await {
        Err(error) => is_refused_for_size(&error, limit)?,
        Ok(outcome) => {
            return Err(Failure::new(format!(
                "expected `set` of {} bytes to fail as Invalid, but it returned {outcome:?}",
                value.len()
            )));
        }
    }
    cx.expect(["k"], "old").await?;
    ensure_eq!(cx.entry(["k"]).await?.version, version, "the version that `get` returned after a refused `set`");
    // A refused write creates no entry either.
    ensure!(
        cx.store().set(&key(["new"]), value, &SetOptions::default()).await.is_err(),
        "`set` of a value over the limit under an absent key succeeded, but it should be Invalid"
    );
    cx.expect_absent(["new"]).await
}

async fn over_the_limit_in_a_batch(cx: Context) -> Verdict {
    let limit = cx.limits().max_value_bytes;
    let Some(value) = one_more(limit) else { return Ok(()) };
    let items = [SetItem::new(key(["a"]), "1"), SetItem::new(key(["b"]), value), SetItem::new(key(["c"]), "3")];
    let outcomes = cx.store().set_many(&items).await;
    let stored: Vec<bool> =
        outcomes.iter().map(|outcome| matches!(outcome, Ok(outcome) if outcome.is_stored())).collect();
    ensure_eq!(stored, [true, false, true], "the items of `set_many` that were stored (the second is over the limit)");
    for outcome in outcomes {
        if let Err(error) = outcome {
            is_refused_for_size(&error, limit)?;
        }
    }
    cx.expect(["a"], "1").await?;
    cx.expect_absent(["b"]).await?;
    cx.expect(["c"], "3").await
}

async fn a_shorter_one_leaves_no_tail(cx: Context) -> Verdict {
    for size in [100_000, 1_000, 10, 1, 0, 10_000] {
        let value = noise(&cx, size);
        cx.set(["k"], value.clone()).await?;
        cx.expect(["k"], value).await?;
    }
    Ok(())
}

async fn the_same_under_many_keys(cx: Context) -> Verdict {
    for name in ["a", "b", "c"] {
        cx.set([name], "same").await?;
    }
    cx.delete(["a"]).await?;
    cx.set(["b"], "other").await?;
    cx.expect_absent(["a"]).await?;
    cx.expect(["b"], "other").await?;
    cx.expect(["c"], "same").await
}

async fn the_buffer_is_the_callers(cx: Context) -> Verdict {
    let mut buffer = BytesMut::from("the value as it was written, longer than any inline form");
    let written = buffer.to_vec();
    let value = buffer.split().freeze();
    cx.set(["k"], value.clone()).await?;
    // If the store copied the value, nothing else shares its memory, so the case can change it. If the store shares the
    // memory, `try_into_mut` fails.
    if let Ok(mut mine) = value.try_into_mut() {
        mine.fill(0xee);
    }
    buffer.resize(200, 0xee);
    cx.expect(["k"], &written).await
}

async fn what_was_read_stays(cx: Context) -> Verdict {
    let first = noise(&cx, 5_000);
    cx.set(["k"], first.clone()).await?;
    let read = cx.entry(["k"]).await?.value;
    cx.set(["k"], vec![0; 5_000]).await?;
    ensure_eq!(read, first, "the value that `get` returned, after the key was overwritten");
    cx.delete(["k"]).await?;
    cx.set(["other"], vec![1; 5_000]).await?;
    ensure_eq!(read, first, "the value that `get` returned, after the key was deleted");
    Ok(())
}

/// Writes a value and reads it back.
async fn round_trip(cx: &Context, value: &[u8]) -> Verdict {
    cx.set(["k"], Bytes::copy_from_slice(value)).await?;
    ensure_eq!(
        cx.get(["k"]).await?.as_deref(),
        Some(value),
        "the value that `get` returned after `set` of {} bytes",
        value.len()
    );
    Ok(())
}

/// A repeated block of 251 random bytes. The block is cheap to make, and shows every cut or shift, because 251 is not a
/// power of two.
fn noise(cx: &Context, size: usize) -> Vec<u8> {
    let mut block = [0; 251];
    rand::rngs::StdRng::seed_from_u64(cx.seed()).fill(&mut block);
    let mut value = block.repeat(size.div_ceil(block.len()));
    value.truncate(size);
    value
}

/// A value one byte over the limit, or `None` if the limit is too large for a test.
fn one_more(limit: usize) -> Option<Bytes> {
    // Untouched zero pages use no memory. Beyond this size, they use too much address space.
    const MAX_LIMIT: usize = 1 << 30;
    (limit < MAX_LIMIT).then(|| Bytes::from(vec![0; limit + 1]))
}

fn is_refused_for_size(error: &kv_core::Error, limit: usize) -> Verdict {
    ensure_eq!(error.kind(), ErrorKind::Invalid, "the kind of the error for a value over the limit");
    for part in [limit.to_string(), (limit + 1).to_string()] {
        ensure!(
            error.message().contains(&part),
            "the error `{error}` for a value over the limit does not contain {part}"
        );
    }
    if let Some(operation) = error.operation() {
        ensure!(
            matches!(operation, Operation::Set | Operation::SetMany),
            "expected the error to name the operation set or set_many, but it names {operation}"
        );
    }
    Ok(())
}
