//! The SQL statements of one table. The statements are built once, when the store is opened, and contain only validated
//! names.
//!
//! Names are qualified with their schema, and no statement depends on a session setting. In every condition an expired
//! entry counts as absent. Conditions use `clock_timestamp()`, because it advances while a statement waits for a row
//! lock.

use tokio_postgres::types::Type;

use crate::schema::Table;
use crate::{seal, sweep};

/// A statement and the types of its parameters. Because the types are known, an unprepared statement needs only one
/// round trip.
#[derive(Debug)]
pub(crate) struct Sql {
    pub(crate) text: String,
    pub(crate) types: Vec<Type>,
}

impl Sql {
    pub(crate) fn new(text: impl Into<String>, types: &[Type]) -> Self {
        Self { text: text.into(), types: types.to_vec() }
    }
}

/// The condition of a conditional write on the live entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Condition {
    Present,
    Version,
    Value,
}

/// The statements of a table.
#[derive(Debug)]
pub(crate) struct Statements {
    pub(crate) get: Sql,
    pub(crate) get_unless: Sql,
    pub(crate) get_many: Sql,
    pub(crate) contains: Sql,
    pub(crate) set: Sql,
    pub(crate) set_keep: Sql,
    pub(crate) set_absent: Sql,
    set_if: [[Sql; 2]; 3],
    set_unchanged: [Sql; 2],
    pub(crate) set_relative: Sql,
    pub(crate) set_absolute: Sql,
    pub(crate) delete: Sql,
    delete_if: [Sql; 3],
    pub(crate) delete_many: Sql,
    pub(crate) touch: Sql,
    pub(crate) increment: Sql,
    clear: [Sql; 2],
    pub(crate) sweep: Sql,
    pub(crate) lock: Sql,
    pub(crate) inspect: Sql,
    pub(crate) apply: Sql,
    pub(crate) remove: Sql,
    pub(crate) publish: Sql,
    pub(crate) publish_stored: Sql,
}

/// The columns of an entry, in the order that `codec::entry` expects.
const COLUMNS: &str = "e.value, e.version, e.checksum, e.expires_at";
/// The condition that an entry is live.
const LIVE: &str = "(e.expires_at IS NULL OR e.expires_at > clock_timestamp())";
/// The deadline as `codec::entry` reads it: in whole milliseconds, and null after the year 9999.
const SHOWN_DEADLINE: &str =
    "CASE WHEN e.expires_at < '10000-01-01 00:00:00+00' THEN date_trunc('milliseconds', e.expires_at) END";
/// The columns of an `INSERT`.
const FIELDS: &str = "(key, value, version, checksum, expires_at, sweep_after)";

/// Returns the SQL expression for a moment, rounded up to the millisecond.
fn rounded(moment: &str) -> String {
    format!("date_trunc('milliseconds', {moment} + interval '999 microseconds')")
}

/// Returns the SQL expression for a deadline from two parameters: the moment `at`, or `millis` milliseconds from now.
fn deadline(at: &str, millis: &str) -> String {
    let after = rounded(&format!("clock_timestamp() + {millis}::float8 * interval '1 millisecond'"));
    format!("coalesce({}, {after})", moment(&format!("{at}::timestamptz")))
}

/// Returns the SQL expression for a deadline at the moment `at`. Only a future moment is rounded up, because a past
/// moment must stay in the past.
fn moment(at: &str) -> String {
    format!("CASE WHEN {at} > clock_timestamp() THEN {} ELSE {at} END", rounded(at))
}

