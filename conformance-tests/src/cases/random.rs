//! Random steps beside a model of the contract.

use kv_core::Capability;

use crate::case::{Need, cases};
use crate::context::Context;
use crate::failure::Verdict;
use crate::script::{Menu, search};

cases! { random, Core:
    plain_steps: "S-1" [Need::KeepsAll] "random reads, writes and deletes, single and in batches, come to what the contract says";
    lives: "T-1" [Need::KeepsAll] "random writes with times to live, while time passes, come to what the contract says";
    conditions: "S-2" [Need::KeepsAll, Need::Has(Capability::Conditions)] "random writes under conditions come to what the contract says";
    lists: "L-1" [Need::KeepsAll, Need::Has(Capability::List)] "random writes and lists between random bounds come to what the contract says";
    counters: "C-1" [Need::KeepsAll, Need::Has(Capability::Counters)] "random increments among other writes come to what the contract says";
    transactions: "X-1" [Need::KeepsAll, Need::Has(Capability::Transactions)] "random transactions among other writes come to what the contract says";
    everything: "G-2" [Need::KeepsAll] "random steps of every kind that the store has come to what the contract says";
}

const PLAIN: Menu = Menu { batches: true, ..Menu::NOTHING };

async fn plain_steps(cx: Context) -> Verdict {
    search(&cx, PLAIN).await
}

async fn lives(cx: Context) -> Verdict {
    search(&cx, Menu { lives: true, touches: true, ..PLAIN }).await
}

async fn conditions(cx: Context) -> Verdict {
    search(&cx, Menu { conditions: true, previous: true, ..PLAIN }).await
}

async fn lists(cx: Context) -> Verdict {
    search(&cx, Menu { lists: true, ..PLAIN }).await
}

async fn counters(cx: Context) -> Verdict {
    search(&cx, Menu { counters: true, lives: true, ..PLAIN }).await
}

async fn transactions(cx: Context) -> Verdict {
    search(&cx, Menu { transactions: true, lives: true, conditions: true, ..PLAIN }).await
}

async fn everything(cx: Context) -> Verdict {
    search(&cx, Menu::ALL).await
}
