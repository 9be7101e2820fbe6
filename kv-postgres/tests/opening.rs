//! Opening a store: addresses, credentials, privileges, TLS, poolers, and the state of the database.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may panic")]

use std::error::Error as _;

use kv_core::{Error, ErrorKind, KeyPrefix, KvStore, Reach, WatchQuery};
use kv_postgres::{CAPABILITIES, POOLED_CAPABILITIES, PostgresStore, SyncMode};
use test_servers::pgbouncer::PgBouncer;
use test_servers::postgres::Postgres;
use test_servers::tls::Certificate;

mod support;
use support::{get, impatient, key, pool, set, test};

fn main() {
    support::main(
        |_| unreachable!("there are no children"),
        vec![
            test("names_of_schema_and_table_keep_their_case", mixed_case),
            test("a_foreign_table_is_refused_and_not_changed", foreign_table),
            test("a_newer_layout_is_refused", newer_layout),
            test("a_database_that_does_not_use_utf8_is_refused", latin1),
            test("the_error_of_a_wrong_address_or_credential_has_its_kind_and_contains_no_secret", wrong_addresses),
            test("a_role_without_privileges_is_denied", missing_privileges),
            test("a_server_with_an_unknown_certificate_is_refused", unknown_certificate),
            test("an_expired_certificate_is_refused", expired_certificate),
            test("a_server_without_tls_is_refused_if_tls_is_required", downgrade),
            test("an_undeclared_pooler_is_refused_and_a_declared_pooler_has_no_watch_or_messages", undeclared_pooler),
            test("a_durability_that_the_sessions_cannot_have_is_refused", sync_without_own_sessions),
            test("a_dropped_table_is_created_again", dropped_table),
            test("a_store_opens_by_every_form_of_url", urls),
            test("a_write_in_a_session_that_is_read_only_by_configuration_is_denied", read_only_role),
        ],
    );
}

async fn mixed_case() {
    let server = Postgres::start().unwrap();
    let (upper, lower) = (impatient(&server).schema("Mine").table("Kv"), impatient(&server).schema("mine").table("kv"));
    let (upper, lower) = (upper.open().await.unwrap(), lower.open().await.unwrap());
    set(&upper, "k", "upper").await.unwrap();
    set(&lower, "k", "lower").await.unwrap();
    assert_eq!(get(&upper, "k").await.unwrap().as_deref(), Some("upper"));
    assert_eq!(server.psql("kv", "SELECT value FROM \"Mine\".\"Kv\"").unwrap().trim(), "\\x7570706572");
    for name in ["a\"b", "x; DROP TABLE kv", ""] {
        assert_eq!(impatient(&server).table(name).open().await.unwrap_err().kind(), ErrorKind::Invalid);
    }
}

async fn foreign_table() {
    let server = Postgres::start().unwrap();
    server.psql("kv", "CREATE TABLE kv (id int); INSERT INTO kv VALUES (7)").unwrap();
    let error = impatient(&server).open().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt, "{error:?}");
    assert_eq!(server.psql("kv", "SELECT id FROM kv").unwrap().trim(), "7");
}

async fn newer_layout() {
    let server = Postgres::start().unwrap();
    impatient(&server).open().await.unwrap();
    server.psql("kv", "COMMENT ON TABLE kv IS 'anykv layout 2'").unwrap();
    let error = impatient(&server).open().await.unwrap_err();
    assert!(error.kind() == ErrorKind::Corrupt && error.to_string().contains("layout 2"), "{error:?}");
}

async fn latin1() {
    let server = Postgres::start().unwrap();
    server.psql("kv", "CREATE DATABASE latin ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0").unwrap();
    let error = PostgresStore::open(&server.url_to("latin")).await.unwrap_err();
    assert!(error.kind() == ErrorKind::Invalid && error.to_string().contains("LATIN1"), "{error:?}");
}

/// Returns the complete text of an error: `Display`, `Debug`, and all sources.
fn full_text(error: &Error) -> String {
    let mut text = format!("{error} {error:?} {error:#?}");
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text} {cause} {cause:?}");
        source = cause.source();
    }
    text
}