impl Statements {
    pub(crate) fn new(names: &Table) -> Self {
        let table = names.qualified();
        let new_deadline = deadline("$5", "$6");
        let write = format!(
            "INSERT INTO {table} AS e {FIELDS} VALUES ($1, $2, $3, $4, {new_deadline}, {new_deadline}) \
             ON CONFLICT (key) DO UPDATE SET value = excluded.value, version = excluded.version, \
             checksum = excluded.checksum, expires_at = {new_deadline}, \
             sweep_after = least(e.sweep_after, {new_deadline})"
        );
        let entry = [Type::TEXT, Type::BYTEA, Type::BYTEA, Type::INT4, Type::TIMESTAMPTZ, Type::INT8];
        let set_keep = format!(
            "INSERT INTO {table} AS e {FIELDS} VALUES ($1, $2, $3, $4, NULL, NULL) \
             ON CONFLICT (key) DO UPDATE SET value = excluded.value, version = excluded.version, \
             checksum = excluded.checksum, \
             expires_at = CASE WHEN e.expires_at <= clock_timestamp() THEN NULL ELSE e.expires_at END"
        );
        Self {
            get: Sql::new(format!("SELECT {COLUMNS} FROM {table} e WHERE e.key = $1 AND {LIVE}"), &[Type::TEXT]),
            get_unless: Sql::new(
                format!(
                    "SELECT CASE WHEN e.version <> $2 THEN e.value END, e.version, e.checksum, e.expires_at, \
                     e.version = $2 FROM {table} e WHERE e.key = $1 AND {LIVE}"
                ),
                &[Type::TEXT, Type::BYTEA],
            ),
            get_many: Sql::new(
                format!("SELECT e.key, {COLUMNS} FROM {table} e WHERE e.key = any($1) AND {LIVE}"),
                &[Type::TEXT_ARRAY],
            ),
            contains: Sql::new(format!("SELECT FROM {table} e WHERE e.key = $1 AND {LIVE}"), &[Type::TEXT]),
            set_absent: Sql::new(
                with_current(&table, &format!("{write} WHERE e.expires_at <= clock_timestamp() RETURNING true")),
                &entry,
            ),
            set: Sql::new(write, &entry),
            set_keep: Sql::new(set_keep, &entry[..4]),
            set_if: [Condition::Present, Condition::Version, Condition::Value]
                .map(|condition| [false, true].map(|keep| set_if(&table, condition, keep))),
            set_unchanged: [false, true].map(|keep| set_unchanged(&table, keep)),
            set_relative: set_many(&table, true),
            set_absolute: set_many(&table, false),
            delete: Sql::new(
                format!(
                    "DELETE FROM {table} AS e WHERE e.key = $1 RETURNING {LIVE}, \
                     CASE WHEN $2 THEN e.value END, e.version, e.checksum, e.expires_at"
                ),
                &[Type::TEXT, Type::BOOL],
            ),
            delete_if: [Condition::Present, Condition::Version, Condition::Value]
                .map(|condition| delete_if(&table, condition)),
            delete_many: Sql::new(
                // Every statement over several rows locks the rows in the order of their keys. This prevents deadlocks.
                format!(
                    "WITH found AS MATERIALIZED (SELECT e.key FROM {table} e WHERE e.key = any($1) ORDER BY e.key FOR UPDATE) \
                     DELETE FROM {table} AS e USING found WHERE e.key = found.key RETURNING e.key, {LIVE}"
                ),
                &[Type::TEXT_ARRAY],
            ),
            touch: Sql::new(
                format!(
                    "UPDATE {table} AS e SET expires_at = {0}, sweep_after = least(e.sweep_after, {0}) \
                     WHERE e.key = $1 AND {LIVE} RETURNING true",
                    deadline("$2", "$3")
                ),
                &[Type::TEXT, Type::TIMESTAMPTZ, Type::INT8],
            ),
            increment: increment(names),
            clear: [false, true].map(|has_end| clear(&table, has_end)),
            sweep: sweep::statement(&table),
            lock: Sql::new(
                // Inserts a placeholder, which is an expired row, for each absent key, so that the key can be locked.
                // `DO UPDATE … WHERE false` locks an existing row without changing it.
                format!(
                    "INSERT INTO {table} AS e {FIELDS} SELECT k, '', '', 0, '-infinity', '-infinity' FROM unnest($1::text[]) AS k \
                     ORDER BY k COLLATE \"C\" ON CONFLICT (key) DO UPDATE SET version = e.version WHERE false"
                ),
                &[Type::TEXT_ARRAY],
            ),
            inspect: Sql::new(
                format!(
                    "WITH n AS MATERIALIZED (SELECT clock_timestamp() AS now) \
                     SELECT n.now, e.key, e.version, CASE WHEN e.key = any($2) THEN e.value END FROM n \
                     LEFT JOIN {table} e ON e.key = any($1) AND (e.expires_at IS NULL OR e.expires_at > n.now)"
                ),
                &[Type::TEXT_ARRAY, Type::TEXT_ARRAY],
            ),
            apply: apply(&table),
            remove: Sql::new(
                format!(
                    "DELETE FROM {table} AS e WHERE e.key = any($1) \
                     AND (NOT e.key = any($2) OR (e.expires_at = '-infinity' AND e.version = ''))"
                ),
                &[Type::TEXT_ARRAY, Type::TEXT_ARRAY],
            ),
            publish: Sql::new(seal::notify_sql(names), &[Type::TEXT, Type::TEXT]),
            publish_stored: Sql::new(
                format!(
                    "WITH inserted AS (INSERT INTO {} (id, payload) VALUES ($3, $4)) {}",
                    names.messages_table(),
                    seal::notify_sql(names)
                ),
                &[Type::TEXT, Type::TEXT, Type::BYTEA, Type::BYTEA],
            ),
        }
    }

