//! A store that appends each change to a file, and its broken variants.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use bytes::Bytes;
use kv_core::{
    Clock, CommitOutcome, DeleteOptions, DeleteOutcome, Entry, Error, Expires, Expiry, IncrementOptions, Key,
    KeyPrefix, KvStore, NewExpiry, Result, SetItem, SetOptions, SetOutcome, SystemClock, Transaction, Version,
    delegate_store,
};
use kv_memory::MemoryStore;
use tokio::sync::Mutex;

/// The defect of a store, if it has one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    None,
    Buffers,
    AcceptsTornLines,
    SplitsTransactions,
    RestartsTtls,
    RestartsVersions,
    LeavesLock,
    OpensTwice,
    TruncatesBeforeItLocks,
}

/// Entries in memory, and a file with a line for each call that changed entries. A line has a record for each changed
/// key. A line without an end was torn by a kill, and is removed when the store opens.
#[derive(Debug)]
pub(crate) struct FileStore {
    memory: MemoryStore,
    journal: Mutex<Journal>,
    fault: Fault,
}

#[derive(Debug)]
struct Journal {
    file: File,
    buffer: Vec<u8>,
    versions: u64,
}

const RECORD_END: char = '\u{1e}';
const FIELD_END: char = '\t';
/// The time in which a kill may tear a line.
const BETWEEN_WRITES: Duration = Duration::from_millis(2);

impl FileStore {
    pub(crate) async fn open(path: &Path, fault: Fault) -> Result<Self> {
        let marker = path.with_extension("lock");
        if fault == Fault::LeavesLock && File::create_new(&marker).is_err() {
            return Err(Error::unavailable("another process opens the store"));
        }
        let mut file = OpenOptions::new().create(true).append(true).open(path).map_err(|error| failed(&error))?;
        if fault == Fault::TruncatesBeforeItLocks {
            let text = fs::read_to_string(path).map_err(|error| failed(&error))?;
            file.set_len(0).map_err(|error| failed(&error))?;
            lock(&file)?;
            file.write_all(text.as_bytes()).map_err(|error| failed(&error))?;
        } else if fault != Fault::OpensTwice {
            lock(&file)?;
        }
        let text = fs::read_to_string(path).map_err(|error| failed(&error))?;
        let whole = text.rfind('\n').map_or(0, |at| at + 1);
        let end = if fault == Fault::AcceptsTornLines { text.len() } else { whole };
        let memory = MemoryStore::new();
        for line in text[..end].lines() {
            for record in line.split(RECORD_END) {
                apply(&memory, record, fault).await?;
            }
        }
        if end > whole {
            file.write_all(b"\n").map_err(|error| failed(&error))?;
        }
        file.set_len(if end > whole { end as u64 + 1 } else { whole as u64 }).map_err(|error| failed(&error))?;
        if fault == Fault::LeavesLock {
            // Opening a large store takes time.
            SystemClock.sleep(Duration::from_millis(30)).await;
            fs::remove_file(&marker).map_err(|error| failed(&error))?;
        }
        Ok(Self { memory, journal: Mutex::new(Journal { file, buffer: Vec::new(), versions: 0 }), fault })
    }

    /// Appends the current states of these keys.
    async fn append(&self, journal: &mut Journal, keys: &[Key]) -> Result<()> {
        let mut records = Vec::new();
        for key in keys {
            records.push(record(key, self.memory.get(key).await?, self.fault));
        }
        if self.fault == Fault::Buffers {
            journal.buffer.extend(format!("{}\n", records.join(&RECORD_END.to_string())).into_bytes());
            if journal.buffer.len() < 4_096 {
                return Ok(());
            }
            let buffer = std::mem::take(&mut journal.buffer);
            return journal.file.write_all(&buffer).map_err(|error| failed(&error));
        }
        if self.fault == Fault::SplitsTransactions {
            for record in records {
                journal.file.write_all(format!("{record}\n").as_bytes()).map_err(|error| failed(&error))?;
                SystemClock.sleep(BETWEEN_WRITES).await;
            }
            return Ok(());
        }
        let line = format!("{}\n", records.join(&RECORD_END.to_string())).into_bytes();
        let (start, rest) = line.split_at(line.len() / 2);
        journal.file.write_all(start).map_err(|error| failed(&error))?;
        SystemClock.sleep(BETWEEN_WRITES).await;
        journal.file.write_all(rest).map_err(|error| failed(&error))
    }
}

/// Locks the file until the store is closed or the process ends.
fn lock(file: &File) -> Result<()> {
    file.try_lock().map_err(|error| Error::unavailable(format!("another process has the store open: {error}")))
}

fn failed(error: &io::Error) -> Error {
    Error::unavailable(format!("the file failed: {error}"))
}

