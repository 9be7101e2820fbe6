//! Faults of the path of changes: each is announced to sinks, watchers and subscribers within the declared bound, and
//! afterwards there is a gap.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::StreamExt;
use kv_core::{
    ChangeSink, GapReason, GetOptions, GetOutcome, Key, KeyPrefix, KvStore, MessageEvent, MessageStream, Moment,
    Registration, WatchEvent, WatchQuery, WatchStream, WatchTarget,
};
use kv_postgres::PostgresStore;
use test_servers::postgres::Postgres;
use test_servers::proxy::{Direction, Proxy};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

mod support;
use support::{get, impatient, key, pause, set, test};

fn main() {
    support::main(
        |_| unreachable!("there are no children"),
        vec![
            test("a_closed_connection_is_announced", closed_connection),
            test("a_terminated_session_is_announced", terminated_session),
            test("a_black_hole_is_announced", black_hole),
            test("a_paused_server_is_announced", paused_server),
            test("a_paused_session_is_announced", paused_session),
            test("a_refused_reconnect_leaves_the_loss_announced", refused_reconnect),
            test("a_disabled_trigger_is_announced", disabled_trigger),
            test("a_trigger_that_was_disabled_within_a_transaction_is_announced", briefly_disabled_trigger),
            test("a_replaced_table_is_announced", replaced_table),
            test("another_server_behind_the_address_of_the_pool_is_announced", another_server),
            test("a_lagging_watcher_gets_a_gap_and_the_sinks_stay_current", lagging_watcher),
            test("current_covers_only_changes_that_were_passed_on", current_is_behind_changes),
            test("current_covers_a_change_that_is_visible_before_it_is_signalled", current_is_behind_delayed_signal),
            test("only_sinks_cost_notifications", cost_of_heartbeats),
            test("an_unchanged_value_stays_on_the_server", unchanged_value),
        ],
    );
}

const BOUND: Duration = Duration::from_millis(500);
/// The tolerance for a busy machine.
const SLACK: Duration = Duration::from_secs(1);
const LIMIT: Duration = Duration::from_secs(20);

