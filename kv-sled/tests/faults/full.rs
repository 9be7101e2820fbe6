//! The conformance suite's cases of a full disk, on a file system for each store.

use std::io;
use std::time::Duration;

use conformance_tests::{Fresh, Suite};
use kv_core::{Capabilities, Durability, Error, Survives};
use kv_sled::{CAPABILITIES, SledDurability, SledStore};

use crate::disk::Mount;

/// The number of bytes that the store keeps free.
const RESERVE: u64 = 8 << 20;
/// The number of bytes that are left on a full disk. A write needs the whole reserve, and a delete half of it.
const LEFT: u64 = 6 << 20;

fn mount() -> Option<Mount> {
    Mount::tmpfs("96m")
}

fn full(declared: Capabilities, durability: SledDurability) -> Suite {
    if mount().is_none() {
        // Without the functions that fill a disk, the cases are skipped.
        let refuse = |_| async { Err::<SledStore, _>(Error::unavailable("no permission to mount a file system")) };
        return Suite::new("sled-full", declared, refuse);
    }
    let open = move |mount: &Mount, fresh: Fresh| {
        let builder = SledStore::builder().min_free_bytes(RESERVE).durability(durability).clock(fresh.clock());
        builder.open(mount.path().join("store"))
    };
    let fill = |mount: &mut Mount| {
        let filler = fs4::available_space(mount.path())?.saturating_sub(LEFT);
        std::fs::write(mount.path().join("filler"), vec![1; usize::try_from(filler).unwrap()])
    };
    let free = |mount: &mut Mount| std::fs::write(mount.path().join("filler"), []);
    let start = || mount().ok_or_else(|| io::Error::other("the file system was not mounted"));
    Suite::on_disks("sled-full", declared, start, open, fill, free).with_clock().with_reopen()
}

mod each_write {
    use super::{CAPABILITIES, SledDurability, full};

    conformance_tests::full_disk! { full(CAPABILITIES, SledDurability::Process) }
}

mod interval {
    use super::{CAPABILITIES, Durability, Duration, SledDurability, Survives, full};

    const INTERVAL: Duration = Duration::from_millis(20);

    conformance_tests::full_disk! {
        full(
            CAPABILITIES.with_durability(Durability::surviving(Survives::Process).with_interval(INTERVAL)),
            SledDurability::Interval(INTERVAL),
        )
    }
}
