//! Seals, which prove that a role with access to the store published a message.
//!
//! PostgreSQL lets every role of a database send notifications on every channel, and receive the notifications of other
//! roles. Therefore a message carries a seal: a keyed hash over its text, the process id of the sending session, and
//! the id of its transaction. The server computes the seal, because behind a pooler the client does not know the
//! session. The key is a secret in a table that only roles with access to the store can read.
//!
//! The server reports the process id of the sender to each listener. Therefore a copy of a message is refused if
//! another session sends the copy. After the sender has disconnected, the operating system may give its process id to a
//! new session. The transaction ids of one process id only increase, so a copy is refused in this case as well: the
//! listener knows the last transaction id of each process id, and the transactions that had ended when it began to
//! listen.

use std::collections::HashMap;

use sha2::{Digest, Sha256};

use crate::schema::Table;

/// The maximum number of senders whose last transaction id is known.
const MAX_SENDERS: usize = 10_000;

/// The maximum number of bytes that a seal adds to a notification: the kind `m`, 32 hexadecimal digits, a transaction
/// id of at most 20 digits, and three spaces.
pub(crate) const MAX_SEAL_BYTES: usize = 56;

/// Returns the SQL text that sends a sealed notification. `$1` is its channel, and `$2` is the text of the message.
///
/// The hash of the secret has an input of constant length, so nobody can derive the seal of another text by appending
/// to a text. The statement costs no transaction id, because the server assigns an id to each transaction with a
/// notification.
pub(crate) fn notify_sql(names: &Table) -> String {
    format!(
        "SELECT pg_notify($1, 'm ' || encode(substr(sha256(s.secret || \
         sha256(convert_to(pg_backend_pid() || ' ' || m.body, 'UTF8'))), 1, 16), 'hex') || ' ' || m.body) \
         FROM (SELECT pg_current_xact_id()::text || ' ' || $2 AS body OFFSET 0) m, {} s",
        names.secret_table()
    )
}

/// Returns the SQL text that reads the secret, and the snapshot of the transactions that have ended.
pub(crate) fn secret_sql(names: &Table) -> String {
    format!("SELECT secret, pg_current_snapshot()::text FROM {}", names.secret_table())
}

/// The transactions that had ended when a connection began to listen for messages.
#[derive(Debug, Default)]
pub(crate) struct Snapshot {
    /// The transaction id from which on no transaction had ended.
    end: u64,
    /// The ids of the transactions below `end` that were still running, in ascending order.
    running: Vec<u64>,
}

impl Snapshot {
    /// Parses the text of a snapshot: `XMIN:XMAX:` followed by the ids of running transactions.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let mut parts = text.splitn(3, ':').skip(1);
        let end = parts.next()?.parse().ok()?;
        let ids = parts.next()?.split(',').filter(|id| !id.is_empty());
        let mut running = ids.map(|id| id.parse().ok()).collect::<Option<Vec<_>>>()?;
        running.sort_unstable();
        Some(Self { end, running })
    }

    fn has_ended(&self, transaction: u64) -> bool {
        transaction < self.end && self.running.binary_search(&transaction).is_err()
    }
}

/// The result of verifying a notification.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Verdict<'n> {
    /// The text of a message that was not received before.
    Authentic(&'n str),
    /// The seal is right, but the sender is no longer known, so this may be a copy.
    Late,
    /// The notification is forged or a copy.
    Refused,
}

/// Verifies the seals of the notifications that one connection receives.
pub(crate) struct Verifier {
    secret: Vec<u8>,
    /// The transactions that had ended when the connection began to listen. A message of such a transaction is a copy,
    /// because the connection cannot receive the original.
    ended: Snapshot,
    /// The last transaction id of each sender, by its process id.
    senders: HashMap<i32, u64>,
    /// The highest transaction id of a sender that was removed from `senders`.
    removed: u64,
}

impl Verifier {
    pub(crate) fn new(secret: &[u8], ended: Snapshot) -> Self {
        Self { secret: secret.to_vec(), ended, senders: HashMap::new(), removed: 0 }
    }

