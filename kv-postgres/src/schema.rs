//! The table's layout, and its creation by whoever comes first.
//!
//! Layout 1: a table for each store, with the canonical text of the key as its primary key, under `COLLATE "C"` so that its order
//! is that of keys. Beside it an index that leads the sweeper, a function that goes on with a checksum, a trigger for
//! watchers, which is installed disabled, and a table for messages that are too large for a notification. The comment of the
//! table says that it is ours, and of which layout.
//!
//! The sweeper's index is on a column of its own, `sweep_after`: the moment at which to look at the row, never later than its
//! deadline. An overwrite moves it only to an earlier moment, so most overwrites change no indexed column and stay within
//! their page; the sweeper moves it to a later one when it has looked.

use std::fmt::Write as _;

use kv_core::{Error, Result};
use tokio_postgres::Client;
use tokio_postgres::types::Type;

use crate::config::SyncMode;
use crate::error::{Effect, Fault};

/// What the comment of a table of ours begins with; the number of the layout is behind it.
const MARK: &str = "anykv layout ";

/// The layout that this version writes.
const LAYOUT: &str = "1";

/// The classes of the advisory locks: `akv1` in ASCII for whoever changes a schema, `akv2` for watchers.
const SCHEMA_LOCK: i32 = 0x616b_7631;
pub(crate) const WATCH_LOCK: i32 = 0x616b_7632;

/// A table and its schema, by names of `[A-Za-z_][A-Za-z0-9_]*`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Table {
    schema: String,
    name: String,
}

impl Table {
    /// The server cuts names at 63 bytes without a word; what belongs to the table has up to nine more.
    const MAX_BYTES: usize = 54;

    pub(crate) fn new(schema: &str, name: &str) -> Result<Self> {
        for (what, text) in [("schema", schema), ("table", name)] {
            let has_shape = match text.as_bytes() {
                [first, rest @ ..] => {
                    (first.is_ascii_alphabetic() || *first == b'_')
                        && rest.iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'_')
                        && text.len() <= Self::MAX_BYTES
                }
                [] => false,
            };
            if !has_shape {
                let most = Self::MAX_BYTES;
                return Err(Error::invalid(format!(
                    "the name of a {what} has 1 to {most} letters, digits and `_`, no digit first"
                )));
            }
        }
        Ok(Self { schema: schema.to_owned(), name: name.to_owned() })
    }

    pub(crate) fn qualified(&self) -> String {
        self.owned("")
    }

    pub(crate) fn letters(&self) -> String {
        self.owned(" letters")
    }

    pub(crate) fn checksum_function(&self) -> String {
        self.owned(" crc")
    }

    fn notify_function(&self) -> String {
        self.owned(" tell")
    }

    /// What belongs to the table has a space in its name, so that it never meets a table that a caller names.
    fn owned(&self, suffix: &str) -> String {
        let Self { schema, name } = self;
        format!("\"{schema}\".\"{name}{suffix}\"")
    }

    /// The name of the triggers for watchers, quoted.
    pub(crate) const TRIGGERS: [&'static str; 2] = ["\"anykv tell\"", "\"anykv tell truncate\""];

    /// A number of the table's own among those of the database.
    pub(crate) fn number(&self) -> i32 {
        crc32c::crc32c(self.qualified().as_bytes()).cast_signed()
    }

    /// The channel of the table's notifications: short, as longer names are cut.
    pub(crate) fn channel(&self) -> String {
        let name = self.qualified();
        let hash = name
            .bytes()
            .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
        format!("anykv_{hash:016x}")
    }
}

/// Makes sure that the database can hold the table, and that the table is there and ours.
///
/// # Errors
/// `Invalid` for a database or a server that cannot be used, `Corrupt` for a table that is none of ours, `Denied`.
pub(crate) async fn prepare(client: &Client, table: &Table, sync: SyncMode) -> Result<()> {
    check_server(client).await?;
    if is_set_up(client, table).await? {
        return Ok(());
    }
    // One after another: a name that two sessions create at once fails for one of them, `IF NOT EXISTS` or not. Each waits for
    // those before it as long as opening may take, however short the wait for a row is.
    let locked = format!(
        "BEGIN ISOLATION LEVEL READ COMMITTED; SET LOCAL lock_timeout = 0; \
         SELECT pg_advisory_xact_lock({SCHEMA_LOCK}, 0)"
    );
    let created = async {
        client.batch_execute(&locked).await.map_err(read)?;
        if !is_set_up(client, table).await? {
            client.batch_execute(&creation(table, sync)).await.map_err(read)?;
        }
        client.batch_execute("COMMIT").await.map_err(read)
    };
    let created = created.await;
    if created.is_err() {
        // The first error is what matters.
        let _ = client.batch_execute("ROLLBACK").await;
    }
    created
}

