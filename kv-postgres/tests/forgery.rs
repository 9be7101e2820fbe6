//! Notifications of a role without any right on the store: forged messages, copied messages, garbage, forged changes.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may panic")]

use std::time::Duration;

use futures_util::StreamExt;
use kv_core::{
    ErrorKind, GapReason, KeyPrefix, KvStore, MessageEvent, MessageStream, SetOptions, WatchEvent, WatchQuery,
};
use kv_postgres::PostgresStore;
use kv_postgres::deadpool_postgres::tokio_postgres::types::Type;
use kv_postgres::deadpool_postgres::tokio_postgres::{AsyncMessage, Client, NoTls, Notification, connect};
use test_servers::pgbouncer::PgBouncer;
use test_servers::postgres::Postgres;
use tokio::sync::mpsc;

mod support;
use support::{KillOnDrop, child, impatient, key, set, test};

fn main() {
    support::main(
        |_| support::block_on(publish_in_child()),
        vec![
            test("forged_messages_do_not_reach_subscribers", forged_messages),
            test("forged_messages_do_not_reach_subscribers_behind_a_pooler", forged_messages_behind_pooler),
            test("a_copy_with_the_process_id_of_the_sender_is_refused", reused_process_id),
            test("a_flood_of_garbage_does_not_reach_subscribers", garbage),
            test("a_forged_change_is_only_a_reason_to_read", forged_changes),
            test("messages_need_the_right_to_read_the_secret", rights),
            test("an_existing_table_gets_its_secret_from_its_owner", older_table),
            test("tables_for_messages_of_another_role_are_not_used", planted_tables),
        ],
    );
}

/// A session of the role `mallory`. The role has only the right to connect.
struct Mallory {
    client: Client,
    heard: mpsc::UnboundedReceiver<Notification>,
}

impl Mallory {
    async fn new(server: &Postgres) -> Self {
        server.psql("kv", "CREATE ROLE mallory LOGIN PASSWORD 'mallory'").unwrap();
        let (client, mut connection) = connect(&server.url_of("mallory", "mallory", "kv"), NoTls).await.unwrap();
        let (sender, heard) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            while let Some(Ok(message)) = std::future::poll_fn(|cx| connection.poll_message(cx)).await {
                if let AsyncMessage::Notification(notification) = message {
                    let _ = sender.send(notification);
                }
            }
        });
        Self { client, heard }
    }

    /// Listens on the channel of the store. The name of the channel is not secret.
    async fn listen(&self, server: &Postgres) -> String {
        let channel = "SELECT substring(prosrc FROM 'anykv_[0-9a-f]{16}') FROM pg_proc WHERE proname = 'kv tell'";
        let channel = server.psql("kv", channel).unwrap().trim().to_owned();
        self.client.batch_execute(&format!("LISTEN {channel}")).await.unwrap();
        channel
    }

    async fn next(&mut self) -> Notification {
        tokio::time::timeout(Duration::from_secs(20), self.heard.recv()).await.unwrap().unwrap()
    }

    async fn send(&self, channel: &str, payload: &str) {
        self.client
            .query_typed("SELECT pg_notify($1, $2)", &[(&channel, Type::TEXT), (&payload, Type::TEXT)])
            .await
            .unwrap();
    }
}

async fn next_payload(messages: &mut MessageStream) -> Vec<u8> {
    match tokio::time::timeout(Duration::from_secs(20), messages.next()).await.unwrap().unwrap().unwrap() {
        MessageEvent::Message(message) => message.payload.to_vec(),
        other => panic!("{other:?}"),
    }
}

async fn forged_messages() {
    let server = Postgres::start().unwrap();
    let store = PostgresStore::open(&server.url()).await.unwrap();
    refuses_forgeries(&server, &store).await;
}

async fn forged_messages_behind_pooler() {
    let server = Postgres::start().unwrap();
    let pooler = PgBouncer::start(&server).unwrap();
    let builder = PostgresStore::builder().url(&pooler.url("kv")).unwrap().pooled(true).listen_url(server.url());
    refuses_forgeries(&server, &builder.open().await.unwrap()).await;
}

