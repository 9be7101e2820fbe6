//! The command `kv copy`.

use anykv::{Key, KeyPrefix, ListQuery};
use serde_json::json;

use crate::args::CopyArgs;
use crate::exit::{Answer, Failure};
use crate::interrupt::or_interrupted;
use crate::output::{self, Output};
use crate::progress::Progress;
use crate::transfer;

/// The number of entries between two printed positions.
const POSITION_INTERVAL: u64 = 10_000;

pub(crate) async fn run(args: CopyArgs, output: &mut Output) -> Result<Answer, Failure> {
    let CopyArgs { source, target, prefix, resume_after } = args;
    let registry = anykv::registry();
    let (from, to) = (registry.open_existing(&source).await?, registry.open(&target).await?);
    let mut query = ListQuery::new(prefix.map_or(KeyPrefix::ALL, KeyPrefix::from));
    let mut position = resume_after.clone();
    query.after = resume_after;

    let progress = Progress::counter("copying");
    let mut last_printed = 0;
    let mut on_batch = |key: &Key| {
        position = Some(key.clone());
        if progress.position() - last_printed >= POSITION_INTERVAL {
            last_printed = progress.position();
            progress.suspend(|| print_position(key));
        }
    };
    let copying = transfer::copy(from.store(), to.store(), query, &mut on_batch, &progress);
    let copied = or_interrupted(copying).await;
    progress.finish();
    let closed = (to.store().close().await, from.store().close().await);
    let result = match copied {
        Ok(damaged) => closed.0.and(closed.1).map_err(Failure::from).map(|()| damaged),
        Err(failure) => Err(failure),
    };

    let copied = progress.position();
    if output.is_json() {
        output.json(&json!({"copied": copied, "done": result.is_ok(), "position": position}))?;
    } else {
        output::message(&format!("copied {copied} entries"));
    }
    if let Some(position) = &position {
        print_position(position);
    }
    Failure::check_damaged(result?)?;
    Ok(Answer::Yes)
}

fn print_position(key: &Key) {
    output::message(&format!("all entries up to {} are copied; continue with --resume-after", output::quoted(key)));
}
