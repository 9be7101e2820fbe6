//! The files of a store in sled.

use std::fs;
use std::sync::OnceLock;
use std::time::Duration;

use kv_core::{Expiry, Key, KvStore, SetOptions};
use kv_sled::SledStore;

struct Template {
    folder: tempfile::TempDir,
    log: Vec<u8>,
}

/// The files of a small closed store.
fn template() -> &'static Template {
    static TEMPLATE: OnceLock<Template> = OnceLock::new();
    TEMPLATE.get_or_init(|| {
        let folder = tempfile::tempdir().expect("a folder");
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        runtime.block_on(async {
            let store = SledStore::open(folder.path().join("store")).await.expect("a store");
            let soon = SetOptions::default().with_expiry(Expiry::After(Duration::from_secs(1_000_000)));
            for number in 0..40_u8 {
                let key = Key::new(["k".to_owned(), number.to_string()]).expect("a key");
                let options = if number % 4 == 0 { soon.clone() } else { SetOptions::default() };
                let _ = store.set(&key, vec![number; usize::from(number) * 8].into(), &options).await.expect("a set");
            }
            store.close().await.expect("the store is closed");
        });
        let log = fs::read(folder.path().join("store/db")).expect("a log");
        Template { folder, log }
    })
}

/// Changes bytes in the log of a store: each change is four bytes of the input, three for the offset and one for the
/// new byte. Checks that the export returns only entries that were written.
pub fn sled_files(data: &[u8]) {
    let Template { folder, log } = template();
    let used = log.iter().rposition(|byte| *byte != 0).map_or(log.len(), |last| last + 64).min(log.len());
    let mut log = log.clone();
    for change in data.chunks_exact(4).take(64) {
        let &[high, middle, low, byte] = change else { continue };
        let offset = u32::from_be_bytes([0, high, middle, low]) as usize % used.max(1);
        if let Some(target) = log.get_mut(offset) {
            *target = byte;
        }
    }
    let store = folder.path().join("store");
    fs::write(store.join("db"), &log).expect("a changed log");
    let mut entries = 0;
    let found = kv_sled::export(&store, |key, entry| {
        let number = key.segments().nth(1).and_then(|text| text.parse::<u8>().ok());
        let was_written = number.is_some_and(|number| entry.value == vec![number; usize::from(number) * 8]);
        assert!(was_written, "{key} has a value that was never written");
        entries += 1;
        Ok(())
    });
    if let Ok(found) = found {
        assert_eq!(found.entries, entries);
        assert!(!found.is_whole || entries >= 40 || !data.is_empty(), "an unchanged store lacks entries");
    }
}