/// Forges messages and copies genuine messages. The subscriber receives exactly the genuine messages, in their order.
async fn refuses_forgeries(server: &Postgres, store: &PostgresStore) {
    let mut mallory = Mallory::new(server).await;
    let channel = mallory.listen(server).await;
    let mut messages = store.subscribe(&KeyPrefix::ALL).await.unwrap();
    let genuine = [b"text".to_vec(), vec![], vec![0, 255], vec![7; 100_000], "x".repeat(7_000).into_bytes()];
    for payload in &genuine {
        store.publish(&key("c"), payload.clone().into()).await.unwrap();
        let observed = mallory.next().await;
        let (sealed, body) = observed.payload().split_at(35);
        let mut sent = 0;
        for forged in [
            observed.payload().to_owned(),
            format!("{sealed}{body}x"),
            format!("m {:032x} {body}", 0),
            body.to_owned(),
            "t c forged".to_owned(),
            "x c 00".to_owned(),
            format!("l c {}", kv_core::Version::random()),
        ] {
            if forged.len() < 8_000 {
                mallory.send(&channel, &forged).await;
                sent += 1;
            }
        }
        assert_eq!(&next_payload(&mut messages).await, payload);
        // Mallory receives the forged messages as well.
        for _ in 0..sent {
            let _ = mallory.next().await;
        }
    }
    store.publish(&key("c"), "end".into()).await.unwrap();
    assert_eq!(next_payload(&mut messages).await, b"end");
    // The role cannot read the secret.
    let secret = mallory.client.batch_execute("SELECT * FROM \"kv secret\"").await;
    assert_eq!(secret.unwrap_err().code().unwrap().code(), "42501");
}

async fn publish_in_child() {
    let store = PostgresStore::builder().url(&support::url()).unwrap().connections(1).open().await.unwrap();
    store.publish(&key("c"), "once".into()).await.unwrap();
}

/// The system gives a process id to a new session only after it has given all other process ids. Therefore this test
/// sends the copy as the superuser from the sender's own session, which has the sender's process id.
async fn reused_process_id() {
    let server = Postgres::start().unwrap();
    let pool = support::pool(&server, 1);
    let builder = PostgresStore::builder().pool(pool.clone()).listen_url(server.url());
    let store = builder.open().await.unwrap();
    let mut mallory = Mallory::new(&server).await;
    let channel = mallory.listen(&server).await;
    let mut messages = store.subscribe(&KeyPrefix::ALL).await.unwrap();
    store.publish(&key("c"), "one".into()).await.unwrap();
    let observed = mallory.next().await.payload().to_owned();
    store.publish(&key("c"), "two".into()).await.unwrap();
    for copy in [observed.clone(), mallory.next().await.payload().to_owned()] {
        let sender = pool.get().await.unwrap();
        sender.execute("SELECT pg_notify($1, $2)", &[&channel, &copy]).await.unwrap();
    }
    store.publish(&key("c"), "three".into()).await.unwrap();
    for expected in ["one", "two", "three"] {
        assert_eq!(next_payload(&mut messages).await, expected.as_bytes());
    }
    // A message from before the subscription is refused as well.
    let later = PostgresStore::open(&server.url()).await.unwrap();
    let mut messages = later.subscribe(&KeyPrefix::ALL).await.unwrap();
    pool.get().await.unwrap().execute("SELECT pg_notify($1, $2)", &[&channel, &observed]).await.unwrap();
    store.publish(&key("c"), "four".into()).await.unwrap();
    assert_eq!(next_payload(&mut messages).await, b"four");
}

