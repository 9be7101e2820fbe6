//! A list of defects that was written before the suite, and the broken stores and cases for each defect, as a table.

use std::fmt::Write;

use conformance_tests::faulty::Fault;

/// The list: each defect with its number, and the broken stores of this crate that have the defect.
const LIST: &[(u32, &str, &[&str])] = &[
    (1, "ignores the time to live", &["expiry/ttl_is_ignored"]),
    (2, "truncates the time to live to whole seconds", &["expiry/ttl_in_whole_seconds"]),
    (3, "a time to live of less than a second never expires", &["expiry/less_than_a_second_is_never"]),
    (4, "mixes seconds and milliseconds", &["expiry/seconds_read_as_milliseconds"]),
    (5, "returns an expired value until it is collected", &["expired/get_returns_it"]),
    (6, "`set` without a time to live keeps the old deadline", &["expiry/set_without_ttl_keeps_the_deadline"]),
    (7, "`set` with a time to live keeps the old deadline", &["expiry/set_with_ttl_keeps_the_deadline"]),
    (8, "`get` extends the deadline", &["expiry/get_extends"]),
    (9, "a conditional `set` drops the time to live", &["expiry/condition_drops_the_ttl"]),
    (10, "the time to live restarts on reopen", &["restart/ttls_restart"]),
    (11, "computes the deadline from a client's clock that is 5 s off", &["expiry/clock_is_five_seconds_ahead"]),
    (12, "computes the deadline from the start of the transaction", &["expiry/counts_from_the_transaction"]),
    (13, "the sweeper deletes entries that were set again", &["touch/sweeper_uses_an_outdated_index"]),
    (14, "a time to live of zero never expires", &["expiry/zero_is_never"]),
    (15, "a huge time to live wraps to the past", &["expiry/huge_wraps_to_the_past"]),
    (16, "joins segments with `:`", &["keys/joined_with_a_colon"]),
    (17, "joins segments with NUL", &["keys/joined_with_nul"]),
    (18, "escapes segments ambiguously", &["keys/escape_is_ambiguous", "keys/escape_collides_with_separator"]),
    (19, "decodes a segment wrongly that ends with the separator", &["keys/list_joins_segments"]),
    (20, "a prefix matches part of a segment", &["list/prefix_matches_half_a_segment"]),
    (21, "LIKE wildcards in keys have an effect", &["list/prefix_is_a_like_pattern"]),
    (22, "glob wildcards in keys have an effect", &["list/prefix_is_a_glob"]),
    (23, "folds case", &["keys/case_is_folded"]),
    (24, "normalises Unicode", &["keys/unicode_is_composed"]),
    (25, "truncates keys at 63 or 255 bytes", &["keys/truncated_at_63_bytes", "keys/truncated_at_255_bytes"]),
    (26, "NUL ends a key or a value", &["keys/nul_ends_a_segment", "values/nul_ends_a_value"]),
    (27, "drops empty segments", &["keys/empty_segments_are_dropped"]),
    (28, "trims trailing spaces", &["keys/spaces_at_the_end_are_trimmed"]),
    (29, "`app` sees `app2`", &["list/clear_removes_neighbours", "watch/watch_of_a_prefix_covers_everything"]),
    (30, "hashes keys and ignores collisions", &["keys/hashed_without_a_check"]),
    (31, "implements a conditional `set` as `get`, then `set`", &["conditions/get_and_then_set"]),
    (32, "the condition Absent fails over an expired entry", &["expired/absent_is_refused"]),
    (33, "compares decoded JSON", &["conditions/values_are_compared_as_json"]),
    (34, "reports stored although no row changed", &["conditions/refusal_is_reported_as_stored"]),
    (35, "versions restart after a `delete`", &["versions/restart_after_a_delete"]),
    (36, "a `delete` leaves a cached copy", &["caches/delete_leaves_a_cached_copy"]),
    (37, "`delete` of an absent key fails", &["singles/delete_of_a_missing_key_fails"]),
    (38, "a read cache is stale", &["caches/reads_are_stale", "caches/replicas_lag"]),
    (39, "acknowledges a write before it is applied", &["concurrency/delete_is_acknowledged_early"]),
    (40, "a plain `set` ignores the lock of conditional writes", &["concurrency/plain_sets_ignore_the_lock"]),
    (41, "loses an update", &["counters/get_and_then_set", "conditions/get_and_then_set"]),
    (42, "`list` is unsorted", &["pages/unsorted"]),
    (43, "`list` returns expired entries", &["expired/list_returns_it"]),
    (44, "pages repeat or skip keys", &["pages/pages_overlap", "pages/pages_go_by_offset"]),
    (45, "`list` returns internal keys", &["pages/shows_internal_keys"]),
    (46, "the bytes of a value change under its reader", &[]),
    (47, "an empty value or null is treated as absent", &["values/empty_is_missing", "values/null_is_missing"]),
    (48, "loses the last write", &["restart/loses_the_last_write"]),
    (49, "part of a transaction survives", &["restart/half_a_transaction"]),
    (
        50,
        "reports a key as absent during an outage",
        &["outage/outage_reads_as_missing", "restart/errors_read_as_missing"],
    ),
    (51, "retries an `increment` that timed out", &["outage/increments_are_retried"]),
    (52, "a watch registers after its call returned", &["watch/registers_late"]),
    (53, "a watch loses events without a gap", &["watch/loss_is_silent"]),
    (54, "a watch reports a write that is then refused", &["watch_reports/refused_sets_are_reported"]),
    (55, "a slow watcher blocks writers", &["watch_reports/slow_watcher_blocks_writers"]),
    (56, "a dropped call breaks its connection", &["concurrency/dropped_calls_keep_their_connection"]),
    (57, "uses another database after a reconnect", &["outage/another_database"]),
    (58, "shows a password", &["info/name_shows_the_url", "info/debug_shows_values"]),
];

