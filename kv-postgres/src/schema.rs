//! The layout of the table, and its creation by the first process that opens it.
//!
//! Layout 1 has one table for each store. The primary key is the canonical text of the key. With `COLLATE "C"`, the
//! texts sort like the keys. Further objects belong to the table: an index for the sweeper, a function that extends a
//! checksum by further bytes, triggers for watchers, which are disabled at first, a table for messages that are too
//! large for a notification, and a table with the secret that authenticates messages. The comment of the table marks
//! the table as a store, and contains the number of the layout.
//!
//! The sweeper's index is on a separate column, `sweep_after`: the moment at which the sweeper checks the row. This
//! moment is never later than the row's deadline. An overwrite moves `sweep_after` only to an earlier moment. Therefore
//! most overwrites change no indexed column, and the new version of the row stays in the same page. After a check, the
//! sweeper moves `sweep_after` to a later moment.

use std::fmt::Write as _;

use kv_core::{Error, ErrorKind, Result};
use tokio_postgres::Client;
use tokio_postgres::types::{ToSql, Type};

use crate::config::{PostgresConfig, SyncMode};
use crate::error::{Failure, read_error};

/// The start of the comment that marks a table as a store. The number of the layout follows it.
const MARK: &str = "anykv layout ";

/// The number of the layout that this version reads and writes.
const LAYOUT: &str = "1";

/// The first key of the advisory lock under which processes create tables: `akv1` in ASCII.
const SCHEMA_LOCK: i32 = 0x616b_7631;
/// The first key of the watchers' advisory lock of a table: `akv2` in ASCII.
pub(crate) const WATCH_LOCK: i32 = 0x616b_7632;

/// The validated names of a table and its schema: `[A-Za-z_][A-Za-z0-9_]*`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Table {
    schema: String,
    name: String,
}

impl Table {
    /// The maximum length of a name, in bytes. The server silently truncates names to 63 bytes. This maximum leaves
    /// nine bytes for the suffixes of dependent objects.
    const MAX_BYTES: usize = 54;

    pub(crate) fn new(schema: &str, name: &str) -> Result<Self> {
        for (object, text) in [("schema", schema), ("table", name)] {
            let is_valid = match text.as_bytes() {
                [first, rest @ ..] => {
                    (first.is_ascii_alphabetic() || *first == b'_')
                        && rest.iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'_')
                        && text.len() <= Self::MAX_BYTES
                }
                [] => false,
            };
            if !is_valid {
                let max = Self::MAX_BYTES;
                return Err(Error::invalid(format!(
                    "the name of the {object} must have 1 to {max} letters, digits and `_`, and not begin with a digit"
                )));
            }
        }
        Ok(Self { schema: schema.to_owned(), name: name.to_owned() })
    }

    /// Returns the quoted name with its schema.
    pub(crate) fn qualified(&self) -> String {
        self.dependent("")
    }

    /// Returns the quoted name of the table for messages that are too large for a notification.
    pub(crate) fn messages_table(&self) -> String {
        self.dependent(" letters")
    }

    /// Returns the quoted name of the table with the secret that authenticates messages.
    pub(crate) fn secret_table(&self) -> String {
        self.dependent(" secret")
    }

    /// Returns the quoted name of the function that extends a checksum by further bytes.
    pub(crate) fn checksum_function(&self) -> String {
        self.dependent(" crc")
    }

    /// Returns the quoted name of the trigger function that sends notifications.
    fn notify_function(&self) -> String {
        self.dependent(" tell")
    }

    /// Returns the quoted name of an object that belongs to the table. The suffix contains a space, so the name cannot
    /// equal the name of another store's table.
    ///
    /// The suffixes belong to layout 1 and never change, because existing databases contain these names.
    fn dependent(&self, suffix: &str) -> String {
        let Self { schema, name } = self;
        format!("\"{schema}\".\"{name}{suffix}\"")
    }

    /// The quoted names of the triggers for watchers.
    pub(crate) const TRIGGERS: [&'static str; 2] = ["\"anykv tell\"", "\"anykv tell truncate\""];

    /// Returns the second key of the table's advisory locks: a hash of its name.
    pub(crate) fn number(&self) -> i32 {
        crc32c::crc32c(self.qualified().as_bytes()).cast_signed()
    }

    /// Returns the channel of the table's notifications. The channel is a hash of the table's name, because the server
    /// limits the length of a channel's name.
    pub(crate) fn channel(&self) -> String {
        let name = self.qualified();
        let hash = name
            .bytes()
            .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
        format!("anykv_{hash:016x}")
    }
}