    /// Returns the statement of a conditional set. If `keep`, the entry keeps its deadline.
    pub(crate) fn set_if(&self, condition: Condition, keep: bool) -> &Sql {
        let [present, version, value] = &self.set_if;
        let [new_deadline, kept_deadline] = match condition {
            Condition::Present => present,
            Condition::Version => version,
            Condition::Value => value,
        };
        if keep { kept_deadline } else { new_deadline }
    }

    /// Returns the statement of a set of an entry that has the version and the deadline with which it was read. If `keep`,
    /// the entry keeps its deadline.
    pub(crate) fn set_unchanged(&self, keep: bool) -> &Sql {
        let [new_deadline, kept_deadline] = &self.set_unchanged;
        if keep { kept_deadline } else { new_deadline }
    }

    /// Returns the statement of a clear for a range with or without an end.
    pub(crate) fn clear(&self, has_end: bool) -> &Sql {
        let [open, bounded] = &self.clear;
        if has_end { bounded } else { open }
    }

    /// Returns the statement of a conditional delete.
    pub(crate) fn delete_if(&self, condition: Condition) -> &Sql {
        let [present, version, value] = &self.delete_if;
        match condition {
            Condition::Present => present,
            Condition::Version => version,
            Condition::Value => value,
        }
    }
}

/// Returns a statement that runs `write`, and returns true if `write` wrote a row. Otherwise the statement returns
/// false and the live entry that it found at its start.
fn with_current(table: &str, write: &str) -> String {
    format!(
        "WITH done AS ({write}) SELECT EXISTS (SELECT FROM done), c.* FROM (SELECT) one LEFT JOIN LATERAL \
         (SELECT {COLUMNS} FROM {table} e WHERE e.key = $1 AND {LIVE} AND NOT EXISTS (SELECT FROM done)) c ON true"
    )
}

/// Returns the condition that a key is before the end of a range.
///
/// The function has two SQL texts. An index scan stops at the end of the range only if the condition is a plain
/// comparison. A single text with `OR` would be a filter on every row up to the end of the table.
pub(crate) const fn end_of_range(has_end: bool) -> &'static str {
    if has_end { "e.key < $2" } else { "$2::text IS NULL" }
}

fn clear(table: &str, has_end: bool) -> Sql {
    let end = end_of_range(has_end);
    let text = format!(
        "WITH found AS MATERIALIZED (SELECT e.key, {LIVE} AS live FROM {table} e \
         WHERE e.key >= $1 AND {end} ORDER BY e.key LIMIT $3 FOR UPDATE), \
         removed AS (DELETE FROM {table} AS e USING found WHERE e.key = found.key RETURNING found.live) \
         SELECT count(*) FILTER (WHERE live), (SELECT count(*) FROM found), \
         (SELECT max(key) FROM found) FROM removed"
    );
    Sql::new(text, &[Type::TEXT, Type::TEXT, Type::INT8])
}

