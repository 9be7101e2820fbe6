//! The command `kv ttl`.

use std::time::Duration;

use anykv::{Clock, Expires, Key, Kv, SystemClock};
use kv_lines::shape::ExpiresAt;
use serde_json::json;

use crate::args::TtlArgs;
use crate::exit::{Answer, Failure};
use crate::output::{self, Output};

pub(crate) async fn run(kv: &Kv, args: &TtlArgs, output: &mut Output) -> Result<Answer, Failure> {
    match args.expiry() {
        Some(expiry) => {
            let exists = kv.store().touch(&args.key, expiry).await?;
            if output.is_json() {
                output.json(&json!({"key": args.key, "touched": exists}))?;
            }
            Ok(answer(&args.key, exists))
        }
        None => print_remaining(kv, &args.key, output).await,
    }
}

async fn print_remaining(kv: &Kv, key: &Key, output: &mut Output) -> Result<Answer, Failure> {
    let expires = kv.store().get(key).await?.map(|entry| entry.expires);
    if output.is_json() {
        output.json(&expires.map(|expires| json!({"key": key, "expires_at": ExpiresAt::from(expires)})))?;
    } else if let Some(expires) = expires {
        output.line(&remaining_text(expires))?;
    }
    Ok(answer(key, expires.is_some()))
}

/// Returns the remaining time to live by the clock of this machine, in whole milliseconds.
fn remaining_text(expires: Expires) -> String {
    match (expires.remaining(SystemClock.now()), expires) {
        (Some(remaining), _) => {
            let remaining = Duration::from_millis(u64::try_from(remaining.as_millis()).unwrap_or(u64::MAX));
            humantime::format_duration(remaining).to_string()
        }
        (None, Expires::Never) => "never".to_owned(),
        (None, _) => "unknown".to_owned(),
    }
}

fn answer(key: &Key, exists: bool) -> Answer {
    if !exists {
        output::message(&format!("no entry under {}", output::quoted(key)));
    }
    Answer::of(exists)
}