/// The objects of a store that the database has.
#[derive(Debug, Clone, Copy)]
struct Found {
    /// `None` if the table is missing. True if the role of the session owns the table.
    is_own_table: Option<bool>,
    has_messages: bool,
    has_secret: bool,
    /// True if the tables for messages and for their secret belong to the owner of the table. Otherwise, another role
    /// may have created them to forge messages, or to run that role's triggers with the rights of the store.
    has_same_owner: bool,
}

impl Found {
    /// True if the session should create missing objects. Only the owner of the table may add objects to the table.
    fn is_incomplete(self) -> bool {
        self.is_own_table.is_none_or(|is_own| is_own && !(self.has_messages && self.has_secret))
    }

    fn has_table(self) -> bool {
        self.is_own_table.is_some()
    }
}

/// Checks the server and the table, and creates missing objects. Returns true if the tables for messages can be
/// trusted.
///
/// # Errors
/// - `Invalid`: the server is too old, the database does not use UTF-8, or the table is missing and must not be
///   created.
/// - `Corrupt`: the table is foreign or has another layout.
/// - `Denied`: the role may not create the table, or its sessions are read-only.
pub(crate) async fn prepare(
    client: &Client,
    table: &Table,
    config: &PostgresConfig,
    is_read_only: bool,
) -> Result<bool> {
    check_server(client).await?;
    let found = find(client, table).await?;
    if !found.is_incomplete() || (found.has_table() && is_read_only) {
        return Ok(found.has_same_owner);
    }
    if !found.has_table() && !config.create {
        return Err(Error::invalid(format!("there is no store: the table {} does not exist", table.qualified())));
    }
    if is_read_only {
        return Err(read_error(Failure::ReadOnly));
    }
    match create(client, table, config.sync).await {
        Ok(()) => Ok(find(client, table).await?.has_same_owner),
        // Without the secret, the store works except for messages.
        Err(error) if found.has_table() && error.kind() == ErrorKind::Denied => Ok(false),
        Err(error) => Err(error),
    }
}

async fn create(client: &Client, table: &Table, sync: SyncMode) -> Result<()> {
    // The lock makes processes create tables one after another. Otherwise, if two sessions create the same name at
    // once, one of them fails, even with `IF NOT EXISTS`. The timeout of opening bounds the wait for this lock, so
    // `lock_timeout` is disabled.
    let locked = format!(
        "BEGIN ISOLATION LEVEL READ COMMITTED; SET LOCAL lock_timeout = 0; \
         SELECT pg_advisory_xact_lock({SCHEMA_LOCK}, 0)"
    );
    let created = async {
        client.batch_execute(&locked).await.map_err(driver_error)?;
        let found = find(client, table).await?;
        if found.is_incomplete() {
            client.batch_execute(&creation(table, sync, found)).await.map_err(driver_error)?;
        }
        client.batch_execute("COMMIT").await.map_err(driver_error)
    };
    let created = created.await;
    if created.is_err() {
        // The caller needs the first error, not the error of the rollback.
        let _ = client.batch_execute("ROLLBACK").await;
    }
    created
}

fn driver_error(error: tokio_postgres::Error) -> Error {
    read_error(Failure::from_statement(error))
}

/// Returns true if the role, the database or the client makes the sessions of a primary server read-only. Ignores the
/// server's configuration and standby servers, because both may change while the store is open.
pub(crate) async fn is_read_only(client: &Client) -> Result<bool> {
    let sql = "SELECT NOT pg_catalog.pg_is_in_recovery() AND setting = 'on' \
               AND source IN ('database', 'user', 'database user', 'client') \
               FROM pg_catalog.pg_settings WHERE name = 'default_transaction_read_only'";
    let row = client.query_typed_opt(sql, &[]).await.map_err(driver_error)?;
    Ok(row.is_some_and(|row| row.get(0)))
}