/// Returns the text that adds a condition to a `WHERE` clause.
fn condition_sql(condition: Condition, parameter: &str) -> String {
    match condition {
        Condition::Present => String::new(),
        Condition::Version => format!(" AND e.version = {parameter}"),
        Condition::Value => format!(" AND e.value = {parameter}"),
    }
}

fn set_if(table: &str, condition: Condition, keep: bool) -> Sql {
    set_where(table, keep, |number| match condition {
        Condition::Present => (String::new(), vec![]),
        Condition::Version | Condition::Value => (condition_sql(condition, &format!("${number}")), vec![Type::BYTEA]),
    })
}

/// `touch` keeps the version, so the version alone does not show that an entry is unchanged.
fn set_unchanged(table: &str, keep: bool) -> Sql {
    set_where(table, keep, |number| {
        let version = condition_sql(Condition::Version, &format!("${number}"));
        let text = format!("{version} AND {SHOWN_DEADLINE} IS NOT DISTINCT FROM ${}", number + 1);
        (text, vec![Type::BYTEA, Type::TIMESTAMPTZ])
    })
}

/// Returns the statement that overwrites a live entry on a further condition. `only_if` gets the number of the next
/// parameter, and returns the text of the condition and the types of its parameters.
fn set_where(table: &str, keep: bool, only_if: impl FnOnce(usize) -> (String, Vec<Type>)) -> Sql {
    let mut types = vec![Type::TEXT, Type::BYTEA, Type::BYTEA, Type::INT4];
    let expiry = if keep {
        String::new()
    } else {
        types.extend([Type::TIMESTAMPTZ, Type::INT8]);
        format!(", expires_at = {0}, sweep_after = least(e.sweep_after, {0})", deadline("$5", "$6"))
    };
    let (only_if, more_types) = only_if(types.len() + 1);
    types.extend(more_types);
    let write = format!(
        "UPDATE {table} AS e SET value = $2, version = $3, checksum = $4{expiry} \
         WHERE e.key = $1 AND {LIVE}{only_if} RETURNING true"
    );
    Sql { text: with_current(table, &write), types }
}

fn delete_if(table: &str, condition: Condition) -> Sql {
    let only_if = condition_sql(condition, "$3");
    let mut types = vec![Type::TEXT, Type::BOOL];
    if condition != Condition::Present {
        types.push(Type::BYTEA);
    }
    let text = format!(
        "WITH done AS (DELETE FROM {table} AS e WHERE e.key = $1 AND {LIVE}{only_if} RETURNING {COLUMNS}) \
         SELECT true, CASE WHEN $2 THEN e.value END, e.version, e.checksum, e.expires_at FROM done e UNION ALL \
         SELECT false, {COLUMNS} FROM {table} e WHERE e.key = $1 AND {LIVE} AND NOT EXISTS (SELECT FROM done)"
    );
    Sql { text, types }
}

/// Returns the statement of unconditional writes of several keys. A relative deadline counts from the moment at which
/// the statement got the lock of the row.
fn set_many(table: &str, is_relative: bool) -> Sql {
    let (at, at_conflict, column) = if is_relative {
        let now = "statement_timestamp() + b.expiry::float8 * interval '1 millisecond'";
        // Adds whole milliseconds, because `excluded.expires_at` is already rounded.
        let waited = "date_trunc('milliseconds', clock_timestamp() - statement_timestamp())";
        (rounded(now), format!("excluded.expires_at + {waited}"), "int8")
    } else {
        (moment("b.expiry"), "excluded.expires_at".to_owned(), "timestamptz")
    };
    let text = format!(
        "INSERT INTO {table} AS e {FIELDS} SELECT b.key, b.value, b.version, b.checksum, {at}, {at} \
         FROM unnest($1::text[], $2::bytea[], $3::bytea[], $4::int4[], $5::{column}[]) \
         AS b(key, value, version, checksum, expiry) ORDER BY b.key COLLATE \"C\" \
         ON CONFLICT (key) DO UPDATE SET value = excluded.value, version = excluded.version, \
         checksum = excluded.checksum, expires_at = {at_conflict}, sweep_after = least(e.sweep_after, {at_conflict})"
    );
    let expiry_type = if is_relative { Type::INT8_ARRAY } else { Type::TIMESTAMPTZ_ARRAY };
    Sql::new(text, &[Type::TEXT_ARRAY, Type::BYTEA_ARRAY, Type::BYTEA_ARRAY, Type::INT4_ARRAY, expiry_type])
}