async fn garbage() {
    let server = Postgres::start().unwrap();
    let store = PostgresStore::open(&server.url()).await.unwrap();
    let mallory = Mallory::new(&server).await;
    let channel = mallory.listen(&server).await;
    let mut messages = store.subscribe(&KeyPrefix::ALL).await.unwrap();
    let flood = format!(
        "SELECT pg_notify('{channel}', (ARRAY['m ', 'm ' || repeat('0', 32) || ' 9 t c ', 't c ', 'l c ', 'm  ', '', '💥 '])[1 + n % 7] \
         || repeat('x', n % 3000) || n) FROM generate_series(1, 30000) n"
    );
    let flooding = tokio::spawn(async move { mallory.client.batch_execute(&flood).await.map(|()| mallory) });
    for number in 0..200 {
        store.publish(&key("c"), number.to_string().into()).await.unwrap();
    }
    let _mallory = flooding.await.unwrap().unwrap();
    store.publish(&key("c"), "200".into()).await.unwrap();
    for number in 0..=200 {
        assert_eq!(next_payload(&mut messages).await, number.to_string().into_bytes());
    }
}

/// A forged change makes a watcher read an entry. The watcher takes neither value nor version from the notification.
async fn forged_changes() {
    let server = Postgres::start().unwrap();
    let store = PostgresStore::open(&server.url()).await.unwrap();
    let mallory = Mallory::new(&server).await;
    let channel = mallory.listen(&server).await;
    set(&store, "k", "v").await.unwrap();
    let entry = store.get(&key("k")).await.unwrap().unwrap();
    let mut watch = store.watch(&WatchQuery::prefix(KeyPrefix::ALL)).await.unwrap();
    let forged_version = kv_core::Version::random();
    let forged =
        [format!("s{forged_version} k"), "d k".to_owned(), format!("s{forged_version} absent"), "d absent".into()];
    for payload in &forged {
        mallory.send(&channel, payload).await;
        let event = tokio::time::timeout(Duration::from_secs(20), watch.next()).await.unwrap().unwrap().unwrap();
        let expected = if payload.ends_with("absent") {
            WatchEvent::Removed { key: key("absent") }
        } else {
            WatchEvent::Set { key: key("k"), entry: Some(entry.clone()) }
        };
        assert_eq!(event, expected, "{payload}");
    }
    for payload in ["s", "s ", "d", "d $", "s k", "dk", "f x", "ff", "", " ", "s00 not$a"] {
        mallory.send(&channel, payload).await;
    }
    mallory.send(&channel, "f").await;
    let event = loop {
        match tokio::time::timeout(Duration::from_secs(20), watch.next()).await.unwrap().unwrap().unwrap() {
            WatchEvent::Set { key: changed, entry: read } => {
                assert_eq!((changed, read), (key("k"), Some(entry.clone())));
            }
            // `d ` names the key whose only segment is empty, which is absent.
            WatchEvent::Removed { key: changed } => assert_eq!(changed, key("")),
            other => break other,
        }
    };
    assert_eq!(event, WatchEvent::Gap { reason: GapReason::Flushed });
    assert_eq!(store.get(&key("k")).await.unwrap(), Some(entry));
    set(&store, "k", "w").await.unwrap();
    let current = store.get(&key("k")).await.unwrap();
    loop {
        match tokio::time::timeout(Duration::from_secs(20), watch.next()).await.unwrap().unwrap().unwrap() {
            WatchEvent::Set { entry, .. } if entry == current => break,
            WatchEvent::Gap { reason: GapReason::Flushed } => {}
            other => panic!("{other:?}"),
        }
    }
}