/// A sink that records its calls with their moments.
#[derive(Debug, Default)]
struct Recorded(Mutex<Vec<(Moment, Call)>>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Call {
    Changed(Key),
    Current(Moment),
    Lost(GapReason),
}

impl Recorded {
    fn push(&self, call: Call) {
        self.0.lock().unwrap().push((Moment::now(), call));
    }

    fn calls(&self) -> Vec<(Moment, Call)> {
        self.0.lock().unwrap().clone()
    }

    /// Waits for a call at or after `since`, and returns its moment.
    async fn wait(&self, since: Moment, expected: &str, is_expected: impl Fn(&Call) -> bool) -> Moment {
        let started = Moment::now();
        loop {
            let calls = self.calls();
            let found = calls.iter().find(|(at, call)| *at >= since && is_expected(call));
            if let Some((at, _)) = found {
                return *at;
            }
            assert!(started.elapsed() < LIMIT, "expected {expected}, got {:?}", calls.iter().rev().take(9));
            pause(Duration::from_millis(2)).await;
        }
    }

    /// Checks that each key was passed on before the first `current` with a moment after the moment at which its change
    /// was visible.
    fn check(&self, visible: &[(Key, Moment)]) {
        let (mut changed_at, mut currents, mut lost_at) = (HashMap::new(), Vec::new(), None);
        for (position, (moment, call)) in self.calls().into_iter().enumerate() {
            match call {
                Call::Changed(key) => drop(changed_at.entry(key).or_insert(position)),
                Call::Current(as_of) => currents.push((as_of, position, lost_at)),
                // A busy machine may delay a heartbeat.
                Call::Lost(_) => lost_at = Some(moment),
            }
        }
        println!("{} writes, {} calls of `current`", visible.len(), currents.len());
        for (key, at) in visible {
            let changed = changed_at.get(key).unwrap_or_else(|| panic!("{key} was not reported"));
            let (as_of, current, lost_at) = currents.iter().find(|(as_of, ..)| as_of > at).unwrap();
            // `current` says nothing about changes from before a loss.
            if lost_at.is_none_or(|lost_at| lost_at < *at) {
                assert!(changed < current, "{key} was visible {:?} before `as_of`", as_of.since(*at));
            }
        }
    }

    /// Waits for a call of `current` with a moment after now.
    async fn expect_current(&self) {
        let now = Moment::now();
        self.wait(now, "a call of `current`", |call| matches!(call, Call::Current(as_of) if *as_of >= now)).await;
    }
}

impl ChangeSink for Recorded {
    fn changed(&self, key: &Key) {
        self.push(Call::Changed(key.clone()));
    }

    fn current(&self, as_of: Moment) {
        self.push(Call::Current(as_of));
    }

    fn lost(&self, reason: GapReason) {
        self.push(Call::Lost(reason));
    }
}

/// A store with a sink, a watcher and a subscriber, and another handle on the same table.
struct Watched {
    store: PostgresStore,
    other: PostgresStore,
    sink: Arc<Recorded>,
    watch: WatchStream,
    messages: MessageStream,
    _registration: Registration,
}

impl Watched {
    /// Opens the watched store through `url`, and the other handle directly.
    async fn open(server: &Postgres, url: &str) -> Self {
        // The operation timeout is longer than the bound, so that it does not announce a loss in time.
        let timeout = BOUND + 2 * SLACK;
        let builder = PostgresStore::builder().url(url).unwrap().watch_loss_bound(BOUND);
        let builder = builder.connect_timeout(timeout).operation_timeout(timeout).connections(2);
        let store = builder.open().await.unwrap();
        assert_eq!(store.info().watch_loss_bound, BOUND);
        let other = impatient(server).open().await.unwrap();
        let sink = Arc::new(Recorded::default());
        let target = WatchTarget::from(KeyPrefix::ALL);
        let registration = store.watch_into(&target, Arc::clone(&sink) as Arc<dyn ChangeSink>).await.unwrap();
        let watch = store.watch(&WatchQuery::prefix(KeyPrefix::ALL)).await.unwrap();
        let messages = store.subscribe(&KeyPrefix::ALL).await.unwrap();
        sink.expect_current().await;
        Self { store, other, sink, watch, messages, _registration: registration }
    }

    async fn next_event(&mut self) -> WatchEvent {
        timeout(LIMIT, self.watch.next()).await.expect("no event").unwrap().unwrap()
    }

    /// Waits until a fault from the moment `since` is announced to all. Panics if that takes longer than the bound.
    async fn expect_announced(&mut self, fault: &str, since: Moment, reason: GapReason) {
        let (watch, messages, sink) = (&mut self.watch, &mut self.messages, &self.sink);
        let watcher = async {
            loop {
                match timeout(LIMIT, watch.next()).await.expect("no event").unwrap().unwrap() {
                    WatchEvent::Suspended { reason: found } => {
                        assert_eq!(found, reason, "{fault}");
                        return since.elapsed();
                    }
                    WatchEvent::Set { .. } | WatchEvent::Removed { .. } => {}
                    event => panic!("{fault}: {event:?} before the suspension"),
                }
            }
        };
        let subscriber = async {
            let event = timeout(LIMIT, messages.next()).await.expect("no event").unwrap().unwrap();
            assert_eq!(event, MessageEvent::Suspended { reason }, "{fault}");
            since.elapsed()
        };
        let lost = sink.wait(since, "a call of `lost`", |call| *call == Call::Lost(reason));
        let (watcher, subscriber, lost) = tokio::join!(watcher, subscriber, lost);
        let before = sink.calls().into_iter().filter(|(at, _)| *at <= lost);
        let as_of = before.filter_map(|(_, call)| if let Call::Current(as_of) = call { Some(as_of) } else { None });
        let age = lost.since(as_of.last().unwrap());
        let sink = lost.since(since);
        let times = format!("sink {sink:?}, watcher {watcher:?}, subscriber {subscriber:?}, age of `as_of` {age:?}");
        println!("{fault}: {times}");
        for time in [sink, watcher, subscriber, age] {
            assert!(time <= BOUND + SLACK, "{fault}: {times}");
        }
    }

    /// Waits for the gap after a fault that has ended, and checks that changes and messages arrive again.
    async fn expect_recovered(&mut self, fault: &str) {
        loop {
            match self.next_event().await {
                WatchEvent::Gap { .. } => break,
                // A loss may be announced again before the gap, and changes from before the loss may be queued.
                WatchEvent::Suspended { .. } | WatchEvent::Set { .. } => {}
                event => panic!("{fault}: {event:?} before the gap"),
            }
        }
        loop {
            let event = timeout(LIMIT, self.messages.next()).await.expect("no event").unwrap().unwrap();
            match event {
                MessageEvent::Gap { .. } => break,
                MessageEvent::Suspended { .. } => {}
                event => panic!("{fault}: {event:?} before the gap"),
            }
        }
        self.sink.expect_current().await;
        let now = Moment::now();
        set(&self.other, "after", fault).await.unwrap();
        self.sink.wait(now, "the change after the fault", |call| *call == Call::Changed(key("after"))).await;
        self.sink.expect_current().await;
        loop {
            match self.next_event().await {
                WatchEvent::Set { key: changed, .. } if changed == key("after") => break,
                WatchEvent::Suspended { .. } | WatchEvent::Gap { .. } | WatchEvent::Set { .. } => {}
                event => panic!("{fault}: {event:?}"),
            }
        }
        assert_eq!(get(&self.store, "after").await.unwrap().as_deref(), Some(fault));
    }
}

/// A server behind a proxy.
async fn proxied() -> (Postgres, Proxy, Watched) {
    let server = Postgres::start().unwrap();
    let proxy = Proxy::start(server.address()).unwrap();
    let url = server.url().replace(&format!(":{}/", server.port()), &format!(":{}/", proxy.port()));
    let watched = Watched::open(&server, &url).await;
    (server, proxy, watched)
}

async fn direct() -> (Postgres, Watched) {
    let server = Postgres::start().unwrap();
    let watched = Watched::open(&server, &server.url()).await;
    (server, watched)
}

/// Returns the process id of the session of the listener with a sink.
fn listener_of(server: &Postgres) -> u32 {
    let pid = "SELECT pid FROM pg_locks WHERE locktype = 'advisory'";
    server.psql("kv", pid).unwrap().trim().parse().unwrap()
}

async fn closed_connection() {
    let (_server, proxy, mut watched) = proxied().await;
    let since = Moment::now();
    proxy.close_all();
    watched.expect_announced("connection cut", since, GapReason::Disconnected).await;
    watched.expect_recovered("connection cut").await;
}

async fn terminated_session() {
    let (server, mut watched) = direct().await;
    let listener = listener_of(&server);
    for _ in 0..2 {
        let since = Moment::now();
        server.psql("kv", &format!("SELECT pg_terminate_backend({})", listener_of(&server))).unwrap();
        watched.expect_announced("terminated session", since, GapReason::Disconnected).await;
        watched.expect_recovered("terminated session").await;
    }
    assert_ne!(listener, listener_of(&server));
}

async fn black_hole() {
    let (_server, proxy, mut watched) = proxied().await;
    let since = Moment::now();
    proxy.black_hole();
    set(&watched.other, "missed", "1").await.unwrap();
    watched.expect_announced("black hole", since, GapReason::Unanswered).await;
    proxy.pass();
    watched.expect_recovered("black hole").await;
}

async fn paused_server() {
    let (mut server, mut watched) = direct().await;
    let since = Moment::now();
    server.pause().unwrap();
    watched.expect_announced("paused server", since, GapReason::Unanswered).await;
    server.resume().unwrap();
    watched.expect_recovered("paused server").await;
}

fn signal(signal: &str, pid: u32) {
    let status = std::process::Command::new("kill").args([signal, &pid.to_string()]).status().unwrap();
    assert!(status.success());
}

async fn paused_session() {
    let (server, mut watched) = direct().await;
    let listener = listener_of(&server);
    let since = Moment::now();
    signal("-STOP", listener);
    set(&watched.other, "missed", "1").await.unwrap();
    watched.expect_announced("paused session", since, GapReason::Unanswered).await;
    signal("-CONT", listener);
    watched.expect_recovered("paused session").await;
}

async fn refused_reconnect() {
    let (_server, proxy, mut watched) = proxied().await;
    let since = Moment::now();
    proxy.refuse();
    proxy.close_all();
    watched.expect_announced("refused reconnect", since, GapReason::Disconnected).await;
    set(&watched.other, "missed", "1").await.unwrap();
    let early = timeout(4 * BOUND, watched.watch.next()).await;
    assert!(early.is_err(), "{early:?} while the server refuses connections");
    let calls = watched.sink.calls();
    assert!(matches!(calls.last(), Some((_, Call::Lost(GapReason::Disconnected)))), "{:?}", calls.last());
    proxy.pass();
    watched.expect_recovered("refused reconnect").await;
}

async fn disabled_trigger() {
    let (server, mut watched) = direct().await;
    let since = Moment::now();
    server.psql("kv", "ALTER TABLE kv DISABLE TRIGGER USER").unwrap();
    set(&watched.other, "missed", "1").await.unwrap();
    watched.expect_announced("disabled trigger", since, GapReason::NotReported).await;
    watched.expect_recovered("disabled trigger").await;
}

async fn briefly_disabled_trigger() {
    let (server, mut watched) = direct().await;
    let since = Moment::now();
    let write = "UPDATE kv SET version = sha256(version) WHERE key = 'x'";
    for enable in ["ENABLE TRIGGER USER", "ENABLE ALWAYS TRIGGER \"anykv tell\""] {
        let sql = format!(
            "BEGIN; ALTER TABLE kv DISABLE TRIGGER USER; {write}; ALTER TABLE kv {enable}; \
             ALTER TABLE kv ENABLE ALWAYS TRIGGER \"anykv tell truncate\"; COMMIT"
        );
        let since = if enable.contains("ALWAYS") { Moment::now() } else { since };
        server.psql("kv", &sql).unwrap();
        watched.expect_announced("briefly disabled trigger", since, GapReason::NotReported).await;
        watched.expect_recovered("briefly disabled trigger").await;
    }
    // A session that applies the changes of a replication fires the triggers, too.
    let now = Moment::now();
    let replicated = "SET session_replication_role = replica; \
                      INSERT INTO kv VALUES ('replicated', '', '0123456789abcdef', 0)";
    server.psql("kv", replicated).unwrap();
    watched.sink.wait(now, "a replicated change", |call| *call == Call::Changed(key("replicated"))).await;
}

async fn replaced_table() {
    let (server, mut watched) = direct().await;
    let since = Moment::now();
    server.psql("kv", "DROP TABLE kv, \"kv letters\", \"kv secret\"").unwrap();
    watched.expect_announced("dropped table", since, GapReason::NotReported).await;
    watched.other = impatient(&server).open().await.unwrap();
    watched.expect_recovered("dropped table").await;
    // The table is replaced between two heartbeats.
    let since = Moment::now();
    let copy = "BEGIN; CREATE TABLE copy (LIKE kv INCLUDING ALL); DROP TABLE kv; ALTER TABLE copy RENAME TO kv; \
                CREATE TRIGGER \"anykv tell\" AFTER INSERT OR UPDATE OR DELETE ON kv FOR EACH ROW \
                EXECUTE FUNCTION \"kv tell\"(); CREATE TRIGGER \"anykv tell truncate\" AFTER TRUNCATE ON kv \
                FOR EACH STATEMENT EXECUTE FUNCTION \"kv tell\"(); COMMIT";
    server.psql("kv", copy).unwrap();
    watched.expect_announced("replaced table", since, GapReason::NotReported).await;
    watched.expect_recovered("replaced table").await;
}

/// An address that leads new connections to another server, and keeps the established connections.
struct Address {
    address: SocketAddr,
    target: Arc<Mutex<SocketAddr>>,
}

impl Address {
    async fn new(target: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, target) = (listener.local_addr().unwrap(), Arc::new(Mutex::new(target)));
        let shared = Arc::clone(&target);
        tokio::spawn(async move {
            while let Ok((mut client, _)) = listener.accept().await {
                let target = *shared.lock().unwrap();
                tokio::spawn(async move {
                    let mut server = TcpStream::connect(target).await?;
                    tokio::io::copy_bidirectional(&mut client, &mut server).await
                });
            }
        });
        Self { address, target }
    }
}