/// Returns the statement that applies a transaction's writes. The transaction has locked the rows already. `$8` is the
/// moment of the checks, or null if there are no checks. An entry that was live at that moment counts as live, so a
/// write can keep the deadline of the entry.
fn apply(table: &str) -> Sql {
    let (new_deadline, kept_moment) = (deadline("b.at", "b.millis"), moment("b.at"));
    let text = format!(
        "UPDATE {table} AS e SET value = b.value, version = b.version, checksum = b.checksum, \
         expires_at = CASE WHEN NOT b.keep THEN {new_deadline} \
         WHEN coalesce(b.at, e.expires_at) <= coalesce($8, clock_timestamp()) THEN NULL ELSE coalesce({kept_moment}, e.expires_at) END, \
         sweep_after = CASE WHEN b.keep AND b.at IS NULL THEN e.sweep_after ELSE least(e.sweep_after, {new_deadline}) END \
         FROM unnest($1::text[], $2::bytea[], $3::bytea[], $4::int4[], $5::timestamptz[], $6::int8[], $7::bool[]) \
         AS b(key, value, version, checksum, at, millis, keep) WHERE e.key = b.key"
    );
    let types = [
        Type::TEXT_ARRAY,
        Type::BYTEA_ARRAY,
        Type::BYTEA_ARRAY,
        Type::INT4_ARRAY,
        Type::TIMESTAMPTZ_ARRAY,
        Type::INT8_ARRAY,
        Type::BOOL_ARRAY,
        Type::TIMESTAMPTZ,
    ];
    Sql::new(text, &types)
}

/// Returns the statement that adds to the decimal text of a counter, in exact arithmetic. If the value is not a counter
/// or the sum does not fit into an `i64`, the statement writes nothing and returns no row. The statement reads the
/// clock once for all columns, so that all columns agree about the expiry. `$4` is the checksum of key and version,
/// which the server extends by the bytes of the new text.
fn increment(names: &Table) -> Sql {
    let (table, crc) = (names.qualified(), names.checksum_function());
    let text = "encode(e.value, 'escape')";
    let by = "$2::int8::text";
    let bytes = |number: &str| format!("convert_to({number}, 'UTF8')");
    let new_deadline = deadline("$5", "$6");
    let is_expired = "e.expires_at <= clock_timestamp()";
    let statement = format!(
        "INSERT INTO {table} AS e {FIELDS} VALUES ($1, {by_bytes}, $3, {crc}($4, {by_bytes}), {new_deadline}, {new_deadline}) \
         ON CONFLICT (key) DO UPDATE SET (value, version, checksum, expires_at, sweep_after) = \
         (SELECT {sum_bytes}, excluded.version, {crc}($4, {sum_bytes}), \
         CASE WHEN s.is_expired THEN {new_deadline} ELSE e.expires_at END, \
         CASE WHEN s.is_expired THEN least(e.sweep_after, {new_deadline}) ELSE e.sweep_after END \
         FROM (SELECT n.is_expired, \
         ((CASE WHEN n.is_expired THEN 0 ELSE {text}::numeric END) + $2::int8)::int8::text AS sum \
         FROM (SELECT {is_expired} AS is_expired OFFSET 0) n OFFSET 0) s) \
         WHERE {is_expired} OR CASE WHEN length(e.value) <= 20 AND {text} ~ '^(0|-?[1-9][0-9]*)$' \
         THEN {text}::numeric BETWEEN -9223372036854775808 AND 9223372036854775807 \
         AND {text}::numeric + $2::int8 BETWEEN -9223372036854775808 AND 9223372036854775807 ELSE false END \
         RETURNING encode(e.value, 'escape')::int8",
        by_bytes = bytes(by),
        sum_bytes = bytes("s.sum"),
    );
    Sql::new(statement, &[Type::TEXT, Type::INT8, Type::BYTEA, Type::INT8, Type::TIMESTAMPTZ, Type::INT8])
}