/// Kinds of defects that the suite once missed in part, and broken stores of each kind.
const KINDS: &[(&str, &[&str])] = &[
    (
        "a write under a second condition is not reported",
        &[
            "lost_reports/sets_under_a_version",
            "lost_reports/deletes_under_a_version",
            "lost_reports/sets_with_previous",
            "lost_reports/deletes_with_previous",
            "lost_reports/sets_that_keep_the_deadline",
            "lost_reports/sets_of_checked_transactions",
        ],
    ),
    (
        "a watched key that a transaction deletes",
        &["lost_reports/transactions_that_delete_a_watched_key", "watch_moments/deletes_of_a_transaction_come_last"],
    ),
    ("a sweep between a delete and its delivery", &["watch_moments/sweep_drops_unread_removals"]),
    (
        "a write over an expired entry that was not swept",
        &["lost_reports/sets_over_the_expired", "lost_reports/increments_over_the_expired"],
    ),
    (
        "a `set` or a `touch` with a moment that has passed",
        &[
            "lost_reports/sets_in_the_past",
            "lost_reports/touches_to_the_past",
            "moments/past_returns_no_previous",
            "moments/past_in_a_transaction_is_never",
            "moments/past_in_a_batch_is_never",
        ],
    ),
    ("a write while a watch with a snapshot opens", &["watch_moments/registers_after_the_snapshot"]),
    (
        "lists and `clear` after more expired entries than fit into a page",
        &["deep_pages/list_ends_at_expired_records", "deep_pages/clear_ends_at_expired_records"],
    ),
    ("children beyond U+FFFF", &["deep_pages/reversed_prefix_ends_at_ffff", "deep_pages/cleared_prefix_ends_at_ffff"]),
    (
        "long keys with the same beginning",
        &[
            "deep_pages/resumes_after_the_first_512_bytes",
            "deep_pages/sorts_by_the_first_512_bytes",
            "deep_pages/clear_compares_512_bytes",
            "deep_pages/batches_are_joined_by_512_bytes",
        ],
    ),
    (
        "holes at the borders of chunks",
        &[
            "chunks/holes_of_get_many_move_to_the_end",
            "chunks/deleted_keys_are_counted_by_chunk",
            "chunks/refused_items_are_counted_by_chunk",
        ],
    ),
    (
        "transactions of 101 to 1,000 mutations",
        &[
            "chunks/transactions_are_applied_in_hundreds",
            "chunks/later_mutations_are_dropped",
            "chunks/later_checks_are_ignored",
            "chunks/transactions_over_250_keys_are_refused",
        ],
    ),
    ("`Keep` after a delete in one transaction", &["moments/keep_after_a_delete_keeps_the_deadline"]),
    (
        "no sweeper, and expiry by the clock alone",
        &["moments/nothing_sweeps", "watch_moments/expiry_is_reported_by_calls_only"],
    ),
    (
        "a clock late in a second",
        &[
            "moments/carry_of_milliseconds_is_lost",
            "moments/clock_is_rounded_to_seconds",
            "moments/carry_of_a_touch_is_lost",
        ],
    ),
    ("deadlines that are made up", &["refuses/deadlines_are_made_up"]),
    (
        "a failing call disturbs its neighbours",
        &[
            "neighbours/invalid_call_fails_its_batch",
            "neighbours/refused_call_rolls_back_its_batch",
            "moments/failed_increment_drops_the_deadline",
        ],
    ),
    (
        "concurrent `touch`, `Keep`, previous and take",
        &[
            "neighbours/touch_revives_a_deleted_key",
            "neighbours/keep_undoes_a_touch",
            "neighbours/increment_undoes_a_touch",
            "neighbours/previous_is_read_before",
            "neighbours/entry_is_taken_twice",
        ],
    ),
    (
        "ranges of a namespace",
        &[
            "deep_pages/keys_only_lists_include_the_own_key",
            "namespaces/clear_ignores_the_exclusion",
            "lost_reports/own_key_of_a_cleared_prefix",
        ],
    ),
    ("errors without their key", &["neighbours/increment_errors_have_no_key"]),
    (
        "a full disk",
        &[
            "full_disk/dropped_writes_are_acknowledged",
            "full_disk/full_is_unavailable",
            "full_disk/writes_wait_for_room",
            "full_disk/never_recovers",
            "full_disk/writes_without_room_stay_in_memory",
            "full_disk/transactions_stop_halfway",
        ],
    ),
    (
        "openers that disturb other handles",
        &[
            "openers/creation_is_a_race",
            "openers/opening_truncates",
            "openers/newest_handle_takes_over",
            "openers/opening_ends_watches",
        ],
    ),
    ("a page that reads the whole store", &["pages/pages_read_everything"]),
    ("a sweep that frees nothing", &["touch/sweep_only_marks"]),
    (
        "losses behind an allowed gap",
        &["script_reports/writes_behind_a_gap_are_lost", "script_reports/delete_is_reported_as_an_old_gap"],
    ),
    ("false reports beside other handles", &["script_reports/refused_sets_of_other_handles_are_reported"]),
];

