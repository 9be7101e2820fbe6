//! The command `kv schemes`.

use serde_json::json;

use crate::exit::{Answer, Failure};
use crate::output::Output;

pub(crate) fn run(output: &mut Output) -> Result<Answer, Failure> {
    for scheme in anykv::registry().schemes() {
        if output.is_json() {
            output.json(&json!({"scheme": scheme.name, "usage": scheme.usage}))?;
        } else {
            output.line(&format!("{}:\t{}", scheme.name, scheme.usage))?;
        }
    }
    Ok(Answer::Yes)
}
