//! Publishing and subscribing.
//!
//! A message is published as a notification of the server. If the message is too large for a notification, a table
//! stores its payload. The text of a notification is `t KEY TEXT` for a message that is UTF-8 text without NUL, `x KEY
//! HEX` for a small message of other bytes, and `l KEY ID` for a message whose payload the table stores. The
//! notification is `m SEAL TRANSACTION` followed by this text; see [`crate::seal`].

use bytes::Bytes;
use kv_core::adapter::Effect;
use kv_core::{Capability, Error, ErrorKind, Key, KeyPrefix, Message, MessageStream, Result, Version};
use tokio_postgres::types::{ToSql, Type};

use crate::listen_request::Need;
use crate::seal::MAX_SEAL_BYTES;
use crate::state::{State, column};
use crate::statement::Sql;

/// The maximum size of a notification's payload in bytes, which the server sets.
const MAX_BYTES: usize = 7_999;

/// A published message, as parsed from its notification.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Published {
    /// The notification contains the message.
    Inline(Message),
    /// The table stores the payload under this id.
    Stored { channel: Key, id: Version },
}

impl Published {
    /// Parses the text of a message. Returns `None` if another version of this crate wrote it.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (kind, rest) = text.split_once(' ')?;
        let (key, rest) = rest.split_once(' ')?;
        let channel = Key::parse_stored(key).ok()?;
        Some(match kind {
            "t" => Self::Inline(Message { channel, payload: Bytes::copy_from_slice(rest.as_bytes()) }),
            "x" => Self::Inline(Message { channel, payload: from_hex(rest)? }),
            "l" => Self::Stored { channel, id: rest.parse().ok()? },
            _ => return None,
        })
    }
}

fn from_hex(text: &str) -> Option<Bytes> {
    let digit = |byte: &u8| char::from(*byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    text.as_bytes()
        .chunks(2)
        .map(|pair| match pair {
            [high, low] => Some(digit(high)? << 4 | digit(low)?),
            _ => None,
        })
        .collect()
}

/// Publishes a message: in a notification if it fits, otherwise in the table.
pub(crate) async fn publish(state: &State, channel: &Key, payload: &Bytes) -> Result<()> {
    state.info.capabilities.require(Capability::Messages)?;
    state.info.limits.check_message(payload.len())?;
    check_tables(state)?;
    let max_payload = MAX_BYTES.saturating_sub(MAX_SEAL_BYTES + channel.as_str().len() + 3);
    let notify_channel = state.table.channel();
    let text = std::str::from_utf8(payload).ok().filter(|text| text.len() <= max_payload && !text.contains('\0'));
    let inline = if let Some(text) = text {
        Some(format!("t {channel} {text}"))
    } else if payload.len() <= max_payload / 2 {
        let hex: String = payload
            .iter()
            .flat_map(|byte| [byte >> 4, byte & 15])
            .filter_map(|digit| char::from_digit(digit.into(), 16))
            .collect();
        Some(format!("x {channel} {hex}"))
    } else {
        None
    };
    let rows = if let Some(text) = inline {
        state.write(&state.sql.publish, &[&notify_channel, &text], Effect::Write(None)).await?
    } else {
        let id = Version::random();
        let (text, id, bytes) = (format!("l {channel} {id}"), id.as_bytes(), payload.as_ref());
        let params: [&(dyn ToSql + Sync); 4] = [&notify_channel, &text, &id, &bytes];
        state.write(&state.sql.publish_stored, &params, Effect::Write(None)).await?
    };
    if rows.is_empty() { Err(missing_secret()) } else { Ok(()) }
}

/// Checks that the tables for messages belong to the owner of the store's table.
///
/// # Errors
/// `Denied`.
pub(crate) fn check_tables(state: &State) -> Result<()> {
    if state.has_message_tables {
        return Ok(());
    }
    Err(Error::new(
        ErrorKind::Denied,
        "the tables for messages are missing or belong to another role: open the store as the owner of its table",
    ))
}

/// Returns the error of a message if the table of the secret has no row.
pub(crate) fn missing_secret() -> Error {
    Error::corrupt("the secret of the messages is missing")
}

/// Subscribes to messages.
pub(crate) async fn subscribe(state: &State, channels: &KeyPrefix) -> Result<MessageStream> {
    state.check_open()?;
    state.info.capabilities.require(Capability::Messages)?;
    check_tables(state)?;
    // The first inbox makes the listener stay connected. The stream reads from a second inbox. The second inbox is
    // created after the listener has delivered all earlier messages, so that it contains none of these messages.
    let first = state.watchers.messages.subscribe(channels.clone());
    state.listen(Need::Messages).await?;
    let inbox = state.watchers.messages.subscribe(channels.clone());
    drop(first);
    Ok(kv_core::deliver(inbox))
}

/// Sends a notification without a seal.
pub(crate) async fn notify(state: &State, channel: &str, payload: &str) -> Result<()> {
    let sql = Sql::new("SELECT pg_notify($1, $2)", &[Type::TEXT, Type::TEXT]);
    state.write(&sql, &[&channel, &payload], Effect::Write(None)).await.map(drop)
}

/// Fetches the payload of a stored message. Returns `None` if it was already deleted.
pub(crate) async fn fetch(state: &State, id: &Version) -> Result<Option<Bytes>> {
    let sql = Sql::new(format!("SELECT payload FROM {} WHERE id = $1", state.table.messages_table()), &[Type::BYTEA]);
    let rows = state.read(&sql, &[&id.as_bytes()]).await?;
    rows.first().map(|row| column(row, 0).map(Bytes::copy_from_slice)).transpose()
}

/// Deletes stored messages that are older than a minute. By then, every subscriber has had time to fetch them.
pub(crate) async fn delete_old(state: &State) -> Result<()> {
    check_tables(state)?;
    let sql = Sql::new(
        format!(
            "DELETE FROM {} WHERE sent_at < (SELECT clock_timestamp() - interval '1 minute')",
            state.table.messages_table()
        ),
        &[],
    );
    state.write(&sql, &[], Effect::Read).await.map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_message_is_parsed_and_an_unknown_kind_is_ignored() {
        let channel = Key::new(["a", "b c"]).unwrap();
        let message = |payload: &[u8]| {
            Some(Published::Inline(Message { channel: channel.clone(), payload: Bytes::copy_from_slice(payload) }))
        };
        assert_eq!(Published::parse(&format!("t {channel} some text ")), message(b"some text "));
        assert_eq!(Published::parse(&format!("t {channel} ")), message(b""));
        assert_eq!(Published::parse(&format!("x {channel} 00ff")), message(&[0, 255]));
        let id = Version::random();
        assert_eq!(Published::parse(&format!("l {channel} {id}")), Some(Published::Stored { channel, id }));
        for text in ["", "t", "t no-space", "x a 0", "x a 0g", "l a b", "? a b", "t $ b"] {
            assert_eq!(Published::parse(text), None, "{text}");
        }
    }
}
