//! A backend, and the libraries that replay the recorded traffic on it.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use anykv::memory::MemoryStore;
use anykv::redis::Index;
use anykv::sled::{SledDurability, SledStore};
use anykv::{Kv, KvStore};
use player::Trace;
use test_servers::postgres::Postgres;
use test_servers::redis::Redis;

use super::CLIENTS;
use super::player::{Player, Program};
use super::store_peer::StorePeer;
use crate::bars::{postgres, redis};
use crate::programs::build;

/// The backends that can be measured.
pub(crate) const BACKENDS: [&str; 5] = ["memory", "redis", "postgres", "sqlite", "sled"];

/// Returns the path of the recording.
pub(super) fn recording() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../workloads/federation.jsonl.gz")
}

/// A server or a folder, and a store of anykv on it.
pub(super) struct Backend {
    name: String,
    folder: tempfile::TempDir,
    redis: Option<Redis>,
    postgres: Option<Arc<Postgres>>,
    store: Arc<dyn KvStore>,
}

impl Backend {
    pub(super) async fn start(name: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (mut redis_server, mut postgres_server) = (None, None);
        let store: Arc<dyn KvStore> = match name {
            "memory" => Arc::new(MemoryStore::new()),
            "redis" => {
                let server = redis_server.insert(Redis::start().unwrap());
                Arc::new(redis::open(&server.url(), "kv", Index::Auto).await)
            }
            "postgres" => {
                let server = postgres_server.insert(postgres::server());
                let table = "CREATE TABLE opendal (key text PRIMARY KEY, value bytea)";
                server.psql("kv", table).unwrap();
                postgres::open(server, "kv").await
            }
            "sqlite" => {
                let connection = anykv::sqlite::rusqlite::Connection::open(folder.path().join("opendal.db")).unwrap();
                let table = "PRAGMA journal_mode = WAL; CREATE TABLE opendal (key TEXT PRIMARY KEY, value BLOB)";
                connection.execute_batch(table).unwrap();
                Arc::new(anykv::sqlite::SqliteStore::open(folder.path().join("kv.db")).await.unwrap())
            }
            _ => {
                // This durability is the same as for opendal, which leaves flushing to sled.
                let durability = SledDurability::Interval(Duration::from_millis(500));
                let builder = SledStore::builder().durability(durability);
                Arc::new(builder.open(folder.path().join("kv.sled")).await.unwrap())
            }
        };
        Self { name: name.to_owned(), folder, redis: redis_server, postgres: postgres_server, store }
    }

    /// Describes the failures that an acknowledged write survives.
    pub(super) fn durability(&self) -> &'static str {
        match self.name.as_str() {
            "memory" => "no write survives the process",
            "redis" => "a write survives the process",
            "postgres" => "a write survives a loss of power",
            "sqlite" => "a write survives a loss of power (Keyv and Fedify: as their SQLite is set)",
            _ => "the writes of the last 500 ms can be lost (openkeyv: none)",
        }
    }

    /// Returns the anykv store wrapped in `Kv`, as in an application.
    pub(super) fn kv(&self) -> Kv {
        Kv::new(Arc::clone(&self.store))
    }

    /// Starts all layers that support the backend, anykv first. The error is the reason why a layer cannot run.
    pub(super) fn players(&self) -> Vec<(String, Result<Player, String>)> {
        let trace = Arc::new(Trace::read(&recording(), CLIENTS));
        let anykv_player = Player::Local(Arc::new(StorePeer(Arc::clone(&self.store))), trace);
        let mut players = vec![("anykv".to_owned(), Ok(anykv_player))];
        let path = |name: &str| self.folder.path().join(name).display().to_string();
        let url = |name: &str| match (&self.redis, &self.postgres) {
            (Some(server), _) => server.url(),
            (_, Some(server)) => server.url(),
            _ => format!("{}:{}", self.name, path(name)),
        };
        let rust = build(Some("peers"), "peers");
        let file = recording().display().to_string();
        let clients = CLIENTS.to_string();
        let mut add = |name: &str, started: Result<Program, String>| {
            players.push((name.to_owned(), started.map(|program| Player::Program(Box::new(program)))));
        };
        add("opendal", Program::start(&rust, &["opendal", &url("opendal.db"), &file, &clients]));
        if self.name == "memory" {
            add("opendal, moka", Program::start(&rust, &["opendal", "moka:", &file, &clients]));
        }
        if self.name != "sqlite" {
            add("openkeyv", Program::start(&rust, &["openkeyv", &url("openkeyv.db"), &file, &clients]));
        }
        if self.name != "sled" {
            for (name, layer) in [("Keyv", "keyv"), ("Fedify", "fedify")] {
                let url = url(&format!("{layer}.db"));
                let start = |Node { program, script }: Node| {
                    let script = script.display().to_string();
                    Program::start(&program, &["--no-warnings", &script, layer, &url, &file, &clients])
                };
                add(name, Node::installed().and_then(start));
            }
        }
        players
    }
}

/// The Node script in a folder with its dependencies, and a Node version that supports them.
struct Node {
    program: PathBuf,
    script: PathBuf,
}

impl Node {
    fn installed() -> Result<Self, String> {
        let here = Path::new(env!("CARGO_MANIFEST_DIR")).join("node");
        let folder = std::env::current_exe().unwrap().parent().unwrap().parent().unwrap().join("node");
        std::fs::create_dir_all(&folder).unwrap();
        for file in ["package.json", "peers.mjs"] {
            std::fs::copy(here.join(file), folder.join(file)).unwrap();
        }
        let program = folder.join("node_modules/.bin/node");
        if !program.exists() {
            eprintln!("installing the dependencies of the Node script ...");
            let mut npm = Command::new("npm");
            npm.args(["install", "--no-audit", "--no-fund", "--loglevel=error"]).current_dir(&folder);
            let status = npm.stdout(std::process::Stdio::null()).status().map_err(|error| format!("npm: {error}"))?;
            if !status.success() {
                return Err(format!("npm install: {status}"));
            }
        }
        Ok(Self { program, script: folder.join("peers.mjs") })
    }
}
