//! The SQL of one table, put together once when the store is opened. Only validated names are ever part of it.
//!
//! Each statement says what it needs in itself: names are qualified, and no setting of a session is relied on. An entry whose
//! deadline has passed counts as absent in every condition, by `clock_timestamp()`, which moves on while a statement waits for
//! a row.

use tokio_postgres::types::Type;

use crate::schema::Table;

/// A statement and the types of its parameters, so that it needs no question to the server behind a pooler.
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

/// What a conditional statement asks of the entry that is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Over {
    Present,
    Version,
    Value,
}

/// The statements of a table.
#[derive(Debug)]
pub(crate) struct Statements {
    pub(crate) get: Sql,
    pub(crate) get_many: Sql,
    pub(crate) contains: Sql,
    pub(crate) set: Sql,
    pub(crate) set_keep: Sql,
    pub(crate) set_absent: Sql,
    over: [[Sql; 2]; 3],
    pub(crate) set_relative: Sql,
    pub(crate) set_absolute: Sql,
    pub(crate) delete: Sql,
    delete_over: [Sql; 3],
    pub(crate) delete_many: Sql,
    pub(crate) touch: Sql,
    pub(crate) increment: Sql,
    clear: [Sql; 2],
    pub(crate) sweep: Sql,
    pub(crate) lock: Sql,
    pub(crate) inspect: Sql,
    pub(crate) apply: Sql,
    pub(crate) remove: Sql,
}

/// The columns of an entry, as `codec::entry` reads them.
const COLUMNS: &str = "e.value, e.version, e.checksum, e.expires_at";
const LIVE: &str = "(e.expires_at IS NULL OR e.expires_at > clock_timestamp())";
const FIELDS: &str = "(key, value, version, checksum, expires_at, sweep_after)";

/// A moment rounded up to the millisecond.
fn rounded(moment: &str) -> String {
    format!("date_trunc('milliseconds', {moment} + interval '999 microseconds')")
}

/// The deadline that two parameters mean, the moment and the milliseconds from now.
fn deadline(at: &str, millis: &str) -> String {
    let after = rounded(&format!("clock_timestamp() + {millis}::float8 * interval '1 millisecond'"));
    format!("coalesce({}, {after})", moment(&format!("{at}::timestamptz")))
}

/// A moment as a deadline: rounded up, unless it has come already.
fn moment(at: &str) -> String {
    format!("CASE WHEN {at} > clock_timestamp() THEN {} ELSE {at} END", rounded(at))
}

