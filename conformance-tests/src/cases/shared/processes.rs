//! One store in two processes: each process sees the writes of the other. The cases are the same as for two handles in
//! one process.

use kv_core::Capability;

use super::handles;
use crate::case::{Need, cases};
use crate::context::Context;
use crate::failure::Verdict;
use crate::history::{Workload, linearizable};

const TWO: Need = Need::SecondProcess;
const CONDITIONS: Need = Need::Has(Capability::Conditions);
const COUNTERS: Need = Need::Has(Capability::Counters);
const LIST: Need = Need::Has(Capability::List);
const MESSAGES: Need = Need::MessagesShared;
const TOUCH: Need = Need::Has(Capability::Touch);
const TRANSACTIONS: Need = Need::Has(Capability::Transactions);
const VERSIONS: Need = Need::Has(Capability::Versions);
const WATCH: Need = Need::WatchShared;

cases! { processes, Shared:
    writes_are_seen_at_once: "G-2" [TWO] "each of two processes reads every acknowledged write of the other process";
    entries_are_the_same: "G-1" [TWO] "two processes return the same value, version and deadline";
    expiry_is_the_same: "T-4" [TWO] "an entry that one of two processes wrote expires for both";
    batches_are_seen: "G-2" [TWO] "a process reads the entries that the other process wrote with `set_many`, and deletes them with `delete_many`";
    lists_are_the_same: "L-1" [TWO, LIST] "two processes list the same entries, and one process clears the entries that the other process wrote";
    touch_is_seen: "T-5" [TWO, TOUCH] "after a `touch` in one process, the other process has the new deadline";
    conditions_hold_across: "S-2" [TWO, CONDITIONS] "a condition is checked against the entry that the other process wrote";
    versions_hold_across: "S-3" [TWO, CONDITIONS, VERSIONS] "a condition on a version from one process holds in the other process, until one of them writes the key";
    one_of_all_creators_wins: "S-4" [TWO, CONDITIONS] "of concurrent sets in two processes with the condition Absent, exactly one is stored";
    swaps_lose_no_update: "S-4" [TWO, CONDITIONS, Need::KeepsAll] "concurrent writers in two processes that use value conditions count exactly";
    increments_are_exact: "C-1" [TWO, COUNTERS, Need::KeepsAll] "concurrent increments in two processes count exactly";
    transactions_hold_across: "X-1" [TWO, TRANSACTIONS] "a transaction in one process checks and changes entries that the other process wrote";
    transactions_lose_no_update: "X-1" [TWO, TRANSACTIONS, Need::KeepsAll] "concurrent transactions in two processes count two keys exactly, and readers see no partial transaction";
    changes_are_heard: "W-1" [TWO, WATCH] "a watcher in one process gets every change of the other process";
    messages_are_heard: "P-2" [TWO, MESSAGES] "a subscriber in one process gets the messages that the other process publishes";
    a_dropped_handle_leaves_the_other: "R-3" [TWO] "dropping the handle of one process affects neither the other process nor any entry";
    histories_are_linearizable: "G-2" [TWO, Need::KeepsAll, Need::Linearizable] "recorded histories in two processes are linearizable: some order explains every answer";
    histories_with_conditions_are_linearizable: "G-2" [TWO, CONDITIONS, Need::KeepsAll, Need::Linearizable] "recorded histories of conditional calls in two processes are linearizable: some order explains every answer";
    histories_of_every_call_are_linearizable: "G-2" [TWO, CONDITIONS, Need::KeepsAll, Need::Linearizable] "recorded histories of all calls in two processes are linearizable, and each transaction is visible as a whole";
    histories_with_expiry_are_linearizable: "T-4" [TWO, CONDITIONS, Need::KeepsAll, Need::Linearizable] "recorded histories of expiring keys in two processes are linearizable: some order explains every answer";
}

/// Runs each case of [`shared`] with its second handle in another process.
macro_rules! across {
    ($($name:ident)+) => {
        $(async fn $name(cx: Context) -> Verdict {
            handles::$name(cx.across_processes()).await
        })+
    };
}

across! {
    writes_are_seen_at_once
    entries_are_the_same
    expiry_is_the_same
    batches_are_seen
    lists_are_the_same
    touch_is_seen
    conditions_hold_across
    versions_hold_across
    one_of_all_creators_wins
    swaps_lose_no_update
    increments_are_exact
    transactions_hold_across
    transactions_lose_no_update
    changes_are_heard
    messages_are_heard
    a_dropped_handle_leaves_the_other
    histories_are_linearizable
    histories_with_conditions_are_linearizable
    histories_with_expiry_are_linearizable
}

async fn histories_of_every_call_are_linearizable(cx: Context) -> Verdict {
    let handles = [cx.store().clone(), cx.clone().across_processes().second_handle().await?];
    linearizable(&cx, &handles, Workload::EVERY_CALL.with_conditions().with_expiry()).await
}