async fn check_server(client: &Client) -> Result<()> {
    let sql = "SELECT current_setting('server_encoding'), current_setting('server_version_num')::int4";
    let row = client.query_typed_one(sql, &[]).await.map_err(driver_error)?;
    let (encoding, version): (String, i32) = (row.get(0), row.get(1));
    if encoding != "UTF8" {
        return Err(Error::invalid(format!("the database has the encoding {encoding} instead of UTF8")));
    }
    if version < 130_000 {
        return Err(Error::invalid("the server is older than PostgreSQL 13"));
    }
    Ok(())
}

async fn find(client: &Client, table: &Table) -> Result<Found> {
    // `to_regclass` also finds a table that was committed after the snapshot of this statement. The rows of `pg_class`
    // are those of the snapshot, so all columns are read from them.
    let sql = "SELECT pg_get_userbyid(c.relowner) = current_user, obj_description(c.oid, 'pg_class'), \
               EXISTS (SELECT FROM pg_catalog.pg_class WHERE oid = to_regclass($2)), \
               EXISTS (SELECT FROM pg_catalog.pg_class WHERE oid = to_regclass($3)), \
               (SELECT count(*) = 2 FROM pg_catalog.pg_class d WHERE d.oid IN (to_regclass($2), to_regclass($3)) \
               AND d.relkind = 'r' AND d.relowner = c.relowner) \
               FROM (SELECT) one LEFT JOIN pg_catalog.pg_class c ON c.oid = to_regclass($1)";
    let names = [table.qualified(), table.messages_table(), table.secret_table()];
    let parameters = names.each_ref().map(|name| (name as &(dyn ToSql + Sync), Type::TEXT));
    let row = client.query_typed_one(sql, &parameters).await.map_err(driver_error)?;
    let found = Found {
        is_own_table: row.get(0),
        has_messages: row.get(2),
        has_secret: row.get(3),
        has_same_owner: row.get(4),
    };
    let comment: Option<String> = row.get(1);
    match comment.as_deref().and_then(|comment| comment.strip_prefix(MARK)) {
        _ if !found.has_table() => Ok(found),
        Some(LAYOUT) => Ok(found),
        Some(other) => Err(Error::corrupt(format!(
            "the table has layout {}, but this version supports only layout {LAYOUT}",
            other.chars().take(20).collect::<String>()
        ))),
        None => Err(Error::corrupt("a foreign table has this name")),
    }
}

/// Returns the statements that create the missing objects of a store.
fn creation(names: &Table, sync: SyncMode, found: Found) -> String {
    let mut sql = if found.has_table() { String::new() } else { table_creation(names, sync) };
    // Without `IF NOT EXISTS`, the creation fails if another role has created the same name since the check. Default
    // privileges could let every role read the secret or change messages, so they are revoked.
    if !found.has_messages {
        let (messages, sent) = (names.messages_table(), format!("\"{} sent\"", names.name));
        let _ = write!(
            sql,
            "CREATE UNLOGGED TABLE {messages} (id bytea PRIMARY KEY, payload bytea NOT NULL, \
             sent_at timestamptz NOT NULL DEFAULT clock_timestamp()); \
             CREATE INDEX {sent} ON {messages} (sent_at); REVOKE ALL ON {messages} FROM PUBLIC;"
        );
    }
    if !found.has_secret {
        let secret = names.secret_table();
        // Two random UUIDs contain 244 random bits, from the generator that the server also uses for passwords.
        let _ = write!(
            sql,
            "CREATE TABLE {secret} (id bool PRIMARY KEY DEFAULT true CHECK (id), secret bytea NOT NULL); \
             INSERT INTO {secret} (secret) SELECT sha256(uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid())); \
             REVOKE ALL ON {secret} FROM PUBLIC;"
        );
    }
    sql
}

