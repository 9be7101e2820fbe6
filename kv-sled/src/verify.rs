//! Verification and export of a store whose files may be damaged.

use std::path::Path;
use std::time::Duration;

use kv_core::{Entry, Error, ErrorKind, Key, Operation, Result, stored};

use crate::clean_marker;
use crate::codec::Physical;
use crate::error::CONTEXT;
use crate::folder::{LOCK_STEP, LOCK_TIMEOUT};
use crate::salvage::{Damage, Files, for_each_record};
use crate::tree_checksum::TreeChecksum;

/// The result of reading the files of a store.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Verification {
    /// The number of readable entries, including expired entries that are not swept yet.
    pub entries: u64,
    /// The number of entries that do not match their checksum.
    pub damaged_entries: u64,
    /// The number of records that the store should have, deadline index included; `None` if the number is unknown.
    pub expected_records: Option<u64>,
    /// The number of records that were found, deadline index included.
    pub records: u64,
    /// The number of unreadable parts of the log.
    pub damaged_log_parts: u64,
    /// The number of unreadable pages of the tree and of unreadable changes of pages.
    pub damaged_pages: u64,
    /// True if no entry is damaged and the records match the stored tree checksum, and also the tree checksum in the
    /// clean-shutdown marker if there is a marker.
    ///
    /// If the field is true and the store was closed, the records are those at closing. If the field is true and the
    /// store crashed, the records are a state that the store once had:
    ///
    /// - Without damaged parts of the log, this is the state after the last acknowledged write. There is one exception:
    ///   if the end of the log was cut off, or its last batch is damaged, the files look as after an earlier crash.
    /// - With damaged parts of the log, this may be an earlier state, or the damage may be in parts that are no longer
    ///   in use.
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
            problems.push(format!("unreadable parts of the log: {damaged_log_parts}"));
        }
        if damaged_pages > 0 {
            problems.push(format!("unreadable pages of the tree: {damaged_pages}"));
        }
        match expected_records {
            Some(expected) if expected != records => {
                problems.push(format!(
                    "{records} records were found, deadline index included, and {expected} were expected"
                ));
            }
            Some(_) if !is_whole => {
                problems.push("the records do not match the tree checksum".to_owned());
            }
            None => problems.push("the tree checksum is missing".to_owned()),
            Some(_) => {}
        }
        Self::new(entries, damaged_entries).with_problems(problems)
    }
}

/// Verifies the files of a store without opening the store. Writes nothing and does not use sled.
///
/// Compares every part with its checksum, and all records with the tree checksum. Reads the log once, and then every
/// page twice. Keeps only the position and the bounds of each page in memory. This function blocks, so call it from a
/// thread that may block.
///
/// # Errors
/// `Invalid` if the path does not exist, is not a folder, or is a folder without a store; `Unavailable` if a store has
/// the folder open; `Corrupt` if the log is missing or has no part of a store; `Denied` and others for errors of the
/// file system. Other damage is part of the result and not an error.
pub fn verify(path: impl AsRef<Path>) -> Result<Verification> {
    export(path, |_, _| Ok(()))
}

/// Verifies as [`verify`], and passes every readable entry to `take`. Use this function to save the data of a store
/// that no longer opens.
///
/// The entries are in key order, unless the files are damaged. Expired entries that are not swept yet are included. If
/// [`Verification::is_whole`] is false, entries may be missing, and there may be old entries that were later
/// overwritten or deleted.
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
/// The errors of [`verify`], and the first error of `take`.
pub fn export(path: impl AsRef<Path>, take: impl FnMut(Key, Entry) -> Result<()>) -> Result<Verification> {
    CONTEXT.operation(Operation::Open, read(path.as_ref(), take))
}

/// Opens the files. If another store has locked them, tries again as opening does: a process that this process is just
/// starting may keep the lock of a closed store for a moment.
fn open_with_retries(path: &Path) -> Result<Files> {
    let mut waited = Duration::ZERO;
    loop {
        match Files::open(path) {
            Err(error) if error.kind() == ErrorKind::Unavailable && waited < LOCK_TIMEOUT => {
                std::thread::park_timeout(LOCK_STEP);
                waited += LOCK_STEP;
            }
            opened => return opened,
        }
    }
}

fn read(path: &Path, mut take: impl FnMut(Key, Entry) -> Result<()>) -> Result<Verification> {
    let files = open_with_retries(path)?;
    let at_closing = clean_marker::read(path);
    let (mut entries, mut damaged_entries, mut actual, mut stored_checksum) = (0, 0, TreeChecksum::default(), None);
    let mut has_foreign = false;
    let damage = for_each_record(&files, |physical, value| {
        match Physical::decode(physical) {
            Physical::Checksum => {
                stored_checksum = Some(TreeChecksum::decode(&value)?);
                return Ok(());
            }
            Physical::Data(key) => {
                actual.add(physical, &value);
                match stored::decode(&key, value.into()) {
                    Ok((entry, _)) => {
                        entries += 1;
                        take(key, entry)?;
                    }
                    Err(_) => damaged_entries += 1,
                }
            }
            Physical::Index(..) | Physical::Padding => actual.add(physical, &value),
            Physical::Foreign => {
                has_foreign = true;
                actual.add(physical, &value);
            }
        }
        Ok(())
    })?;
    let Damage { log_parts: damaged_log_parts, pages: damaged_pages } = damage;
    let expected = at_closing.or(stored_checksum);
    let has_found_nothing = expected.is_none() && entries == 0 && damaged_log_parts == 0 && damaged_pages == 0;
    // Without foreign records, the log may belong to a store and be so truncated that all entries are lost.
    if has_found_nothing && (has_foreign || files.segments()? == 0) {
        return Err(Error::corrupt("the folder holds no part of a store of anykv"));
    }
    Ok(Verification {
        entries,
        damaged_entries,
        expected_records: expected.map(|checksum| checksum.records()),
        records: actual.records(),
        damaged_log_parts,
        damaged_pages,
        is_whole: damaged_entries == 0
            && stored_checksum == Some(actual)
            && at_closing.is_none_or(|at_closing| at_closing == actual),
    })
}
