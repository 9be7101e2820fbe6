//! Faults of the path of changes: each is announced to sinks, watchers and subscribers within the declared bound, and
//! afterwards there is a gap.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may panic")]

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use futures_util::StreamExt;
use kv_core::{
    ChangeSink, GapReason, GetOptions, GetOutcome, KeyPrefix, KvStore, Moment, SetItem, WatchEvent, WatchQuery,
    WatchTarget,
};
use test_servers::cluster::RedisCluster;
use test_servers::proxy::{Direction, Proxy};
use test_servers::redis::Redis;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

mod support;
use support::{at, eventually, key, set, value};
#[path = "freshness/watched.rs"]
mod watched;
use watched::{BOUND, Call, Recorded, Watched};

/// A server behind a proxy.
async fn proxied() -> (Redis, Proxy, Watched) {
    let server = Redis::start().unwrap();
    let proxy = Proxy::start(server.address()).unwrap();
    let watched = Watched::open(&format!("redis://{}", proxy.address()), &server.url()).await;
    (server, proxy, watched)
}

async fn direct() -> (Redis, Watched) {
    let server = Redis::start().unwrap();
    let watched = Watched::open(&server.url(), &server.url()).await;
    (server, watched)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_closed_connection_is_announced() {
    let (_server, proxy, mut watched) = proxied().await;
    for _ in 0..2 {
        let since = Moment::now();
        proxy.close_all();
        watched.expect_announced("connection cut", since, GapReason::Disconnected).await;
        watched.expect_recovered("connection cut").await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_black_hole_is_announced() {
    let (_server, proxy, mut watched) = proxied().await;
    let since = Moment::now();
    proxy.black_hole();
    let _ = set(&watched.other, "missed", "1").await.unwrap();
    watched.expect_announced("black hole", since, GapReason::Unanswered).await;
    proxy.pass();
    watched.expect_recovered("black hole").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_paused_server_is_announced() {
    let (mut server, mut watched) = direct().await;
    let since = Moment::now();
    server.pause().unwrap();
    watched.expect_announced("paused server", since, GapReason::Unanswered).await;
    server.resume().unwrap();
    watched.expect_recovered("paused server").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_server_and_a_refused_reconnect_leave_the_loss_announced() {
    let (mut server, mut watched) = direct().await;
    let since = Moment::now();
    server.kill().unwrap();
    watched.expect_announced("killed server", since, GapReason::Disconnected).await;
    let early = timeout(4 * BOUND, watched.watch.next()).await;
    assert!(early.is_err(), "{early:?} while the server is down");
    let calls = watched.sink.calls();
    assert!(matches!(calls.last(), Some((_, Call::Lost(GapReason::Disconnected)))), "{:?}", calls.last());
    server.restart().unwrap();
    // The new server lacks the record of the layout.
    watched.other = at(&server.url()).open().await.unwrap();
    watched.expect_recovered("killed server").await;
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

    fn lead_to(&self, server: &Redis) {
        *self.target.lock().unwrap() = server.address();
    }
}

/// Two servers behind one address that leads to the first.
async fn pair() -> (Redis, Redis, Address, Watched) {
    let (old, new) = (Redis::start().unwrap(), Redis::start().unwrap());
    let address = Address::new(old.address()).await;
    let mut watched = Watched::open(&format!("redis://{}", address.address), &old.url()).await;
    watched.other = at(&new.url()).open().await.unwrap();
    (old, new, address, watched)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_demoted_server_is_announced_and_left() {
    let (old, new, address, mut watched) = pair().await;
    let since = Moment::now();
    address.lead_to(&new);
    old.cli(&["REPLICAOF", "127.0.0.1", &new.port().to_string()]).unwrap();
    // The handle sends no command. Its connections to the old server stay.
    watched.expect_announced("demotion", since, GapReason::ServerChanged).await;
    watched.expect_recovered("demotion").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_write_is_announced_at_once() {
    let (old, new, address, mut watched) = pair().await;
    address.lead_to(&new);
    watched.sink.expect_current().await;
    let since = Moment::now();
    old.cli(&["REPLICAOF", "127.0.0.1", &new.port().to_string()]).unwrap();
    let _ = set(&watched.store, "refused", "1").await;
    watched.expect_announced("READONLY", since, GapReason::ServerChanged).await;
    watched.expect_recovered("READONLY").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reads_of_another_server_are_announced() {
    let (old, new, address, mut watched) = pair().await;
    let _ = set(&watched.other, "k", "new").await.unwrap();
    address.lead_to(&new);
    // The listener keeps its connection to the old server, which is still a master. Reads reach the new server.
    let ids = old.cli(&["CLIENT", "LIST"]).unwrap();
    let is_tracking = |line: &str| line.split(' ').any(|word| word.starts_with("flags=") && word.contains('t'));
    let is_reader = |line: &&str| !is_tracking(line) && !line.contains("cmd=client");
    let since = Moment::now();
    for line in ids.lines().filter(is_reader) {
        let id = line.split(' ').next().unwrap().trim_start_matches("id=");
        old.cli(&["CLIENT", "KILL", "ID", id]).unwrap();
    }
    eventually(|| async { watched.store.get(&key("k")).await.is_ok_and(|entry| entry.is_some()) }).await;
    watched.expect_announced("another server", since, GapReason::ServerChanged).await;
    watched.expect_recovered("another server").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_removed_database_is_announced() {
    let (server, mut watched) = direct().await;
    for command in [&["FLUSHALL"][..], &["SWAPDB", "0", "1"], &["SWAPDB", "0", "1"]] {
        let name = command[0];
        watched.sink.expect_current().await;
        let since = Moment::now();
        server.cli(command).unwrap();
        let lost = watched.sink.wait(since, name, |call| *call == Call::Lost(GapReason::Flushed)).await;
        watched.check_times(name, since, lost, &[]);
        while !matches!(watched.next_event().await, WatchEvent::Gap { reason: GapReason::Flushed }) {}
        watched.other = at(&server.url()).open().await.unwrap();
        watched.expect_changes(name).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lagging_watcher_gets_a_gap_and_the_sink_stays_current() {
    let (_server, mut watched) = direct().await;
    let items: Vec<_> = (0..10_000).map(|number| SetItem::new(key(number), "v")).collect();
    let since = Moment::now();
    for chunk in items.chunks(1_000) {
        assert!(watched.other.set_many(chunk).await.into_iter().all(|stored| stored.unwrap().is_stored()));
    }
    watched.sink.expect_current().await;
    let calls = watched.sink.calls();
    let changed: HashSet<_> =
        calls.iter().filter_map(|(_, call)| if let Call::Changed(key) = call { Some(key) } else { None }).collect();
    assert_eq!(changed.len(), 10_000);
    let lost = calls.iter().find(|(at, call)| *at >= since && matches!(call, Call::Lost(_)));
    assert!(lost.is_none(), "{lost:?}");
    assert_eq!(watched.next_event().await, WatchEvent::Gap { reason: GapReason::Lagged });
}

/// Many writers. A read confirms that a write is visible, and the sink must have got the key before the first `current`
/// with a later moment.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn current_covers_only_changes_that_were_passed_on() {
    let server = Redis::start().unwrap();
    let open = || at(&server.url()).watch_loss_bound(BOUND * 2 / 5);
    let store = open().open().await.unwrap();
    let sink = Arc::new(Recorded::default());
    let target = WatchTarget::from(KeyPrefix::ALL);
    let _registration = store.watch_into(&target, Arc::clone(&sink) as Arc<dyn ChangeSink>).await.unwrap();
    let started = Moment::now();
    let mut writers = Vec::new();
    for writer in 0..8 {
        let (other, reads) = (open().open().await.unwrap(), store.clone());
        writers.push(tokio::spawn(async move {
            let mut visible = Vec::new();
            for number in 0.. {
                if started.elapsed() > 8 * BOUND {
                    break;
                }
                let name = format!("{writer} {number}");
                let written = tokio::spawn({
                    let (other, name) = (other.clone(), name.clone());
                    async move { set(&other, &name, "v").await }
                });
                // The write may be visible before it is acknowledged.
                while value(&reads, &name).await.is_none() {}
                visible.push((key(name), Moment::now()));
                let _ = written.await.unwrap().unwrap();
            }
            visible
        }));
    }
    let mut visible = Vec::new();
    for writer in writers {
        visible.extend(writer.await.unwrap());
    }
    sink.expect_current().await;
    let (mut changed_at, mut currents, mut lost_at) = (std::collections::HashMap::new(), Vec::new(), None);
    for (position, (moment, call)) in sink.calls().into_iter().enumerate() {
        match call {
            Call::Changed(key) => drop(changed_at.entry(key).or_insert(position)),
            Call::Current(as_of) => currents.push((as_of, position, lost_at)),
            // A busy machine may delay a heartbeat.
            Call::Lost(_) => lost_at = Some(moment),
        }
    }
    println!("{} writes, {} calls of `current`", visible.len(), currents.len());
    assert!(currents.len() > 5, "{}", currents.len());
    for (key, at) in visible {
        let changed = changed_at.get(&key).unwrap_or_else(|| panic!("{key} was not reported"));
        let Some((as_of, current, lost_at)) = currents.iter().find(|(as_of, ..)| *as_of > at) else { continue };
        // `current` says nothing about changes from before a loss.
        if lost_at.is_none_or(|lost_at| lost_at < at) {
            assert!(changed < current, "{key} was visible {:?} before `as_of`", as_of.since(at));
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn faults_of_a_cluster_are_announced() {
    let mut cluster = RedisCluster::start().unwrap();
    let mut watched = Watched::open(&cluster.url(), &cluster.url()).await;
    // A master without slots, to which nobody listens.
    let newcomer = Redis::builder()
        .setting("cluster-enabled", "yes")
        .setting("cluster-node-timeout", "1500")
        .setting("cluster-announce-ip", "127.0.0.1")
        .start()
        .unwrap();
    let first = &cluster.nodes()[0];
    newcomer.cli(&["CLUSTER", "MEET", "127.0.0.1", &first.port().to_string()]).unwrap();
    let id = newcomer.cli(&["CLUSTER", "MYID"]).unwrap().trim().to_owned();
    let knows = |node: &Redis| {
        let nodes = node.cli(&["CLUSTER", "NODES"]).unwrap();
        nodes.lines().any(|line| line.starts_with(&id) && line.contains("connected") && !line.contains("handshake"))
    };
    let masters = &cluster.nodes()[..3];
    eventually(|| async { masters.iter().all(knows) }).await;
    // An empty slot is given to the newcomer. The handle sends no command, so that no redirection helps.
    let slot = (5_462..10_922)
        .map(|slot| slot.to_string())
        .find(|slot| masters[1].cli(&["CLUSTER", "COUNTKEYSINSLOT", slot]).unwrap().trim() == "0")
        .unwrap();
    watched.sink.expect_current().await;
    let since = Moment::now();
    for node in [&newcomer, &masters[1], &masters[0], &masters[2]] {
        node.cli(&["CLUSTER", "SETSLOT", &slot, "NODE", &id]).unwrap();
    }
    watched.expect_announced("moved slot", since, GapReason::ServerChanged).await;
    watched.expect_recovered("moved slot").await;

    let paused = &mut cluster.nodes()[2];
    let since = Moment::now();
    paused.pause().unwrap();
    watched.expect_announced("paused master", since, GapReason::Unanswered).await;
    cluster.nodes()[2].resume().unwrap();
    watched.expect_recovered("paused master").await;

    let since = Moment::now();
    cluster.kill_master(1).unwrap();
    watched.expect_announced("killed master", since, GapReason::Disconnected).await;
    let new = cluster.wait_for_failover().unwrap();
    println!("node {new} is the new master");
    watched.expect_recovered("killed master").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unchanged_value_stays_on_the_server() {
    let (_server, proxy, watched) = proxied().await;
    let _ = set(&watched.store, "k", &"v".repeat(4_000_000)).await.unwrap();
    let entry = watched.store.get(&key("k")).await.unwrap().unwrap();
    let before = proxy.bytes(Direction::ToClient);
    assert!(before > 4_000_000);
    let options = GetOptions::default().with_unless_version(entry.version.unwrap());
    let known = watched.store.get_with(&key("k"), &options).await.unwrap();
    assert_eq!(known, GetOutcome::NotModified { expires: entry.expires });
    let sent = proxy.bytes(Direction::ToClient) - before;
    assert!(sent < 100_000, "{sent} bytes");
    assert_eq!(watched.store.get_with(&key("absent"), &options).await.unwrap(), GetOutcome::Absent);
    let _ = set(&watched.other, "k", "w").await.unwrap();
    let GetOutcome::Found(found) = watched.store.get_with(&key("k"), &options).await.unwrap() else { panic!() };
    assert_eq!(found.value, "w");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_whose_servers_show_no_run_id_declares_no_sinks() {
    let server = Redis::builder().acl_user("ada", "s3cret", &support::rights("kv", "-info")).start().unwrap();
    let store = at(&server.url_of("ada", "s3cret")).open().await.unwrap();
    assert!(!store.info().capabilities.sinks);
    let sink: Arc<dyn ChangeSink> = Arc::new(Recorded::default());
    let error = store.watch_into(&WatchTarget::from(KeyPrefix::ALL), sink).await.unwrap_err();
    assert!(error.to_string().contains("change sinks"), "{error}");
    let mut watch = store.watch(&WatchQuery::prefix(KeyPrefix::ALL)).await.unwrap();
    let _ = set(&store, "k", "v").await.unwrap();
    assert!(matches!(support::next_event(&mut watch).await, WatchEvent::Set { .. }));
}