impl Statements {
    pub(crate) fn new(table: &Table) -> Self {
        let t = table.qualified();
        let deadline_56 = deadline("$5", "$6");
        let write = format!(
            "INSERT INTO {t} AS e {FIELDS} VALUES ($1, $2, $3, $4, {deadline_56}, {deadline_56}) \
             ON CONFLICT (key) DO UPDATE SET value = excluded.value, version = excluded.version, \
             checksum = excluded.checksum, expires_at = {deadline_56}, \
             sweep_after = least(e.sweep_after, {deadline_56})"
        );
        let entry = [Type::TEXT, Type::BYTEA, Type::BYTEA, Type::INT4, Type::TIMESTAMPTZ, Type::INT8];
        let set_keep = format!(
            "INSERT INTO {t} AS e {FIELDS} VALUES ($1, $2, $3, $4, NULL, NULL) \
             ON CONFLICT (key) DO UPDATE SET value = excluded.value, version = excluded.version, \
             checksum = excluded.checksum, \
             expires_at = CASE WHEN e.expires_at <= clock_timestamp() THEN NULL ELSE e.expires_at END"
        );
        Self {
            get: Sql::new(format!("SELECT {COLUMNS} FROM {t} e WHERE e.key = $1 AND {LIVE}"), &[Type::TEXT]),
            get_many: Sql::new(
                format!("SELECT e.key, {COLUMNS} FROM {t} e WHERE e.key = any($1) AND {LIVE}"),
                &[Type::TEXT_ARRAY],
            ),
            contains: Sql::new(format!("SELECT FROM {t} e WHERE e.key = $1 AND {LIVE}"), &[Type::TEXT]),
            set_absent: Sql::new(
                judged(&t, &format!("{write} WHERE e.expires_at <= clock_timestamp() RETURNING true")),
                &entry,
            ),
            set: Sql::new(write, &entry),
            set_keep: Sql::new(set_keep, &entry[..4]),
            over: [Over::Present, Over::Version, Over::Value]
                .map(|over| [false, true].map(|keep| set_over(&t, over, keep))),
            set_relative: set_many(&t, true),
            set_absolute: set_many(&t, false),
            delete: Sql::new(
                format!(
                    "DELETE FROM {t} AS e WHERE e.key = $1 RETURNING {LIVE}, \
                     CASE WHEN $2 THEN e.value END, e.version, e.checksum, e.expires_at"
                ),
                &[Type::TEXT, Type::BOOL],
            ),
            delete_over: [Over::Present, Over::Version, Over::Value].map(|over| delete_over(&t, over)),
            delete_many: Sql::new(
                // Rows are locked in the order of keys, as every statement over several rows does.
                format!(
                    "WITH found AS MATERIALIZED (SELECT e.key FROM {t} e WHERE e.key = any($1) ORDER BY e.key FOR UPDATE) \
                     DELETE FROM {t} AS e USING found WHERE e.key = found.key RETURNING e.key, {LIVE}"
                ),
                &[Type::TEXT_ARRAY],
            ),
            touch: Sql::new(
                format!(
                    "UPDATE {t} AS e SET expires_at = {0}, sweep_after = least(e.sweep_after, {0}) \
                     WHERE e.key = $1 AND {LIVE} RETURNING true",
                    deadline("$2", "$3")
                ),
                &[Type::TEXT, Type::TIMESTAMPTZ, Type::INT8],
            ),
            increment: increment(table),
            clear: [false, true].map(|has_end| clear(&t, has_end)),
            sweep: sweep(&t),
            lock: Sql::new(
                // A row that is not there is put there, long expired, so that it can be locked; one that is there is
                // locked although nothing of it is changed.
                format!(
                    "INSERT INTO {t} AS e {FIELDS} SELECT k, '', '', 0, '-infinity', '-infinity' FROM unnest($1::text[]) AS k \
                     ORDER BY k COLLATE \"C\" ON CONFLICT (key) DO UPDATE SET version = e.version WHERE false"
                ),
                &[Type::TEXT_ARRAY],
            ),
            inspect: Sql::new(
                format!(
                    "WITH n AS MATERIALIZED (SELECT clock_timestamp() AS now) \
                     SELECT n.now, e.key, e.version, CASE WHEN e.key = any($2) THEN e.value END FROM n \
                     LEFT JOIN {t} e ON e.key = any($1) AND (e.expires_at IS NULL OR e.expires_at > n.now)"
                ),
                &[Type::TEXT_ARRAY, Type::TEXT_ARRAY],
            ),
            apply: apply(&t),
            remove: Sql::new(
                format!(
                    "DELETE FROM {t} AS e WHERE e.key = any($1) \
                     AND (NOT e.key = any($2) OR (e.expires_at = '-infinity' AND e.version = ''))"
                ),
                &[Type::TEXT_ARRAY, Type::TEXT_ARRAY],
            ),
        }
    }

    /// A set under a condition on the entry that is there.
    pub(crate) fn set_over(&self, over: Over, keep: bool) -> &Sql {
        let [present, version, value] = &self.over;
        let [anew, kept] = match over {
            Over::Present => present,
            Over::Version => version,
            Over::Value => value,
        };
        if keep { kept } else { anew }
    }

    /// A part of a clear, of a range with an end or without.
    pub(crate) fn clear(&self, has_end: bool) -> &Sql {
        let [open, bounded] = &self.clear;
        if has_end { bounded } else { open }
    }

    /// A delete under a condition on the entry that is there.
    pub(crate) fn delete_over(&self, over: Over) -> &Sql {
        let [present, version, value] = &self.delete_over;
        match over {
            Over::Present => present,
            Over::Version => version,
            Over::Value => value,
        }
    }
}

/// Whether a write was done, and the entry that is there where it was not, as the statement found the table.
fn judged(t: &str, write: &str) -> String {
    format!(
        "WITH done AS ({write}) SELECT EXISTS (SELECT FROM done), c.* FROM (SELECT) one LEFT JOIN LATERAL \
         (SELECT {COLUMNS} FROM {t} e WHERE e.key = $1 AND {LIVE} AND NOT EXISTS (SELECT FROM done)) c ON true"
    )
}

