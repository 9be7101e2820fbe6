//! The score over the list of broken stores that was written down before the suite, as a table.

use std::fmt::Write;

use conformance_tests::faulty::Fault;

/// Number and defect on the list, and the broken stores of this crate that have it.
const LIST: &[(u32, &str, &[&str])] = &[
    (1, "ignores the time to live", &["expiry/ttl_is_ignored"]),
    (2, "cuts it down to whole seconds", &["expiry/ttl_in_whole_seconds"]),
    (3, "less than a second is never", &["expiry/less_than_a_second_is_never"]),
    (4, "mixes seconds and milliseconds", &["expiry/seconds_read_as_milliseconds"]),
    (5, "gives the value until it is collected", &["ghosts/get"]),
    (6, "set without one keeps the old deadline", &["expiry/overwrite_stays_mortal"]),
    (7, "set with one keeps the old deadline", &["expiry/overwrite_keeps_the_deadline"]),
    (8, "get extends it", &["expiry/get_extends"]),
    (9, "a conditional set drops it", &["expiry/condition_drops_the_ttl"]),
    (10, "starts anew when opened again", &["restart/starts_ttls_anew"]),
    (11, "deadline from a client's clock, 5 s off", &["expiry/clock_is_five_seconds_ahead"]),
    (12, "deadline from the start of the transaction", &["expiry/counts_from_the_transaction"]),
    (13, "the sweeper takes what was set again", &["touch/sweeper_goes_by_an_old_index"]),
    (14, "zero is for ever", &["expiry/zero_is_never"]),
    (15, "a huge one wraps to the past", &["expiry/huge_wraps_to_the_past"]),
    (16, "segments joined with `:`", &["keys/joined_with_a_colon"]),
    (17, "joined with NUL", &["keys/joined_with_nul"]),
    (18, "an escape that is not injective", &["keys/escape_is_ambiguous", "keys/escapes_run_into_separators"]),
    (19, "a segment that ends in the separator reads back wrong", &["keys/reads_back_too_few_segments"]),
    (20, "a prefix matches half a segment", &["list/prefix_matches_half_a_segment"]),
    (21, "LIKE wildcards leak", &["list/prefix_is_a_like_pattern"]),
    (22, "glob wildcards leak", &["list/prefix_is_a_glob"]),
    (23, "folds case", &["keys/case_is_folded"]),
    (24, "normalises Unicode", &["keys/unicode_is_composed"]),
    (25, "cuts keys at 63 or 255 bytes", &["keys/truncated_at_63_bytes", "keys/truncated_at_255_bytes"]),
    (26, "NUL ends a key or a value", &["keys/nul_ends_a_segment", "values/nul_ends_a_value"]),
    (27, "drops empty segments", &["keys/empty_segments_are_dropped"]),
    (28, "trims spaces at the end", &["keys/spaces_at_the_end_are_trimmed"]),
    (29, "`app` sees `app2`", &["list/clear_takes_the_neighbour", "watch/a_prefix_brings_its_neighbours"]),
    (30, "hashes keys without a check", &["keys/hashed_without_a_check"]),
    (31, "a condition is a get and then a set", &["conditions/get_and_then_set"]),
    (32, "absent judges the expired wrongly", &["ghosts/absent"]),
    (33, "compares decoded JSON", &["conditions/values_are_compared_as_json"]),
    (34, "stored, though no row was changed", &["conditions/refusal_is_hidden"]),
    (35, "versions start again after a delete", &["versions/start_again_after_a_delete"]),
    (36, "a delete leaves a cached copy", &["caches/delete_leaves_a_cached_copy"]),
    (37, "deleting what is missing fails", &["singles/delete_of_nothing_fails"]),
    (38, "a read cache is stale", &["caches/reads_are_stale", "caches/replicas_lag"]),
    (39, "acknowledges before it applies", &["concurrency/delete_is_acknowledged_early"]),
    (40, "inserts beside the lock of conditions", &["concurrency/plain_sets_pass_the_lock"]),
    (41, "loses an update", &["counters/get_and_then_set", "conditions/get_and_then_set"]),
    (42, "lists unsorted", &["pages/unsorted"]),
    (43, "lists the expired", &["ghosts/list"]),
    (44, "pages repeat or skip keys", &["pages/pages_overlap", "pages/pages_go_by_offset"]),
    (45, "lists keys of its own", &["pages/shows_internal_keys"]),
    (46, "the bytes of a value change under its reader", &[]),
    (47, "an empty value or null is missing", &["values/empty_is_missing", "values/null_is_missing"]),
    (48, "loses the last write", &["restart/loses_the_last_write"]),
    (49, "half a transaction survives", &["restart/half_a_transaction"]),
    (50, "an outage is an answer", &["outage/absence_is_an_answer", "restart/errors_are_none"]),
    (51, "repeats an increment that timed out", &["outage/increments_are_sent_again"]),
    (52, "a watch registers after it returned", &["watch/registers_late"]),
    (53, "a watch loses without a word", &["watch/loss_is_silent"]),
    (54, "tells of what then does not happen", &["gossip/refusals_are_told"]),
    (55, "a slow watcher blocks writers", &["gossip/a_slow_watcher_blocks_writers"]),
    (56, "a dropped call spoils its connection", &["concurrency/dropped_calls_keep_their_connection"]),
    (57, "another database after it connected again", &["outage/another_database"]),
    (58, "shows a password", &["info/name_shows_the_url", "info/debug_shows_values"]),
];

/// Why a store of the list is not there.
const NOT_BUILT: &[(u32, &str)] = &[(46, "Rust's `Bytes` cannot be changed while it is shared, unless by `unsafe`")];

#[test]
fn the_list_is_caught() {
    let mut table = String::from("| | broken store | caught by |\n|---:|---|---|\n");
    let mut caught = 0;
    for (number, defect, stores) in LIST {
        let mut cases = Vec::new();
        for id in *stores {
            let fault = Fault::all().find(|fault| fault.id == *id).unwrap_or_else(|| panic!("there is no fault {id}"));
            cases.push(format!("`{}`", fault.caught_by[0]));
        }
        let excuse = NOT_BUILT.iter().find(|(excused, _)| excused == number).map(|(_, why)| *why);
        match (cases.is_empty(), excuse) {
            (false, None) => caught += 1,
            (true, Some(why)) => cases.push(format!("not built: {why}")),
            (true, None) => panic!("{number}, {defect}: nobody has it"),
            (false, Some(_)) => panic!("{number}, {defect}: it is excused, and there"),
        }
        writeln!(table, "| {number} | {defect} | {} |", cases.join(", ")).unwrap();
    }
    // That each is caught by the case it names is what `tests/mutants.rs` shows.
    println!("{table}\n{caught} of {} on the list, {} broken stores in all", LIST.len(), Fault::all().count());
    assert!(LIST.iter().map(|(number, _, _)| *number).eq(1..=58), "the list is not whole");
    assert_eq!(caught, LIST.len() - NOT_BUILT.len());
}
