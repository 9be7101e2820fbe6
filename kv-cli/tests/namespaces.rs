//! Commands in a namespace of a store.
#![allow(clippy::unwrap_used, reason = "a test and its helpers may panic")]

mod support;

use serde_json::{Value, json};

use self::support::kv;

#[test]
fn commands_in_a_namespace_leave_out_the_key_of_the_namespace() {
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