async fn wrong_addresses() {
    let server = Postgres::start().unwrap();
    let closed = server.url_of("kv", "c4n4ry", "kv").replace(&server.port().to_string(), "1");
    let cases = [
        (server.url_of("kv", "c4n4ry", "kv"), ErrorKind::Denied),
        (server.url_of("nobody", "c4n4ry", "kv"), ErrorKind::Denied),
        (server.url_to("missing"), ErrorKind::Denied),
        (closed, ErrorKind::Unavailable),
        (format!("{}?no_such_option=c4n4ry", server.url()), ErrorKind::Invalid),
        (format!("{}?sslmode=c4n4ry", server.url()), ErrorKind::Invalid),
        (format!("{}?options=c4n4ry", server.url()), ErrorKind::Invalid),
        (format!("{}?options=-c%20c4n4ry=1", server.url()), ErrorKind::Invalid),
        (format!("{}?options=-c%20work_mem=c4n4ry", server.url()), ErrorKind::Invalid),
        (server.url_of("c4n4ry", "c4n4ry", "kv"), ErrorKind::Denied),
        (server.url_to("c4n4ry"), ErrorKind::Denied),
        ("postgres://u:a?c4n4ry=1@h".to_owned(), ErrorKind::Invalid),
    ];
    for (url, kind) in cases {
        let error = match PostgresStore::builder().url(&url) {
            Ok(builder) => {
                assert!(!format!("{builder:?}").contains("c4n4ry"));
                builder.open().await.unwrap_err()
            }
            Err(error) => error,
        };
        assert_eq!(error.kind(), kind, "{error:?}");
        let text = full_text(&error);
        assert!(!text.contains("c4n4ry") && !text.contains(server.password()), "{text}");
    }
    let store = PostgresStore::open(&server.url()).await.unwrap();
    assert!(!format!("{store:?} {store:#?}").contains(server.password()));
}

async fn missing_privileges() {
    let server = Postgres::start().unwrap();
    server.psql("kv", "CREATE ROLE guest LOGIN PASSWORD 'guest'").unwrap();
    let guest = server.url_of("guest", "guest", "kv");
    assert_eq!(PostgresStore::open(&guest).await.unwrap_err().kind(), ErrorKind::Denied);
    // If the table exists, a role needs only the privileges to read and to write.
    let owner = PostgresStore::open(&server.url()).await.unwrap();
    set(&owner, "k", "v").await.unwrap();
    server.psql("kv", "GRANT SELECT ON kv TO guest").unwrap();
    let store = PostgresStore::open(&guest).await.unwrap();
    assert_eq!(get(&store, "k").await.unwrap().as_deref(), Some("v"));
    assert_eq!(set(&store, "k", "new").await.unwrap_err().kind(), ErrorKind::Denied);
    server.psql("kv", "GRANT INSERT, UPDATE, DELETE ON kv TO guest").unwrap();
    set(&store, "k", "new").await.unwrap();
    let watch = store.watch(&WatchQuery::prefix(KeyPrefix::ALL)).await;
    assert_eq!(watch.map(drop).unwrap_err().kind(), ErrorKind::Denied);
}

async fn unknown_certificate() {
    let (server, other) = (Postgres::builder().tls().start().unwrap(), Postgres::builder().tls().start().unwrap());
    let url = |mode: &str, authority: &Postgres| {
        format!("{}?sslmode={mode}&sslrootcert={}", server.url(), authority.ca_certificate().display())
    };
    for mode in ["verify-full", "verify-ca", "require"] {
        PostgresStore::open(&url(mode, &server)).await.unwrap();
        let error = PostgresStore::open(&url(mode, &other)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Denied, "{mode}: {error:?}");
    }
    // Without a root certificate, these modes encrypt and do not verify.
    PostgresStore::open(&format!("{}?sslmode=require", server.url())).await.unwrap();
    PostgresStore::open(&format!("{}?sslmode=prefer", server.url())).await.unwrap();
    // The certificate comes from the authority, but does not name this host.
    let lenient = |mode: &str| format!("{}&hostaddr=127.0.0.1", url(mode, &server).replace("127.0.0.1", "elsewhere"));
    PostgresStore::open(&lenient("verify-ca")).await.unwrap();
    assert!(PostgresStore::open(&lenient("verify-full")).await.is_err());
}

async fn expired_certificate() {
    let server = Postgres::builder().tls_with(Certificate::Expired).start().unwrap();
    let url = format!("{}?sslmode=verify-full&sslrootcert={}", server.url(), server.ca_certificate().display());
    let error = PostgresStore::open(&url).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Denied, "{error:?}");
}

async fn downgrade() {
    let server = Postgres::start().unwrap();
    let error = PostgresStore::open(&format!("{}?sslmode=require", server.url())).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid, "{error:?}");
    PostgresStore::open(&format!("{}?sslmode=prefer", server.url())).await.unwrap();
}