async fn another_server() {
    let (old, new) = (Postgres::start().unwrap(), Postgres::start().unwrap());
    let address = Address::new(old.address()).await;
    let url = old.url().replace(&format!(":{}/", old.port()), &format!(":{}/", address.address.port()));
    let mut watched = Watched::open(&old, &url).await;
    // Both servers have the same system identifier and timeline, as after a failover to a copy of the files.
    assert_eq!(old.password(), new.password());
    watched.other = impatient(&new).open().await.unwrap();
    set(&watched.other, "k", "new").await.unwrap();
    set(&watched.store, "k", "old").await.unwrap();
    *address.target.lock().unwrap() = new.address();
    // The listener keeps its connection to the old server. A call on a new connection reaches the new server.
    let since = Moment::now();
    let pids = format!(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'anykv' AND pid <> {}",
        listener_of(&old)
    );
    old.psql("kv", &pids).unwrap();
    assert_eq!(get(&watched.store, "k").await.unwrap().as_deref(), Some("new"));
    watched.expect_announced("another server", since, GapReason::ServerChanged).await;
    watched.expect_recovered("another server").await;
    assert_eq!(get(&watched.store, "k").await.unwrap().as_deref(), Some("new"));
}

async fn lagging_watcher() {
    let (_server, mut watched) = direct().await;
    let items: Vec<_> = (0..10_000).map(|number| kv_core::SetItem::new(key(number), "v")).collect();
    for chunk in items.chunks(1_000) {
        for stored in watched.other.set_many(chunk).await {
            assert!(stored.unwrap().is_stored());
        }
    }
    watched.sink.expect_current().await;
    let calls = watched.sink.calls();
    let changed: HashSet<_> =
        calls.iter().filter_map(|(_, call)| if let Call::Changed(key) = call { Some(key) } else { None }).collect();
    assert_eq!(changed.len(), 10_000);
    assert!(!calls.iter().any(|(_, call)| matches!(call, Call::Lost(_))));
    let event = watched.next_event().await;
    assert_eq!(event, WatchEvent::Gap { reason: GapReason::Lagged });
}

