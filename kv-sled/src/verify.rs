//! Looking into a folder that may be damaged, and getting out what is readable.

use std::path::Path;

use kv_core::{Entry, Error, Key, Operation, Result, stored};

use crate::codec::Physical;
use crate::ledger::Ledger;
use crate::named::named;
use crate::salvage::{Damage, Files, for_each_record};
use crate::seal;

/// What is in the files of a store.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Verification {
    /// How many entries are readable, those included whose deadline has passed and that were not swept yet.
    pub entries: u64,
    /// How many entries are there, but do not match their checksums.
    pub damaged_entries: u64,
    /// How many records there should be, entries and index together, where that can be told.
    pub expected_records: Option<u64>,
    /// How many records there are.
    pub records: u64,
    /// How many parts of the log could not be read.
    pub damaged_log_parts: u64,
    /// How many pages of the tree, or changes to them, could not be read.
    pub damaged_pages: u64,
    /// Whether what is there adds up to the state in which the store was closed, by its own sum over all records.
    ///
    /// Where it was not closed in order, to a state that it has had. Without damaged parts of the log that is the last one
    /// that was acknowledged, unless the file was cut off at its end or the damage hit its last batch of writes: both look like
    /// a crash. With some, they hit what is not in use any more, or the end of the log, and then it may be an earlier one.
    pub is_whole: bool,
}

impl From<Verification> for kv_core::Verification {
    fn from(found: Verification) -> Self {
        let Verification {
            entries,
            damaged_entries,
            expected_records,
            records,
            damaged_log_parts,
            damaged_pages,
            is_whole,
        } = found;
        let mut problems = Vec::new();
        if damaged_log_parts > 0 {
            problems.push(format!("parts of the log that cannot be read: {damaged_log_parts}"));
        }
        if damaged_pages > 0 {
            problems.push(format!("pages of the tree that cannot be read: {damaged_pages}"));
        }
        match expected_records {
            Some(expected) if expected != records => {
                problems.push(format!("{records} records are there, index included, and {expected} should be"));
            }
            Some(_) if !is_whole => {
                problems.push("the records do not add up to what they should".to_owned());
            }
            None => problems.push("the count of all records is missing".to_owned()),
            Some(_) => {}
        }
        Self::new(entries, damaged_entries).with_problems(problems)
    }
}

/// Looks into a folder without opening it as a store: nothing is written, and nothing of sled is used.
///
/// Every part that is read is compared with its checksum, and the whole with the store's own sum over all records. It
/// reads the log once and every page twice; memory is used for a few words a page. It blocks: call it from a thread that
/// may.
///
/// # Errors
/// `Unavailable` where a store has the folder open; `Corrupt` where it holds nothing of a store; `Denied` and others as the
/// file system says. Damage is no error.
pub fn verify(path: impl AsRef<Path>) -> Result<Verification> {
    export(path, |_, _| Ok(()))
}

/// Gives every readable entry of a folder, and says what [`verify`] says. It is meant for what does not open any more.
///
/// Entries come in key order, as long as the damage has not reached that. Deadlines are not judged: an entry may have
/// expired. Where [`Verification::is_whole`] is not so, an entry may be missing, or be one that was overwritten or deleted later.
///
/// # Examples
/// ```
/// # use kv_core::KvStore;
/// # let folder = tempfile::tempdir()?;
/// # let path = folder.path().join("data");
/// # let rt = tokio::runtime::Builder::new_current_thread().build()?;
/// # rt.block_on(async { kv_sled::SledStore::open(&path).await?.close().await })?;
/// let mut saved = Vec::new();
/// let found = kv_sled::export(&path, |key, entry| {
///     saved.push((key, entry));
///     Ok(())
/// })?;
/// assert!(found.is_whole);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// As [`verify`], and the first error that `take` gives.
pub fn export(path: impl AsRef<Path>, take: impl FnMut(Key, Entry) -> Result<()>) -> Result<Verification> {
    named(Operation::Open, read(path.as_ref(), take))
}

fn read(path: &Path, mut take: impl FnMut(Key, Entry) -> Result<()>) -> Result<Verification> {
    let files = Files::open(path)?;
    let sealed = seal::read(path);
    let (mut entries, mut damaged_entries, mut found, mut ledger) = (0, 0, Ledger::default(), None);
    let damage = for_each_record(&files, |physical, value| {
        match Physical::read(physical) {
            Physical::Ledger => {
                ledger = Some(Ledger::decode(&value)?);
                return Ok(());
            }
            Physical::Data(key) => {
                found.add(physical, &value);
                match stored::decode(&key, value.into()) {
                    Ok((entry, _)) => {
                        entries += 1;
                        take(key, entry)?;
                    }
                    Err(_) => damaged_entries += 1,
                }
            }
            Physical::Index(..) | Physical::Foreign => found.add(physical, &value),
        }
        Ok(())
    })?;
    let Damage { log_parts: damaged_log_parts, pages: damaged_pages } = damage;
    if sealed.or(ledger).is_none() && entries == 0 && damaged_log_parts == 0 && damaged_pages == 0 {
        return Err(Error::corrupt("the folder holds no store of anykv, and nothing of one"));
    }
    Ok(Verification {
        entries,
        damaged_entries,
        expected_records: sealed.or(ledger).map(|ledger| ledger.records()),
        records: found.records(),
        damaged_log_parts,
        damaged_pages,
        is_whole: damaged_entries == 0 && ledger == Some(found) && sealed.is_none_or(|sealed| sealed == found),
    })
}