    /// Verifies a notification from the session `process_id`. `sealed` is its payload without the kind.
    pub(crate) fn verify<'n>(&mut self, process_id: i32, sealed: &'n str) -> Verdict<'n> {
        let Some((seal, body)) = sealed.split_once(' ').filter(|(seal, _)| seal.len() == 32) else {
            return Verdict::Refused;
        };
        // The comparison of two numbers takes the same time, whichever digits differ.
        if u128::from_str_radix(seal, 16).ok() != Some(self.seal(process_id, body)) {
            return Verdict::Refused;
        }
        let Some((transaction, text)) = body.split_once(' ') else { return Verdict::Refused };
        let Ok(transaction) = transaction.parse::<u64>() else { return Verdict::Refused };
        match self.senders.get(&process_id) {
            Some(last) if transaction <= *last => return Verdict::Refused,
            None if self.ended.has_ended(transaction) => return Verdict::Refused,
            None if transaction <= self.removed => return Verdict::Late,
            _ => {}
        }
        self.senders.insert(process_id, transaction);
        if self.senders.len() > MAX_SENDERS {
            self.remove_old_senders();
        }
        Verdict::Authentic(text)
    }

    fn seal(&self, process_id: i32, body: &str) -> u128 {
        let inner = Sha256::new().chain_update(process_id.to_string()).chain_update(" ").chain_update(body).finalize();
        let outer = Sha256::new().chain_update(&self.secret).chain_update(inner).finalize();
        outer.iter().take(16).fold(0, |seal, byte| seal << 8 | u128::from(*byte))
    }

    /// Removes the half of the senders whose last messages are the oldest.
    fn remove_old_senders(&mut self) {
        let mut last: Vec<_> = self.senders.values().copied().collect();
        let middle = last.len() / 2;
        let (_, median, _) = last.select_nth_unstable(middle);
        self.removed = self.removed.max(*median);
        self.senders.retain(|_, last| *last > self.removed);
    }
}

impl std::fmt::Debug for Verifier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Verifier").field("senders", &self.senders.len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Seals a message as the server does.
    fn sealed(process_id: i32, transaction: u64, text: &str) -> String {
        let body = format!("{transaction} {text}");
        let seal = Verifier::new(b"secret", Snapshot::default()).seal(process_id, &body);
        format!("{seal:032x} {body}")
    }

    #[test]
    fn the_seal_of_a_message_does_not_change() {
        // From `SELECT encode(substr(sha256('secret' || sha256('7 11 t a text')), 1, 16), 'hex')`.
        assert_eq!(sealed(7, 11, "t a text"), "bd7924b71ab2f44d1072e6dc7a71d220 11 t a text");
    }

    #[test]
    fn the_text_of_a_snapshot_is_parsed() {
        let snapshot = Snapshot::parse("10:20:15,12").unwrap();
        let ended: Vec<_> = (9..22).filter(|id| snapshot.has_ended(*id)).collect();
        assert_eq!(ended, [9, 10, 11, 13, 14, 16, 17, 18, 19]);
        assert!(Snapshot::parse("10:10:").is_some_and(|snapshot| snapshot.has_ended(9) && !snapshot.has_ended(10)));
        for text in ["", "1", "1:2", "1:x:", "1:2:3,x", "1:-2:"] {
            assert!(Snapshot::parse(text).is_none(), "{text}");
        }
    }

    #[test]
    fn a_changed_or_copied_message_is_refused() {
        let mut verifier = Verifier::new(b"secret", Snapshot::parse("8:10:8").unwrap());
        let message = sealed(7, 11, "t a text");
        assert_eq!(verifier.verify(7, &message), Verdict::Authentic("t a text"));
        assert_eq!(verifier.verify(7, &message), Verdict::Refused, "the process id was used again");
        assert_eq!(verifier.verify(8, &message), Verdict::Refused, "another session sent the copy");
        assert_eq!(verifier.verify(8, &sealed(8, 9, "t a text")), Verdict::Refused, "older than the subscription");
        let running = sealed(9, 8, "t a text");
        assert_eq!(verifier.verify(9, &running), Verdict::Authentic("t a text"), "committed after the subscription");
        assert_eq!(verifier.verify(9, &running), Verdict::Refused);
        let changed = sealed(7, 12, "t a text").replace("12 ", "13 ");
        for forged in [changed.as_str(), "", " ", "0 1 t a text", &message[1..], &format!("{:032x}", 0)] {
            assert_eq!(verifier.verify(7, forged), Verdict::Refused, "{forged}");
        }
        assert_eq!(Verifier::new(b"other", Snapshot::default()).verify(7, &message), Verdict::Refused);
    }

    #[test]
    fn the_number_of_known_senders_is_bounded() {
        let mut verifier = Verifier::new(b"secret", Snapshot::default());
        for sender in 1..=30_000 {
            let message = sealed(sender, u64::try_from(sender).unwrap(), "t a b");
            assert!(matches!(verifier.verify(sender, &message), Verdict::Authentic(_)));
            assert!(verifier.senders.len() <= MAX_SENDERS);
        }
        assert_eq!(verifier.verify(1, &sealed(1, 1, "t a b")), Verdict::Late);
        assert_eq!(verifier.verify(30_000, &sealed(30_000, 30_000, "t a b")), Verdict::Refused);
    }
}