async fn rights() {
    let server = Postgres::start().unwrap();
    let owner = PostgresStore::open(&server.url()).await.unwrap();
    server.psql("kv", "CREATE ROLE guest LOGIN PASSWORD 'guest'; GRANT SELECT ON kv TO guest").unwrap();
    let guest = PostgresStore::open(&server.url_of("guest", "guest", "kv")).await.unwrap();
    let published = guest.publish(&key("c"), "m".into()).await;
    assert_eq!(published.unwrap_err().kind(), ErrorKind::Denied);
    let subscribed = guest.subscribe(&KeyPrefix::ALL).await.map(drop);
    assert_eq!(subscribed.unwrap_err().kind(), ErrorKind::Denied);
    server.psql("kv", "GRANT SELECT ON \"kv secret\" TO guest").unwrap();
    let mut messages = owner.subscribe(&KeyPrefix::ALL).await.unwrap();
    guest.publish(&key("c"), "m".into()).await.unwrap();
    assert_eq!(next_payload(&mut messages).await, b"m");
    let mut messages = guest.subscribe(&KeyPrefix::ALL).await.unwrap();
    owner.publish(&key("c"), "n".into()).await.unwrap();
    assert_eq!(next_payload(&mut messages).await, b"n");
}

/// A table of an older version has no secret. Its owner creates the secret, even if 16 processes open it at once.
async fn older_table() {
    let server = Postgres::start().unwrap();
    server.psql("kv", "CREATE ROLE guest LOGIN PASSWORD 'guest'").unwrap();
    set(&PostgresStore::open(&server.url()).await.unwrap(), "k", "v").await.unwrap();
    server.psql("kv", "DROP TABLE \"kv secret\"; GRANT SELECT ON kv TO guest").unwrap();
    let guest = PostgresStore::open(&server.url_of("guest", "guest", "kv")).await.unwrap();
    assert_eq!(support::get(&guest, "k").await.unwrap().as_deref(), Some("v"));
    assert_eq!(guest.publish(&key("c"), "m".into()).await.unwrap_err().kind(), ErrorKind::Denied);
    let children: Vec<_> = (0..16).map(|_| KillOnDrop(child("publish", &server.url()).spawn().unwrap())).collect();
    for mut running in children {
        assert!(running.0.wait().unwrap().success());
    }
    assert_eq!(server.psql("kv", "SELECT length(secret) FROM \"kv secret\"").unwrap().trim(), "32");
    let store = PostgresStore::open(&server.url()).await.unwrap();
    let mut messages = store.subscribe(&KeyPrefix::ALL).await.unwrap();
    assert!(child("publish", &server.url()).status().unwrap().success());
    assert_eq!(next_payload(&mut messages).await, b"once");
    assert_eq!(support::get(&store, "k").await.unwrap().as_deref(), Some("v"));
}

/// In a schema where every role may create tables, another role creates the tables for messages first.
async fn planted_tables() {
    let server = Postgres::start().unwrap();
    server.psql("kv", "GRANT CREATE ON SCHEMA public TO public").unwrap();
    let mallory = Mallory::new(&server).await;
    let plant = "CREATE TABLE \"kv secret\" (id bool PRIMARY KEY DEFAULT true, secret bytea NOT NULL); \
                 INSERT INTO \"kv secret\" (secret) VALUES ('known'); GRANT SELECT ON \"kv secret\" TO public";
    mallory.client.batch_execute(plant).await.unwrap();
    let store = PostgresStore::open(&server.url()).await.unwrap();
    let _ = store.set(&key("k"), "v".into(), &SetOptions::default()).await.unwrap();
    assert_eq!(store.publish(&key("c"), "m".into()).await.unwrap_err().kind(), ErrorKind::Denied);
    let subscribed = store.subscribe(&KeyPrefix::ALL).await.map(drop);
    assert_eq!(subscribed.unwrap_err().kind(), ErrorKind::Denied);
    let mut watch = store.watch(&WatchQuery::prefix(KeyPrefix::ALL)).await.unwrap();
    set(&store, "k", "w").await.unwrap();
    assert!(matches!(watch.next().await.unwrap().unwrap(), WatchEvent::Set { .. }));
    server.psql("kv", "DROP TABLE \"kv secret\"").unwrap();
    let store = impatient(&server).open().await.unwrap();
    let mut messages = store.subscribe(&KeyPrefix::ALL).await.unwrap();
    store.publish(&key("c"), "m".into()).await.unwrap();
    assert_eq!(next_payload(&mut messages).await, b"m");
}
