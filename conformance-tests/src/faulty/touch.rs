//! A `touch` that does too much or too little, and a sweeper that goes by an old index.

use std::sync::Arc;
use std::time::SystemTime;

use async_trait::async_trait;
use bytes::Bytes;
use kv_core::{
    Clock, DeleteOptions, Expires, Expiry, Key, KvStore, NewExpiry, Result, SetOptions, SetOutcome, When,
    delegate_store,
};

use super::faults;
use super::kept::Kept;

faults! { touch:
    writes_again: "T-5" "`touch` reads the value and sets it again, which gives it another version"
        ["touch/the_version_stays", "cancel/touch"]
        |inner, _clock| TouchBySet { inner };
    is_always_true: "T-5" "`touch` says that it moved a deadline although there is no entry"
        ["touch/of_nothing", "touch/of_a_deleted_one", "touch/zero", "watch/touch_of_nothing_is_not_reported"]
        |inner, _clock| TouchAnything { inner };
    only_extends: "T-5" "`touch` moves a deadline back, never forward in time to an earlier one"
        ["touch/shorter", "random/lives"]
        |inner, clock| TouchLonger { inner, clock };
    only_shortens: "T-5" "`touch` never moves a deadline away"
        ["touch/longer", "shared/touch_is_seen", "processes/touch_is_seen", "touch/again_and_again", "touch/from_now_on", "touch/never",
         "touch/reads_back"]
        |inner, clock| TouchShorter { inner, clock };
    sweeper_goes_by_an_old_index: "T-6" "the sweeper removes a key by the deadline that it once had, though it was set again since"
        ["sweep/set_again_before", "sweep/set_again_meanwhile", "sweep/touched_before"]
        |inner, clock| OldIndex { inner, clock, index: Kept::default() };
    sweep_counts_the_live: "T-6" "a sweep says that it freed one entry more than there was"
        ["sweep/of_nothing", "sweep/deleted_before", "sweep/leaves_the_live", "sweep/takes_the_expired"]
        |inner, _clock| ProudSweep { inner };
}

#[derive(Debug)]
struct TouchBySet {
    inner: Arc<dyn KvStore>,
}

#[async_trait]
impl KvStore for TouchBySet {
    delegate_store!(self.inner, except touch);

    async fn touch(&self, key: &Key, expiry: NewExpiry) -> Result<bool> {
        let Some(entry) = self.inner.get(key).await? else { return Ok(false) };
        let options = SetOptions::default().with_expiry(expiry.into()).with_when(When::Present);
        Ok(self.inner.set(key, entry.value, &options).await?.is_stored())
    }
}

#[derive(Debug)]
struct TouchAnything {
    inner: Arc<dyn KvStore>,
}

#[async_trait]
impl KvStore for TouchAnything {
    delegate_store!(self.inner, except touch);

    async fn touch(&self, key: &Key, expiry: NewExpiry) -> Result<bool> {
        self.inner.touch(key, expiry).await.map(|_| true)
    }
}

#[derive(Debug)]
struct TouchLonger {
    inner: Arc<dyn KvStore>,
    clock: Arc<dyn Clock>,
}

#[async_trait]
impl KvStore for TouchLonger {
    delegate_store!(self.inner, except touch);

    async fn touch(&self, key: &Key, expiry: NewExpiry) -> Result<bool> {
        let Some(entry) = self.inner.get(key).await? else { return Ok(false) };
        let wanted = match expiry {
            NewExpiry::After(ttl) => self.clock.now().checked_add(ttl),
            NewExpiry::At(moment) => Some(moment),
            _ => None,
        };
        match (entry.expires, wanted) {
            (Expires::At(deadline), Some(wanted)) if wanted < deadline => Ok(true),
            _ => self.inner.touch(key, expiry).await,
        }
    }
}

#[derive(Debug)]
struct OldIndex {
    inner: Arc<dyn KvStore>,
    clock: Arc<dyn Clock>,
    index: Kept<Vec<(SystemTime, Key)>>,
}

#[async_trait]
impl KvStore for OldIndex {
    delegate_store!(self.inner, except set set_many sweep);

    async fn set(&self, key: &Key, value: Bytes, options: &SetOptions) -> Result<SetOutcome> {
        let outcome = self.inner.set(key, value, options).await?;
        let deadline = match options.expiry {
            Expiry::After(ttl) => self.clock.now().checked_add(ttl),
            Expiry::At(moment) => Some(moment),
            _ => None,
        };
        if let (Some(deadline), true) = (deadline, outcome.is_stored()) {
            self.index.lock().push((deadline, key.clone()));
        }
        Ok(outcome)
    }

    async fn sweep(&self) -> Result<u64> {
        let now = self.clock.now();
        let due: Vec<Key> = {
            let mut index = self.index.lock();
            index.extract_if(.., |(deadline, _)| *deadline <= now).map(|(_, key)| key).collect()
        };
        let swept = self.inner.sweep().await?;
        for key in &due {
            let _ = self.inner.delete(key, &DeleteOptions::default()).await?;
        }
        Ok(swept)
    }
}

#[derive(Debug)]
struct ProudSweep {
    inner: Arc<dyn KvStore>,
}

#[async_trait]
impl KvStore for ProudSweep {
    delegate_store!(self.inner, except sweep);

    async fn sweep(&self) -> Result<u64> {
        self.inner.sweep().await.map(|freed| freed + 1)
    }
}

#[derive(Debug)]
struct TouchShorter {
    inner: Arc<dyn KvStore>,
    clock: Arc<dyn Clock>,
}

#[async_trait]
impl KvStore for TouchShorter {
    delegate_store!(self.inner, except touch);

    async fn touch(&self, key: &Key, expiry: NewExpiry) -> Result<bool> {
        let Some(entry) = self.inner.get(key).await? else { return Ok(false) };
        let Expires::At(deadline) = entry.expires else { return self.inner.touch(key, expiry).await };
        let wanted = match expiry {
            NewExpiry::After(ttl) => self.clock.now().checked_add(ttl),
            NewExpiry::At(moment) => Some(moment),
            _ => None,
        };
        if wanted.is_none_or(|wanted| wanted > deadline) { Ok(true) } else { self.inner.touch(key, expiry).await }
    }
}
