//! Random scripts, compared with a model of the contract.

use kv_core::Capability;

use crate::case::{Need, cases};
use crate::context::Context;
use crate::failure::Verdict;
use crate::script::{StepKinds, search, search_on};

cases! { random, Core:
    plain_steps: "S-1" [Need::KeepsAll] "random reads, writes and deletes, single and in batches, return what the contract says";
    lives: "T-1" [Need::KeepsAll] "random writes with times to live, while time passes, return what the contract says";
    conditions: "S-2" [Need::KeepsAll, Need::Has(Capability::Conditions)] "random conditional writes return what the contract says";
    lists: "L-1" [Need::KeepsAll, Need::Has(Capability::List)] "random writes and lists between random bounds return what the contract says";
    counters: "C-1" [Need::KeepsAll, Need::Has(Capability::Counters)] "random increments among other writes return what the contract says";
    transactions: "X-1" [Need::KeepsAll, Need::Has(Capability::Transactions)] "random transactions among other writes return what the contract says";
    calls_together: "G-2" [Need::KeepsAll] "some order explains the answers of random calls that are started together";
    conditions_together: "S-2" [Need::KeepsAll, Need::Has(Capability::Conditions)] "some order explains the answers of random conditional calls that are started together, including refused calls";
    counters_together: "C-1" [Need::KeepsAll, Need::Has(Capability::Counters)] "some order explains the answers of random increments and other calls that are started together, including failed increments";
    transactions_together: "X-1" [Need::KeepsAll, Need::Has(Capability::Transactions)] "some order explains the answers of random transactions and other calls that are started together";
    lives_together: "S-1" [Need::KeepsAll, Need::Has(Capability::Touch)] "some order explains the deadline after random calls that are started together and set, keep or touch it";
    watches: "W-1" [Need::KeepsAll, Need::Has(Capability::Watch)] "watches report the changes of random steps, and nothing else";
    watches_of_conditions: "W-1" [Need::KeepsAll, Need::Has(Capability::Watch), Need::Has(Capability::Conditions)] "watches report the changes of random conditional writes, and nothing for refused writes";
    watches_of_lives: "W-1" [Need::KeepsAll, Need::Has(Capability::Watch)] "watches report random writes with times to live, touches, increments and expired entries, and nothing else";
    watches_of_transactions: "W-1" [Need::KeepsAll, Need::Has(Capability::Watch), Need::Has(Capability::Transactions)] "watches report the changes of random transactions, and nothing for refused transactions";
    watches_on_two_handles: "W-1" [Need::KeepsAll, Need::SecondHandle, Need::Has(Capability::Watch), Need::Linearizable] "watches report the changes that random steps on two handles make, and nothing else";
    messages: "P-1" [Need::KeepsAll, Need::Has(Capability::Messages)] "subscribers receive the messages of random steps once and in order";
    two_handles: "G-2" [Need::KeepsAll, Need::SecondHandle, Need::Linearizable] "random steps of every kind on two handles in turn return what the contract says";
    everything: "G-2" [Need::KeepsAll] "random steps of every kind that the store supports return what the contract says";
}

const PLAIN: StepKinds = StepKinds { batches: true, ..StepKinds::NONE };
const WATCHED: StepKinds = StepKinds { watches: true, lists: true, ..PLAIN };
const TOGETHER: StepKinds = StepKinds { together: true, ..PLAIN };

async fn plain_steps(cx: Context) -> Verdict {
    search(&cx, PLAIN).await
}

async fn lives(cx: Context) -> Verdict {
    search(&cx, StepKinds { lifetimes: true, touches: true, ..PLAIN }).await
}

async fn conditions(cx: Context) -> Verdict {
    search(&cx, StepKinds { conditions: true, previous: true, ..PLAIN }).await
}

async fn lists(cx: Context) -> Verdict {
    search(&cx, StepKinds { lists: true, ..PLAIN }).await
}

async fn counters(cx: Context) -> Verdict {
    search(&cx, StepKinds { counters: true, lifetimes: true, ..PLAIN }).await
}

async fn transactions(cx: Context) -> Verdict {
    search(&cx, StepKinds { transactions: true, lifetimes: true, conditions: true, ..PLAIN }).await
}

async fn calls_together(cx: Context) -> Verdict {
    search(&cx, TOGETHER).await
}

async fn conditions_together(cx: Context) -> Verdict {
    search(&cx, StepKinds { conditions: true, previous: true, takes: true, ..TOGETHER }).await
}

async fn counters_together(cx: Context) -> Verdict {
    search(&cx, StepKinds { counters: true, conditions: true, ..TOGETHER }).await
}

async fn transactions_together(cx: Context) -> Verdict {
    search(&cx, StepKinds { transactions: true, conditions: true, ..TOGETHER }).await
}

async fn lives_together(cx: Context) -> Verdict {
    search(&cx, StepKinds { lifetimes: true, touches: true, counters: true, ..TOGETHER }).await
}

async fn watches(cx: Context) -> Verdict {
    search(&cx, StepKinds { together: true, ..WATCHED }).await
}

async fn watches_of_conditions(cx: Context) -> Verdict {
    search(&cx, StepKinds { conditions: true, versions: true, takes: true, ..WATCHED }).await
}

async fn watches_of_lives(cx: Context) -> Verdict {
    search(&cx, StepKinds { lifetimes: true, touches: true, counters: true, ..WATCHED }).await
}

async fn watches_of_transactions(cx: Context) -> Verdict {
    search(&cx, StepKinds { transactions: true, conditions: true, ..WATCHED }).await
}

async fn watches_on_two_handles(cx: Context) -> Verdict {
    let handles = [cx.store().clone(), cx.second_handle().await?];
    search_on(&cx, &handles, StepKinds { conditions: true, versions: true, ..WATCHED }).await
}

async fn messages(cx: Context) -> Verdict {
    search(&cx, StepKinds { messages: true, ..PLAIN }).await
}

async fn two_handles(cx: Context) -> Verdict {
    let handles = [cx.store().clone(), cx.second_handle().await?];
    search_on(&cx, &handles, StepKinds::ALL).await
}

async fn everything(cx: Context) -> Verdict {
    search(&cx, StepKinds::ALL).await
}