async fn undeclared_pooler() {
    let server = Postgres::start().unwrap();
    let pooler = PgBouncer::start(&server).unwrap();
    let through = || PostgresStore::builder().url(&pooler.url("kv")).unwrap();
    // The pooler refuses the session settings.
    let error = through().open().await.unwrap_err();
    assert!(error.kind() == ErrorKind::Invalid && error.to_string().contains("pooled"), "{error:?}");
    let without_listener = through().pooled(true).open().await.unwrap();
    let durability = without_listener.info().capabilities.durability;
    assert_eq!(without_listener.info().capabilities, POOLED_CAPABILITIES.with_durability(durability));
    let watch = without_listener.watch(&WatchQuery::prefix(KeyPrefix::ALL)).await.map(drop);
    assert!(matches!(watch.unwrap_err().kind(), ErrorKind::Unsupported { .. }));
    let published = without_listener.publish(&key("c"), "m".into()).await;
    assert!(matches!(published.unwrap_err().kind(), ErrorKind::Unsupported { .. }));
    let error = through().pooled(true).listen_url(pooler.url("kv")).open().await.unwrap_err();
    assert!(error.kind() == ErrorKind::Invalid && error.to_string().contains("listen_url"), "{error:?}");
    let listening = through().pooled(true).listen_url(server.url()).open().await.unwrap();
    assert_eq!(listening.info().capabilities, CAPABILITIES.with_durability(durability));
    assert_eq!(listening.info().capabilities.watch, Reach::Shared);
}

async fn sync_without_own_sessions() {
    let server = Postgres::start().unwrap();
    let pooler = PgBouncer::start(&server).unwrap();
    let url = format!("{}?pooled=true&sync=loses-last-moments", pooler.url("kv"));
    let with_pool = PostgresStore::builder().pool(pool(&server, 1)).sync(SyncMode::LosesLastMoments);
    for opened in [PostgresStore::open(&url).await, with_pool.open().await] {
        let error = opened.unwrap_err();
        assert!(error.kind() == ErrorKind::Invalid && error.to_string().contains("`sync="), "{error:?}");
    }
    assert_eq!(server.psql("kv", "SELECT to_regclass('kv') IS NULL").unwrap().trim(), "t");
    PostgresStore::open(&format!("{}?pooled=true&sync=loses-all-on-crash", pooler.url("kv"))).await.unwrap();
}

async fn dropped_table() {
    let server = Postgres::start().unwrap();
    let store = PostgresStore::open(&server.url()).await.unwrap();
    set(&store, "k", "v").await.unwrap();
    store.close().await.unwrap();
    server.psql("kv", "DROP TABLE kv").unwrap();
    let store = PostgresStore::open(&server.url()).await.unwrap();
    assert_eq!(get(&store, "k").await.unwrap(), None);
    set(&store, "k", "w").await.unwrap();
    assert_eq!(get(&store, "k").await.unwrap().as_deref(), Some("w"));
}

async fn urls() {
    let server = Postgres::start().unwrap();
    let port = server.port();
    let (password, folder) = (server.password(), server.socket_folder().display());
    for url in [
        server.url(),
        server.socket_url(),
        server.url().replace("postgres://", "postgresql://"),
        format!("postgres://kv@localhost:{port}/kv?password={password}"),
        format!("postgres:///kv?host={folder}&port={port}&user=kv&password={password}"),
        format!("postgres://kv:{password}@127.0.0.1:1,127.0.0.1:{port}/kv"),
        format!(
            "{}?connect_timeout=3&application_name=mine&keepalives_idle=10&target_session_attrs=read-write",
            server.url()
        ),
    ] {
        let store = PostgresStore::open(&url).await.unwrap_or_else(|error| panic!("{url}: {error:?}"));
        set(&store, "k", "v").await.unwrap();
    }
}

async fn read_only_role() {
    let server = Postgres::start().unwrap();
    let read_only = format!("{}?options=-c%20default_transaction_read_only=on", server.url());
    // The missing table cannot be created.
    assert_eq!(PostgresStore::open(&read_only).await.unwrap_err().kind(), ErrorKind::Denied);
    let writer = PostgresStore::open(&server.url()).await.unwrap();
    set(&writer, "k", "v").await.unwrap();
    server.psql("kv", "ALTER ROLE kv SET default_transaction_read_only = on").unwrap();
    for url in [read_only, server.url()] {
        let reader = PostgresStore::open(&url).await.unwrap();
        assert_eq!(get(&reader, "k").await.unwrap().as_deref(), Some("v"));
        assert_eq!(set(&reader, "k", "new").await.unwrap_err().kind(), ErrorKind::Denied);
        let touched = reader.touch(&key("k"), kv_core::NewExpiry::Never).await;
        assert_eq!(touched.unwrap_err().kind(), ErrorKind::Denied);
    }
}