/// Many writers. Another handle confirms that a write is visible, and the sink must have got the key before the first
/// `current` with a later moment.
async fn current_is_behind_changes() {
    const WRITERS: usize = 12;
    let server = Postgres::start().unwrap();
    let open = || PostgresStore::builder().url(&server.url()).unwrap().watch_loss_bound(BOUND * 2 / 5);
    let store = open().open().await.unwrap();
    let sink = Arc::new(Recorded::default());
    let target = WatchTarget::from(KeyPrefix::ALL);
    let _registration = store.watch_into(&target, Arc::clone(&sink) as Arc<dyn ChangeSink>).await.unwrap();
    sink.expect_current().await;
    let started = Moment::now();
    let mut writers = Vec::new();
    for writer in 0..WRITERS {
        let (other, reader) = (open().connections(1).open().await.unwrap(), store.clone());
        writers.push(tokio::spawn(async move {
            let mut visible = Vec::new();
            for number in 0.. {
                if started.elapsed() > 5 * BOUND {
                    break;
                }
                let name = format!("{writer} {number}");
                let written = tokio::spawn({
                    let (other, name) = (other.clone(), name.clone());
                    async move { set(&other, &name, "v").await }
                });
                // The write may be visible before it is acknowledged.
                while get(&reader, &name).await.unwrap().is_none() {}
                visible.push((key(name), Moment::now()));
                written.await.unwrap().unwrap();
            }
            visible
        }));
    }
    let mut visible = Vec::new();
    for writer in writers {
        visible.extend(writer.await.unwrap());
    }
    sink.expect_current().await;
    sink.check(&visible);
}

