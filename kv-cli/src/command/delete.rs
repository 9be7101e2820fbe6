//! The command `kv delete`.

use anykv::{DeleteOptions, DeleteOutcome, Key, Kv, Version, When};
use kv_lines::shape;
use serde_json::json;

use crate::exit::{Answer, Failure};
use crate::output::{self, Output};

pub(crate) async fn run(
    kv: &Kv,
    key: &Key,
    if_version: Option<Version>,
    output: &mut Output,
) -> Result<Answer, Failure> {
    let when = if_version.map_or(When::Always, When::Version);
    let (json, problem) = match kv.store().delete(key, &DeleteOptions::default().with_when(when)).await? {
        DeleteOutcome::Deleted { previous: _ } => (json!({"outcome": "deleted"}), None),
        DeleteOutcome::Missing => (json!({"outcome": "missing"}), Some("no entry")),
        DeleteOutcome::Refused { current } => (
            json!({"outcome": "refused", "current": current.as_ref().map(shape::Entry::from)}),
            Some("refused: no entry with that version"),
        ),
    };
    if output.is_json() {
        output.json(&json)?;
    }
    if let Some(problem) = problem {
        output::message(&format!("{problem} under {}", output::quoted(key)));
    }
    Ok(Answer::of(problem.is_none()))
}