/// The end of a range of keys, as a condition that an index takes: one that depends on the parameter would be looked at row by
/// row, to the end of the table.
pub(crate) const fn end_of_range(has_end: bool) -> &'static str {
    if has_end { "e.key < $2" } else { "$2::text IS NULL" }
}

fn clear(t: &str, has_end: bool) -> Sql {
    let end = end_of_range(has_end);
    let text = format!(
        "WITH found AS MATERIALIZED (SELECT e.key, {LIVE} AS live FROM {t} e \
         WHERE e.key >= $1 AND {end} ORDER BY e.key LIMIT $3 FOR UPDATE), \
         gone AS (DELETE FROM {t} AS e USING found WHERE e.key = found.key RETURNING found.live) \
         SELECT count(*) FILTER (WHERE live), (SELECT count(*) FROM found), \
         (SELECT max(key) FROM found) FROM gone"
    );
    Sql::new(text, &[Type::TEXT, Type::TEXT, Type::INT8])
}

fn condition(over: Over, parameter: &str) -> String {
    match over {
        Over::Present => String::new(),
        Over::Version => format!(" AND e.version = {parameter}"),
        Over::Value => format!(" AND e.value = {parameter}"),
    }
}

fn set_over(t: &str, over: Over, keep: bool) -> Sql {
    let mut types = vec![Type::TEXT, Type::BYTEA, Type::BYTEA, Type::INT4];
    let expiry = if keep {
        String::new()
    } else {
        types.extend([Type::TIMESTAMPTZ, Type::INT8]);
        format!(", expires_at = {0}, sweep_after = least(e.sweep_after, {0})", deadline("$5", "$6"))
    };
    let condition = condition(over, &format!("${}", types.len() + 1));
    if over != Over::Present {
        types.push(Type::BYTEA);
    }
    let write = format!(
        "UPDATE {t} AS e SET value = $2, version = $3, checksum = $4{expiry} \
         WHERE e.key = $1 AND {LIVE}{condition} RETURNING true"
    );
    Sql { text: judged(t, &write), types }
}

fn delete_over(t: &str, over: Over) -> Sql {
    let condition = condition(over, "$3");
    let mut types = vec![Type::TEXT, Type::BOOL];
    if over != Over::Present {
        types.push(Type::BYTEA);
    }
    let text = format!(
        "WITH done AS (DELETE FROM {t} AS e WHERE e.key = $1 AND {LIVE}{condition} RETURNING {COLUMNS}) \
         SELECT true, CASE WHEN $2 THEN e.value END, e.version, e.checksum, e.expires_at FROM done e UNION ALL \
         SELECT false, {COLUMNS} FROM {t} e WHERE e.key = $1 AND {LIVE} AND NOT EXISTS (SELECT FROM done)"
    );
    Sql { text, types }
}

/// Unconditional writes of several keys. One that was relative to now and had to wait for a row counts from when it got it.
fn set_many(t: &str, is_relative: bool) -> Sql {
    let (at, again, column) = if is_relative {
        let now = "statement_timestamp() + b.expiry::float8 * interval '1 millisecond'";
        // Whole milliseconds more, as the deadline was rounded already.
        let waited = "date_trunc('milliseconds', clock_timestamp() - statement_timestamp())";
        (rounded(now), format!("excluded.expires_at + {waited}"), "int8")
    } else {
        (moment("b.expiry"), "excluded.expires_at".to_owned(), "timestamptz")
    };
    let text = format!(
        "INSERT INTO {t} AS e {FIELDS} SELECT b.key, b.value, b.version, b.checksum, {at}, {at} \
         FROM unnest($1::text[], $2::bytea[], $3::bytea[], $4::int4[], $5::{column}[]) \
         AS b(key, value, version, checksum, expiry) ORDER BY b.key COLLATE \"C\" \
         ON CONFLICT (key) DO UPDATE SET value = excluded.value, version = excluded.version, \
         checksum = excluded.checksum, expires_at = {again}, sweep_after = least(e.sweep_after, {again})"
    );
    let last = if is_relative { Type::INT8_ARRAY } else { Type::TIMESTAMPTZ_ARRAY };
    Sql::new(text, &[Type::TEXT_ARRAY, Type::BYTEA_ARRAY, Type::BYTEA_ARRAY, Type::INT4_ARRAY, last])
}