/// A commit becomes visible, then deletes the files of dropped tables, and only then signals its notifications.
async fn current_is_behind_delayed_signal() {
    const TABLES: usize = 1_500;
    let server = Postgres::start().unwrap();
    let builder = PostgresStore::builder().url(&server.url()).unwrap().watch_loss_bound(BOUND / 5);
    let store = builder.open().await.unwrap();
    let sink = Arc::new(Recorded::default());
    let target = WatchTarget::from(KeyPrefix::ALL);
    let _registration = store.watch_into(&target, Arc::clone(&sink) as Arc<dyn ChangeSink>).await.unwrap();
    let writer = Arc::new(support::pool(&server, 1).get().await.unwrap());
    for round in 0..3 {
        let all = |action: &str, column: &str| -> String {
            let statements: Vec<_> =
                (0..TABLES).map(|number| format!("{action} TABLE dropped_{number} {column}")).collect();
            statements.join("; ")
        };
        writer.batch_execute(&all("CREATE", "(id int)")).await.unwrap();
        sink.expect_current().await;
        let insert = format!("INSERT INTO kv VALUES ('{round}', '', '0123456789abcdef', 0);");
        let (writer, sql) = (Arc::clone(&writer), format!("BEGIN; {insert} {}; COMMIT", all("DROP", "")));
        let written = tokio::spawn(async move { writer.batch_execute(&sql).await });
        while !store.contains(&key(round)).await.unwrap() {}
        let at = Moment::now();
        written.await.unwrap().unwrap();
        println!("signalled {:?} after it was visible", at.elapsed());
        sink.expect_current().await;
        sink.check(&[(key(round), at)]);
    }
}

