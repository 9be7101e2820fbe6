//! `kv ttl`

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
            let is_there = kv.store().touch(&args.key, expiry).await?;
            if output.is_json() {
                output.json(&json!({"key": args.key, "touched": is_there}))?;
            }
            Ok(told(&args.key, is_there))
        }
        None => show(kv, &args.key, output).await,
    }
}

async fn show(kv: &Kv, key: &Key, output: &mut Output) -> Result<Answer, Failure> {
    let expires = kv.store().get(key).await?.map(|entry| entry.expires);
    if output.is_json() {
        output.json(&expires.map(|expires| json!({"key": key, "expires_at": ExpiresAt::from(expires)})))?;
    } else if let Some(expires) = expires {
        output.line(&remaining(expires))?;
    }
    Ok(told(key, expires.is_some()))
}

/// The time left on this machine's clock, in whole milliseconds.
fn remaining(expires: Expires) -> String {
    match (expires.remaining(SystemClock.now()), expires) {
        (Some(left), _) => {
            let left = Duration::from_millis(u64::try_from(left.as_millis()).unwrap_or(u64::MAX));
            humantime::format_duration(left).to_string()
        }
        (None, Expires::Never) => "never".to_owned(),
        (None, _) => "unknown".to_owned(),
    }
}

fn told(key: &Key, is_there: bool) -> Answer {
    if !is_there {
        output::message(&format!("no entry under {}", output::quoted(key)));
    }
    Answer::of(is_there)
}
