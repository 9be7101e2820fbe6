//! Random scripts, compared with a model of the contract.

use kv_core::Capability;

use crate::case::{Need, cases};
use crate::context::Context;
use crate::failure::Verdict;
use crate::script::{StepKinds, search};

cases! { random, Core:
    plain_steps: "S-1" [Need::KeepsAll] "random reads, writes and deletes, single and in batches, return what the contract says";
    lives: "T-1" [Need::KeepsAll] "random writes with times to live, while time passes, return what the contract says";
    conditions: "S-2" [Need::KeepsAll, Need::Has(Capability::Conditions)] "random conditional writes return what the contract says";
    lists: "L-1" [Need::KeepsAll, Need::Has(Capability::List)] "random writes and lists between random bounds return what the contract says";
    counters: "C-1" [Need::KeepsAll, Need::Has(Capability::Counters)] "random increments among other writes return what the contract says";
    transactions: "X-1" [Need::KeepsAll, Need::Has(Capability::Transactions)] "random transactions among other writes return what the contract says";
    everything: "G-2" [Need::KeepsAll] "random steps of every kind that the store supports return what the contract says";
}

const PLAIN: StepKinds = StepKinds { batches: true, ..StepKinds::NONE };

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

async fn everything(cx: Context) -> Verdict {
    search(&cx, StepKinds::ALL).await
}