/// The text of an entry: key, deadline, value.
fn record(key: &Key, entry: Option<Entry>, fault: Fault) -> String {
    let Some(entry) = entry else { return key.as_str().to_owned() };
    let expires = match entry.expires {
        Expires::At(at) if fault == Fault::RestartsTtls => {
            at.duration_since(SystemClock.now()).unwrap_or_default().as_millis().to_string()
        }
        Expires::At(at) => at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_millis().to_string(),
        _ => String::new(),
    };
    format!("{}{FIELD_END}{expires}{FIELD_END}{}", key.as_str(), String::from_utf8_lossy(&entry.value))
}

/// Changes the entries in memory as a record says.
async fn apply(memory: &MemoryStore, record: &str, fault: Fault) -> Result<()> {
    let mut fields = record.splitn(3, FIELD_END);
    let key = Key::parse_stored(fields.next().unwrap_or_default())?;
    let (Some(expires), Some(value)) = (fields.next(), fields.next()) else {
        return memory.delete(&key, &DeleteOptions::default()).await.map(drop);
    };
    let expiry = match expires.parse().map(Duration::from_millis) {
        Ok(ttl) if fault == Fault::RestartsTtls => Expiry::After(ttl),
        Ok(since_epoch) => Expiry::At(SystemTime::UNIX_EPOCH + since_epoch),
        Err(_) => Expiry::Never,
    };
    let options = SetOptions::default().with_expiry(expiry);
    memory.set(&key, Bytes::copy_from_slice(value.as_bytes()), &options).await.map(drop)
}

#[async_trait]
impl KvStore for FileStore {
    delegate_store!(self.memory, except set delete set_many delete_many clear touch increment commit close);

    async fn close(&self) -> Result<()> {
        self.memory.close().await?;
        self.journal.lock().await.file.unlock().map_err(|error| failed(&error))
    }

    async fn set(&self, key: &Key, value: Bytes, options: &SetOptions) -> Result<SetOutcome> {
        let mut journal = self.journal.lock().await;
        let outcome = self.memory.set(key, value, options).await?;
        self.append(&mut journal, std::slice::from_ref(key)).await?;
        match outcome {
            SetOutcome::Stored { previous, .. } if self.fault == Fault::RestartsVersions => {
                journal.versions += 1;
                let version = Some(Version::from_bytes(&journal.versions.to_le_bytes())?);
                Ok(SetOutcome::Stored { version, previous })
            }
            outcome => Ok(outcome),
        }
    }

    async fn delete(&self, key: &Key, options: &DeleteOptions) -> Result<DeleteOutcome> {
        let mut journal = self.journal.lock().await;
        let outcome = self.memory.delete(key, options).await?;
        self.append(&mut journal, std::slice::from_ref(key)).await?;
        Ok(outcome)
    }

    async fn set_many(&self, items: &[SetItem]) -> Vec<Result<SetOutcome>> {
        let mut outcomes = Vec::new();
        for item in items {
            outcomes.push(self.set(&item.key, item.value.clone(), &item.options).await);
        }
        outcomes
    }

    async fn delete_many(&self, keys: &[Key]) -> Vec<Result<DeleteOutcome>> {
        let mut outcomes = Vec::new();
        for key in keys {
            outcomes.push(self.delete(key, &DeleteOptions::default()).await);
        }
        outcomes
    }

    async fn clear(&self, prefix: &KeyPrefix) -> Result<u64> {
        let mut removed = 0;
        let mut query = kv_core::ListQuery::new(prefix.clone()).with_keys_only();
        loop {
            let page = self.memory.list(&query).await?;
            let keys: Vec<Key> = page.items.into_iter().map(|item| item.key).collect();
            for outcome in self.delete_many(&keys).await {
                removed += u64::from(outcome?.is_deleted());
            }
            match page.next {
                Some(next) => query = query.resume(next),
                None => return Ok(removed),
            }
        }
    }

    async fn touch(&self, key: &Key, expiry: NewExpiry) -> Result<bool> {
        let mut journal = self.journal.lock().await;
        let is_live = self.memory.touch(key, expiry).await?;
        self.append(&mut journal, std::slice::from_ref(key)).await?;
        Ok(is_live)
    }

    async fn increment(&self, key: &Key, by: i64, options: &IncrementOptions) -> Result<i64> {
        let mut journal = self.journal.lock().await;
        let number = self.memory.increment(key, by, options).await?;
        self.append(&mut journal, std::slice::from_ref(key)).await?;
        Ok(number)
    }

    async fn commit(&self, transaction: &Transaction) -> Result<CommitOutcome> {
        let mut journal = self.journal.lock().await;
        let outcome = self.memory.commit(transaction).await?;
        let keys: Vec<Key> = transaction.mutations.iter().map(|mutation| mutation.key().clone()).collect();
        self.append(&mut journal, &keys).await?;
        Ok(outcome)
    }
}
