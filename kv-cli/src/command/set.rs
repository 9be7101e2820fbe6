//! The command `kv set`.

use std::io::Read;

use anykv::{Bytes, Expiry, Kv, SetOptions, SetOutcome};
use kv_lines::shape;
use serde_json::json;

use crate::args::{SetArgs, Ttl};
use crate::exit::{Answer, Failure};
use crate::output::{self, Output};

pub(crate) async fn run(kv: &Kv, args: SetArgs, output: &mut Output) -> Result<Answer, Failure> {
    let SetArgs { key, value, literal, ttl, condition } = args;
    let value = read_value(value, literal)?;
    let expiry = match ttl {
        None => kv.default_expiry(),
        Some(Ttl::Never) => Expiry::Never,
        Some(Ttl::Keep) => Expiry::Keep,
        Some(Ttl::After(duration)) => Expiry::After(duration),
    };
    let options = SetOptions::default().with_expiry(expiry).with_when(condition.into());
    match kv.store().set(&key, value, &options).await? {
        SetOutcome::Stored { version, previous: _ } => {
            if output.is_json() {
                output.json(&json!({"outcome": "stored", "version": version}))?;
            } else if let Some(version) = version {
                output.line(&version.to_string())?;
            }
            Ok(Answer::Yes)
        }
        SetOutcome::Refused { current } => {
            if output.is_json() {
                output.json(&json!({"outcome": "refused", "current": current.as_ref().map(shape::Entry::from)}))?;
            }
            let state = if current.is_some() { "there is an entry" } else { "there is no entry" };
            output::message(&format!("refused: {state} under {}", output::quoted(&key)));
            Ok(Answer::No)
        }
    }
}

fn read_value(value: Option<String>, literal: bool) -> Result<Bytes, Failure> {
    match value {
        Some(value) if literal => Ok(value.into()),
        None => read_stdin(),
        Some(value) if value == "-" => read_stdin(),
        Some(value) => match value.strip_prefix('@') {
            Some(file) => std::fs::read(file).map(Bytes::from).map_err(Failure::io(format!("reading `{file}`"))),
            None => Ok(value.into()),
        },
    }
}

fn read_stdin() -> Result<Bytes, Failure> {
    let mut value = Vec::new();
    std::io::stdin().read_to_end(&mut value).map_err(Failure::io("reading stdin"))?;
    Ok(value.into())
}
