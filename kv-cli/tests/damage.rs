//! Commands on a store with a damaged entry.
#![allow(clippy::unwrap_used, reason = "a test and its helpers may panic")]

mod support;

use std::sync::Arc;

use anykv::lines::{Listener, ServeConfig, Token};
use anykv::{Error, Key, Kv, KvStore, ListPage, ListQuery, Result, SetOptions, delegate_store};
use async_trait::async_trait;
use tokio::net::TcpListener;

use self::support::kv;

/// A store whose entry `b` is damaged.
#[derive(Debug)]
struct DamagedStore {
    inner: Arc<dyn KvStore>,
}

#[async_trait]
impl KvStore for DamagedStore {
    delegate_store!(self.inner, except list);

    async fn list(&self, query: &ListQuery) -> Result<ListPage> {
        let mut page = self.inner.list(query).await?;
        let damaged = Key::new(["b"])?;
        page.items.retain(|item| item.key != damaged);
        if query.range().is_some_and(|range| std::ops::RangeBounds::contains(&range, &damaged.as_str().to_owned())) {
            page.damaged.push(Error::corrupt("the checksum does not match").with_key(&damaged));
        }
        Ok(page)
    }
}

/// Serves a store with the entries `a`, `b` and `c`. The entry `b` is damaged. Returns the URL of the store.
async fn damaged_store() -> String {
    let inner = Arc::clone(anykv::open("memory:").await.unwrap().store());
    for name in ["a", "b", "c"] {
        let key = Key::new([name]).unwrap();
        let _ = inner.set(&key, "v".into(), &SetOptions::default()).await.unwrap();
    }
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, token) = (listener.local_addr().unwrap(), Token::random());
    let url = format!("lines://{address}?token={}", token.reveal());
    let listener = Listener::tcp(listener, token).unwrap();
    let store = Kv::new(DamagedStore { inner });
    tokio::spawn(async move { kv_lines::listen(&store, listener, &ServeConfig::default()).await });
    url
}

#[tokio::test(flavor = "multi_thread")]
async fn damaged_entries_are_named_and_the_rest_is_listed_exported_and_copied() {
    let url = damaged_store().await;
    let page = anykv::open(&url).await.unwrap().store().list(&ListQuery::default()).await.unwrap();
    let [damaged] = page.damaged.as_slice() else { panic!("{page:?}") };
    assert_eq!((damaged.kind(), damaged.key()), (anykv::ErrorKind::Corrupt, Some(&Key::new(["b"]).unwrap())));

    tokio::task::spawn_blocking(move || {
        let folder = tempfile::tempdir().unwrap();
        let (file, target) = (folder.path().join("export"), format!("sqlite:{}/kv.db", folder.path().display()));
        let file = file.display().to_string();
        for arguments in [&["list", "--keys"][..], &["export"], &["export", "--out", &file], &["copy", &url, &target]] {
            let output = kv().args(["--store", &url]).args(arguments).assert().code(8).get_output().clone();
            let messages = String::from_utf8(output.stderr).unwrap();
            assert!(messages.contains("`b` is damaged"), "{arguments:?}: {messages}");
            if arguments[0] == "list" {
                assert_eq!(String::from_utf8(output.stdout).unwrap(), "a\nc\n");
            }
        }
        let copied = kv().args(["--store", &target, "list", "--keys"]).assert().success().get_output().stdout.clone();
        assert_eq!(String::from_utf8(copied).unwrap(), "a\nc\n");
        // The export is complete without the damaged entry.
        assert!(std::fs::read_to_string(&file).unwrap().ends_with("{\"end\":{\"entries\":2}}\n"));
        kv().arg("import").arg(&file).assert().success();
    })
    .await
    .unwrap();
}

#[test]
fn a_damaged_sqlite_store_is_listed_and_exported_without_its_damaged_entries() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("kv.db");
    let url = format!("sqlite:{}", file.display());
    for name in ["a", "b", "c", "d", "e"] {
        kv().args(["--store", &url, "set", name, "v"]).assert().success();
    }
    let damaging = "UPDATE kv SET value = x'00' WHERE key = 'b'; UPDATE kv SET deadline = 5 WHERE key = 'd'";
    kv_sqlite::rusqlite::Connection::open(&file).unwrap().execute_batch(damaging).unwrap();
    // A list of keys does not read the values, so it reports only the damaged deadline.
    for (arguments, expected, damaged) in [
        (&["--keys"][..], "a\nb\nc\ne\n", &["d"][..]),
        (&["--keys", "--reverse"], "e\nc\nb\na\n", &["d"]),
        (&["--keys", "--limit", "2"], "a\nb\n", &[]),
    ] {
        let output = kv().args(["--store", &url, "list"]).args(arguments).assert().get_output().clone();
        let messages = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(if damaged.is_empty() { 0 } else { 8 }), "{arguments:?}: {messages}");
        assert_eq!(String::from_utf8(output.stdout).unwrap(), expected, "{arguments:?}");
        for name in damaged {
            assert_eq!(messages.matches(&format!("`{name}` is damaged")).count(), 1, "{arguments:?}: {messages}");
        }
    }
    let output = kv().args(["--store", &url, "export"]).assert().code(8).get_output().clone();
    let messages = String::from_utf8(output.stderr).unwrap();
    for name in ["b", "d"] {
        assert_eq!(messages.matches(&format!("`{name}` is damaged")).count(), 1, "{messages}");
    }
    let restored = format!("sqlite:{}", folder.path().join("restored.db").display());
    kv().args(["--store", &restored, "import", "-"]).write_stdin(output.stdout).assert().success();
    let keys = kv().args(["--store", &restored, "list", "--keys"]).assert().success().get_output().stdout.clone();
    assert_eq!(String::from_utf8(keys).unwrap(), "a\nc\ne\n");
}