/// The numbers of the defects that no broken store has, and the reasons.
const NOT_BUILT: &[(u32, &str)] = &[(46, "Rust's `Bytes` cannot be changed while it is shared, unless by `unsafe`")];

#[test]
fn the_list_is_caught() {
    let mut table = String::from("| | broken store | caught by |\n|---:|---|---|\n");
    let mut caught = 0;
    for (number, defect, stores) in LIST {
        let mut cases = Vec::new();
        for id in *stores {
            let fault =
                Fault::all().find(|fault| fault.id == *id).unwrap_or_else(|| panic!("there is no broken store {id}"));
            cases.push(format!("`{}`", fault.caught_by[0]));
        }
        let reason = NOT_BUILT.iter().find(|(missing, _)| missing == number).map(|(_, why)| *why);
        match (cases.is_empty(), reason) {
            (false, None) => caught += 1,
            (true, Some(why)) => cases.push(format!("not built: {why}")),
            (true, None) => panic!("no broken store has defect {number}, {defect}"),
            (false, Some(_)) => panic!("defect {number}, {defect}, is listed as not built, but a broken store has it"),
        }
        writeln!(table, "| {number} | {defect} | {} |", cases.join(", ")).unwrap();
    }
    // `tests/mutants.rs` shows that the cases of each broken store catch it.
    println!("{table}\n{caught} of {} on the list, {} broken stores in all", LIST.len(), Fault::all().count());
    assert!(LIST.iter().map(|(number, _, _)| *number).eq(1..=58), "the list is incomplete");
    assert_eq!(caught, LIST.len() - NOT_BUILT.len());
}

#[test]
fn the_kinds_are_caught() {
    let mut table = String::from("| kind | broken store | caught by |\n|---|---|---|\n");
    for (kind, stores) in KINDS {
        for id in *stores {
            let fault =
                Fault::all().find(|fault| fault.id == *id).unwrap_or_else(|| panic!("there is no broken store {id}"));
            writeln!(table, "| {kind} | `{id}` | `{}` |", fault.caught_by[0]).unwrap();
        }
    }
    println!("{table}");
    assert!(KINDS.iter().all(|(_, stores)| !stores.is_empty()));
}
