//! The identity of a server: its run id, which changes with every start.

use redis::Value;

use crate::error::Failure;

/// The run id of a server; empty if the server reports none or the user lacks the right to `INFO`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct ServerId(Option<String>);

impl ServerId {
    /// Returns the run id in the reply to `INFO server`.
    pub(crate) fn from_info(text: &str) -> Self {
        Self(text.lines().find_map(|line| line.strip_prefix("run_id:")).map(|id| id.trim().to_owned()))
    }
}

/// Returns the text of the reply to `INFO`; `None` if the user lacks the right to this command.
pub(crate) fn info_text(reply: Result<Value, Failure>) -> Result<Option<String>, Failure> {
    match reply {
        Ok(Value::BulkString(bytes)) => Ok(Some(String::from_utf8_lossy(&bytes).into_owned())),
        Ok(Value::VerbatimString { text, .. }) => Ok(Some(text)),
        Ok(_) => Ok(None),
        Err(failure) if failure.code() == Some("NOPERM") => Ok(None),
        Err(failure) => Err(failure),
    }
}