async fn cost_of_heartbeats() {
    let server = Postgres::start().unwrap();
    let builder = PostgresStore::builder().url(&server.url()).unwrap().watch_loss_bound(BOUND);
    let store = builder.open().await.unwrap();
    // A notification takes a transaction id.
    let next_id = || -> u64 { server.psql("kv", "SELECT pg_current_xact_id()").unwrap().trim().parse().unwrap() };
    let used = async || {
        let first = next_id();
        pause(4 * BOUND).await;
        next_id() - first - 1
    };
    assert_eq!(used().await, 0);
    let watch = store.watch(&WatchQuery::prefix(KeyPrefix::ALL)).await.unwrap();
    assert_eq!(used().await, 0, "a watcher");
    let sink: Arc<dyn ChangeSink> = Arc::new(Recorded::default());
    let registration = store.watch_into(&WatchTarget::from(KeyPrefix::ALL), sink).await.unwrap();
    let notifications = used().await;
    assert!((3..=18).contains(&notifications), "{notifications} notifications for a sink");
    drop((watch, registration));
    pause(BOUND).await;
    assert_eq!(used().await, 0, "after the end of the sink");
}

async fn unchanged_value() {
    let (server, proxy, watched) = proxied().await;
    set(&watched.store, "k", &"v".repeat(4_000_000)).await.unwrap();
    let entry = watched.store.get(&key("k")).await.unwrap().unwrap();
    let before = proxy.bytes(Direction::ToClient);
    assert!(before > 4_000_000);
    let options = GetOptions::default().with_unless_version(entry.version.unwrap());
    let known = watched.store.get_with(&key("k"), &options).await.unwrap();
    assert_eq!(known, GetOutcome::NotModified { expires: entry.expires });
    let sent = proxy.bytes(Direction::ToClient) - before;
    assert!(sent < 100_000, "{sent} bytes");
    assert_eq!(watched.store.get_with(&key("absent"), &options).await.unwrap(), GetOutcome::Absent);
    set(&watched.other, "k", "w").await.unwrap();
    let GetOutcome::Found(found) = watched.store.get_with(&key("k"), &options).await.unwrap() else { panic!() };
    assert_eq!(found.value, "w");
    drop(server);
}
