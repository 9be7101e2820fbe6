//! Messages that are not stored: notifications, and beside them a table for those that do not fit.
//!
//! A notification is `t KEY TEXT` for a message that is text, `x KEY HEX` for a small one that is not, and `l KEY ID` for one that
//! lies in the table of letters.

use bytes::Bytes;
use kv_core::{Key, Message, Result, Version};
use tokio_postgres::types::Type;

use crate::error::Effect;
use crate::state::{Core, column};
use crate::statement::Sql;

/// The server takes 7,999 bytes.
const MAX_BYTES: usize = 7_999;

/// What a notification tells of a message.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Posted {
    /// The message itself.
    Message(Message),
    /// Where the message lies.
    Letter { channel: Key, id: Version },
}

impl Posted {
    /// Reads what is behind the kind; `None` for what is not ours.
    pub(crate) fn parse(kind: &str, rest: &str) -> Option<Self> {
        let (key, rest) = rest.split_once(' ')?;
        let channel = Key::parse_stored(key).ok()?;
        Some(match kind {
            "t" => Self::Message(Message { channel, payload: Bytes::copy_from_slice(rest.as_bytes()) }),
            "x" => Self::Message(Message { channel, payload: from_hex(rest)? }),
            "l" => Self::Letter { channel, id: rest.parse().ok()? },
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

/// Sends a message.
pub(crate) async fn publish(core: &Core, channel: &Key, payload: &Bytes) -> Result<()> {
    let room = MAX_BYTES.saturating_sub(channel.as_str().len() + 3);
    let own = core.table.channel();
    let text = std::str::from_utf8(payload).ok().filter(|text| text.len() <= room && !text.contains('\0'));
    if let Some(text) = text {
        return notify(core, &own, &format!("t {channel} {text}")).await;
    }
    if payload.len() <= room / 2 {
        let hex: String = payload
            .iter()
            .flat_map(|byte| [byte >> 4, byte & 15])
            .filter_map(|digit| char::from_digit(digit.into(), 16))
            .collect();
        return notify(core, &own, &format!("x {channel} {hex}")).await;
    }
    let id = Version::random();
    let sql = Sql::new(
        format!(
            "WITH kept AS (INSERT INTO {} (id, payload) VALUES ($1, $2)) SELECT pg_notify($3, $4)",
            core.table.letters()
        ),
        &[Type::BYTEA, Type::BYTEA, Type::TEXT, Type::TEXT],
    );
    let (id_bytes, bytes) = (id.as_bytes(), payload.as_ref());
    core.write(&sql, &[&id_bytes, &bytes, &own, &format!("l {channel} {id}")], Effect::Write(None)).await.map(drop)
}

/// Sends a notification.
pub(crate) async fn notify(core: &Core, channel: &str, payload: &str) -> Result<()> {
    let sql = Sql::new("SELECT pg_notify($1, $2)", &[Type::TEXT, Type::TEXT]);
    core.write(&sql, &[&channel, &payload], Effect::Write(None)).await.map(drop)
}

/// The payload of a letter, where it still lies there.
pub(crate) async fn fetch(core: &Core, id: &Version) -> Result<Option<Bytes>> {
    let sql = Sql::new(format!("SELECT payload FROM {} WHERE id = $1", core.table.letters()), &[Type::BYTEA]);
    let rows = core.read(&sql, &[&id.as_bytes()]).await?;
    rows.first().map(|row| column(row, 0).map(Bytes::copy_from_slice)).transpose()
}

/// Removes letters that every subscriber has had the time to fetch.
pub(crate) async fn forget_old(core: &Core) -> Result<()> {
    let sql = Sql::new(
        format!(
            "DELETE FROM {} WHERE sent_at < (SELECT clock_timestamp() - interval '1 minute')",
            core.table.letters()
        ),
        &[],
    );
    core.write(&sql, &[], Effect::None).await.map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_posted_is_read() {
        let channel = Key::new(["a", "b c"]).unwrap();
        let message = |payload: &[u8]| {
            Some(Posted::Message(Message { channel: channel.clone(), payload: Bytes::copy_from_slice(payload) }))
        };
        assert_eq!(Posted::parse("t", &format!("{channel} some text ")), message(b"some text "));
        assert_eq!(Posted::parse("t", &format!("{channel} ")), message(b""));
        assert_eq!(Posted::parse("x", &format!("{channel} 00ff")), message(&[0, 255]));
        let id = Version::random();
        assert_eq!(Posted::parse("l", &format!("{channel} {id}")), Some(Posted::Letter { channel, id }));
        for (kind, rest) in [("t", "no-space"), ("x", "a 0"), ("x", "a 0g"), ("l", "a b"), ("?", "a b"), ("t", "$ b")] {
            assert_eq!(Posted::parse(kind, rest), None, "{kind} {rest}");
        }
    }
}
