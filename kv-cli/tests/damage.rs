//! Damaged entries, missing stores and namespaces: the commands agree on which entries there are.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking, its helpers too")]

mod support;

use std::sync::Arc;

use anykv::lines::{Listener, ServeConfig, Token};
use anykv::{Error, Key, Kv, KvStore, ListPage, ListQuery, Result, SetOptions, delegate_store};
use async_trait::async_trait;
use serde_json::{Value, json};
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

/// Serves a store with the entries `a`, `b` and `c`, of which `b` is damaged. Returns its URL.
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
fn a_command_that_reads_does_not_create_a_store() {
    let folder = tempfile::tempdir().unwrap();
    for url in ["sqlite", "sled"].map(|scheme| format!("{scheme}:{}/mistyped", folder.path().display())) {
        for arguments in [
            &["get", "a"][..],
            &["list"],
            &["export"],
            &["copy", &url, "memory:"],
            &["watch", "--snapshot", "--count", "1"],
            &["ttl", "a"],
            &["verify"],
        ] {
            let output = kv().args(["--store", &url]).args(arguments).assert().failure().get_output().clone();
            let message = String::from_utf8(output.stderr).unwrap();
            assert!(message.contains("not exist") || arguments == ["verify"], "{arguments:?}: {message}");
            assert!(output.status.code() == Some(2) || arguments == ["verify"], "{arguments:?}: {message}");
        }
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "{url}");
        kv().args(["--store", &url, "set", "a", "1"]).assert().success();
        kv().args(["--store", &url, "get", "a"]).assert().success();
        let path = folder.path().join("mistyped");
        let _ = std::fs::remove_file(&path).or_else(|_| std::fs::remove_dir_all(&path));
        for left in std::fs::read_dir(folder.path()).unwrap() {
            let _ = std::fs::remove_file(left.unwrap().path());
        }
    }
}

#[test]
fn an_invalid_path_is_bad_input() {
    for url in ["sqlite:", "sled:", "sqlite:%ff"] {
        kv().args(["--store", url, "set", "a", "1"]).assert().code(2);
        kv().args(["--store", url, "get", "a"]).assert().code(2);
    }
}

#[cfg(unix)]
#[test]
fn exports_are_private() {
    use std::os::unix::fs::PermissionsExt;

    let folder = tempfile::tempdir().unwrap();
    let (new, old) = (folder.path().join("new"), folder.path().join("old"));
    std::fs::write(&old, "an older export").unwrap();
    std::fs::set_permissions(&old, std::fs::Permissions::from_mode(0o644)).unwrap();
    for path in [&new, &old] {
        kv().args(["export", "--out"]).arg(path).assert().success();
        assert_eq!(std::fs::metadata(path).unwrap().permissions().mode() & 0o777, 0o600);
    }
}

#[test]
fn a_clear_of_a_namespace_keeps_the_root_key() {
    let folder = tempfile::tempdir().unwrap();
    for scheme in ["sqlite", "sled"] {
        let url = format!("{scheme}:{}/{scheme}", folder.path().display());
        for key in ["app", "app#a", "app#b", "other"] {
            kv().args(["--store", &url, "set", key, "v"]).assert().success();
        }
        let namespace = format!("{url}?prefix=app");
        let keys = |store: &str, arguments: &[&str]| {
            let output = kv().args(["--store", store, "--format", "json"]).args(arguments).assert().success();
            let text = String::from_utf8(output.get_output().stdout.clone()).unwrap();
            let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
            lines.filter_map(|line| Some(line.get("key")?.as_str()?.to_owned())).collect::<Vec<_>>()
        };
        assert_eq!(keys(&namespace, &["list"]), ["a", "b"], "{url}");
        assert_eq!(keys(&namespace, &["export"]), ["a", "b"], "{url}");
        let target = format!("{url}-copy");
        kv().args(["copy", &namespace, &target]).assert().success();
        assert_eq!(keys(&target, &["list"]), ["a", "b"], "{url}");

        let requests = [json!({"op": "hello", "version": 1}), json!({"id": 1, "op": "clear", "prefix": []})];
        let requests = requests.map(|request| format!("{request}\n")).concat();
        let output =
            kv().args(["--store", &namespace, "serve", "--json-lines"]).write_stdin(requests).assert().success();
        let text = String::from_utf8(output.get_output().stdout.clone()).unwrap();
        assert!(text.ends_with("{\"id\":1,\"result\":2}\n"), "{text}");
        assert_eq!(keys(&url, &["list"]), ["app", "other"], "{url}");
        assert_eq!(keys(&namespace, &["list"]), Vec::<String>::new(), "{url}");
    }
}