fn read(error: tokio_postgres::Error) -> Error {
    Fault::sent(error).into_error(Effect::None)
}

async fn check_server(client: &Client) -> Result<()> {
    let sql = "SELECT current_setting('server_encoding'), current_setting('server_version_num')::int4";
    let row = client.query_typed_one(sql, &[]).await.map_err(read)?;
    let (encoding, version): (String, i32) = (row.get(0), row.get(1));
    if encoding != "UTF8" {
        return Err(Error::invalid(format!("the database has the encoding {encoding}, and keys need UTF8")));
    }
    if version < 130_000 {
        return Err(Error::invalid("the server is older than PostgreSQL 13"));
    }
    Ok(())
}

async fn is_set_up(client: &Client, table: &Table) -> Result<bool> {
    let sql = "SELECT obj_description(c.oid, 'pg_class') FROM pg_catalog.pg_class c WHERE c.oid = to_regclass($1)";
    let found = client.query_typed_opt(sql, &[(&table.qualified(), Type::TEXT)]).await.map_err(read)?;
    let Some(row) = found else { return Ok(false) };
    let comment: Option<String> = row.get(0);
    match comment.as_deref().and_then(|comment| comment.strip_prefix(MARK)) {
        Some(LAYOUT) => Ok(true),
        Some(other) => Err(Error::corrupt(format!(
            "the table has layout {}, and this version knows layout {LAYOUT} only",
            other.chars().take(20).collect::<String>()
        ))),
        None => Err(Error::corrupt("there is a table of this name, and it is not ours")),
    }
}

fn creation(table: &Table, sync: SyncMode) -> String {
    let (t, schema) = (table.qualified(), &table.schema);
    let (letters, crc, tell) = (table.letters(), table.checksum_function(), table.notify_function());
    let sweep = format!("\"{} sweep\"", table.name);
    let sent = format!("\"{} sent\"", table.name);
    let unlogged = if sync == SyncMode::LosesAllOnCrash { "UNLOGGED " } else { "" };
    let channel = table.channel();
    let [trigger, truncated] = Table::TRIGGERS;
    let mut sql = String::new();
    // `IF NOT EXISTS` asks for the right to create before it looks.
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
        -- Room in each page for the next version of a row, so that an overwrite needs no new entry in an index.
        CREATE {unlogged}TABLE {t} (
            key text COLLATE "C" PRIMARY KEY,
            value bytea NOT NULL,
            version bytea NOT NULL,
            checksum int4 NOT NULL,
            expires_at timestamptz,
            sweep_after timestamptz
        ) WITH (fillfactor = 80, autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_cost_delay = 1);
        CREATE INDEX {sweep} ON {t} (sweep_after) WHERE sweep_after IS NOT NULL;
        COMMENT ON TABLE {t} IS '{MARK}{LAYOUT}';

        CREATE UNLOGGED TABLE IF NOT EXISTS {letters} (
            id bytea PRIMARY KEY,
            payload bytea NOT NULL,
            sent_at timestamptz NOT NULL DEFAULT clock_timestamp()
        );
        CREATE INDEX IF NOT EXISTS {sent} ON {letters} (sent_at);

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

        CREATE OR REPLACE FUNCTION {tell}() RETURNS trigger LANGUAGE plpgsql AS $body$
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
        CREATE TRIGGER {trigger} AFTER INSERT OR UPDATE OR DELETE ON {t} FOR EACH ROW EXECUTE FUNCTION {tell}();
        CREATE TRIGGER {truncated} AFTER TRUNCATE ON {t} FOR EACH STATEMENT EXECUTE FUNCTION {tell}();
        ALTER TABLE {t} DISABLE TRIGGER {trigger};
        ALTER TABLE {t} DISABLE TRIGGER {truncated};
        "#
    );
    sql
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_are_cut_or_need_care_are_refused() {
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