/// The writes of a transaction, over rows that it has locked. What is kept is judged by the moment of the checks, where there
/// are any: what they saw as live is live to the end.
fn apply(t: &str) -> Sql {
    let (anew, kept) = (deadline("b.at", "b.millis"), moment("b.at"));
    let text = format!(
        "UPDATE {t} AS e SET value = b.value, version = b.version, checksum = b.checksum, \
         expires_at = CASE WHEN NOT b.keep THEN {anew} \
         WHEN coalesce(b.at, e.expires_at) <= coalesce($8, clock_timestamp()) THEN NULL ELSE coalesce({kept}, e.expires_at) END, \
         sweep_after = CASE WHEN b.keep AND b.at IS NULL THEN e.sweep_after ELSE least(e.sweep_after, {anew}) END \
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

/// Adds to the decimal text of a counter in exact arithmetic. Nothing is written, and no row comes back, where the value is
/// no counter or the sum fits no `i64`. The clock is asked once for all that a write changes. The checksum goes on over the new text from what it is before it.
fn increment(table: &Table) -> Sql {
    let (t, crc) = (table.qualified(), table.checksum_function());
    let text = "encode(e.value, 'escape')";
    let by = "$2::int8::text";
    let bytes = |number: &str| format!("convert_to({number}, 'UTF8')");
    let anew = deadline("$5", "$6");
    let is_over = "e.expires_at <= clock_timestamp()";
    let statement = format!(
        "INSERT INTO {t} AS e {FIELDS} VALUES ($1, {by_bytes}, $3, {crc}($4, {by_bytes}), {anew}, {anew}) \
         ON CONFLICT (key) DO UPDATE SET (value, version, checksum, expires_at, sweep_after) = \
         (SELECT {sum_bytes}, excluded.version, {crc}($4, {sum_bytes}), \
         CASE WHEN s.is_over THEN {anew} ELSE e.expires_at END, \
         CASE WHEN s.is_over THEN least(e.sweep_after, {anew}) ELSE e.sweep_after END \
         FROM (SELECT n.is_over, \
         ((CASE WHEN n.is_over THEN 0 ELSE {text}::numeric END) + $2::int8)::int8::text AS sum \
         FROM (SELECT {is_over} AS is_over OFFSET 0) n OFFSET 0) s) \
         WHERE {is_over} OR CASE WHEN length(e.value) <= 20 AND {text} ~ '^(0|-?[1-9][0-9]*)$' \
         THEN {text}::numeric BETWEEN -9223372036854775808 AND 9223372036854775807 \
         AND {text}::numeric + $2::int8 BETWEEN -9223372036854775808 AND 9223372036854775807 ELSE false END \
         RETURNING encode(e.value, 'escape')::int8",
        by_bytes = bytes(by),
        sum_bytes = bytes("s.sum"),
    );
    Sql::new(statement, &[Type::TEXT, Type::INT8, Type::BYTEA, Type::INT8, Type::TIMESTAMPTZ, Type::INT8])
}

/// Removes what has expired, a bounded number, and moves the rest of what was due to when it is due. Rows that somebody else
/// holds are left to the next round.
fn sweep(t: &str) -> Sql {
    let text = format!(
        "WITH due AS MATERIALIZED (SELECT e.ctid AS place, e.expires_at, e.expires_at <= clock_timestamp() AS is_over \
         FROM {t} e WHERE e.sweep_after <= (SELECT clock_timestamp()) ORDER BY e.sweep_after LIMIT $1 \
         FOR UPDATE SKIP LOCKED), \
         gone AS (DELETE FROM {t} AS e WHERE e.ctid = any(array(SELECT place FROM due WHERE is_over)) RETURNING true), \
         moved AS (UPDATE {t} AS e SET sweep_after = e.expires_at \
         WHERE e.ctid = any(array(SELECT place FROM due WHERE is_over IS NOT TRUE)) RETURNING true) \
         SELECT (SELECT count(*) FROM gone), (SELECT count(*) FROM due)"
    );
    Sql::new(text, &[Type::INT8])
}