/// Returns the statements that create the schema, the table, its functions and its triggers.
fn table_creation(names: &Table, sync: SyncMode) -> String {
    let (table, schema) = (names.qualified(), &names.schema);
    let (crc, notify) = (names.checksum_function(), names.notify_function());
    let sweep = format!("\"{} sweep\"", names.name);
    let unlogged = if sync == SyncMode::LosesAllOnCrash { "UNLOGGED " } else { "" };
    let channel = names.channel();
    let [trigger, truncated] = Table::TRIGGERS;
    let mut sql = String::new();
    // `CREATE SCHEMA IF NOT EXISTS` needs the privilege to create even if the schema exists, so check first.
    if schema != "public" {
        let _ = write!(
            sql,
            "DO $create$ BEGIN IF to_regnamespace('\"{schema}\"') IS NULL THEN CREATE SCHEMA \"{schema}\"; END IF; \
             END $create$;"
        );
    }
    let _ = write!(
        sql,
        r#"
        -- A fifth of each page stays free for the next versions of its rows, so that an overwrite changes no index.
        CREATE {unlogged}TABLE {table} (
            key text COLLATE "C" PRIMARY KEY,
            value bytea NOT NULL,
            version bytea NOT NULL,
            checksum int4 NOT NULL,
            expires_at timestamptz,
            sweep_after timestamptz
        ) WITH (fillfactor = 80, autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_cost_delay = 1);
        CREATE INDEX {sweep} ON {table} (sweep_after) WHERE sweep_after IS NOT NULL;
        COMMENT ON TABLE {table} IS '{MARK}{LAYOUT}';

        CREATE OR REPLACE FUNCTION {crc}(state int8, bytes bytea) RETURNS int4 LANGUAGE plpgsql IMMUTABLE STRICT AS $body$
        DECLARE crc int8 := state # 4294967295;
        BEGIN
            FOR i IN 0 .. length(bytes) - 1 LOOP
                crc := crc # get_byte(bytes, i);
                FOR bit IN 1 .. 8 LOOP
                    crc := (crc >> 1) # (2197175160 * (crc & 1));
                END LOOP;
            END LOOP;
            crc := crc # 4294967295;
            RETURN CASE WHEN crc > 2147483647 THEN crc - 4294967296 ELSE crc END;
        END $body$;

        -- Payloads: f if the table was truncated, d KEY if an entry was removed, sVERSION KEY if an entry was set.
        -- A row with an empty version is a placeholder of a transaction and no entry.
        CREATE OR REPLACE FUNCTION {notify}() RETURNS trigger LANGUAGE plpgsql AS $body$
        BEGIN
            IF TG_OP = 'TRUNCATE' THEN
                PERFORM pg_notify('{channel}', 'f');
            ELSIF TG_OP = 'DELETE' THEN
                IF OLD.version <> '' THEN
                    PERFORM pg_notify('{channel}', 'd ' || OLD.key);
                END IF;
            ELSIF TG_OP = 'INSERT' THEN
                IF NEW.version <> '' THEN
                    PERFORM pg_notify('{channel}', 's' || encode(NEW.version, 'hex') || ' ' || NEW.key);
                END IF;
            ELSIF NEW.version <> OLD.version OR NEW.expires_at IS DISTINCT FROM OLD.expires_at THEN
                PERFORM pg_notify('{channel}', 's' || encode(NEW.version, 'hex') || ' ' || NEW.key);
            END IF;
            RETURN NULL;
        END $body$;
        CREATE TRIGGER {trigger} AFTER INSERT OR UPDATE OR DELETE ON {table} FOR EACH ROW EXECUTE FUNCTION {notify}();
        CREATE TRIGGER {truncated} AFTER TRUNCATE ON {table} FOR EACH STATEMENT EXECUTE FUNCTION {notify}();
        ALTER TABLE {table} DISABLE TRIGGER {trigger};
        ALTER TABLE {table} DISABLE TRIGGER {truncated};
        "#
    );
    sql
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_are_too_long_or_not_identifiers_are_refused() {
        for name in ["kv", "_", "Kv_1", "select", &"x".repeat(54)] {
            assert!(Table::new("public", name).is_ok(), "{name}");
        }
        for name in ["", "1", "a b", "a\"b", "a;b", "é", &"x".repeat(55)] {
            assert!(Table::new("public", name).is_err(), "{name}");
            assert!(Table::new(name, "kv").is_err(), "{name}");
        }
    }

    #[test]
    fn tables_of_different_names_have_different_channels() {
        let channel = |schema, name| Table::new(schema, name).unwrap().channel();
        assert_ne!(channel("public", "kv"), channel("public", "KV"));
        assert_ne!(channel("a", "b"), channel("b", "a"));
        assert!(channel("a", &"x".repeat(54)).len() < 63);
    }
}
