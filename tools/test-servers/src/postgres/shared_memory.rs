//! The System V shared memory segment that a killed server leaves.
//!
//! PostgreSQL creates a small segment to detect another server on the same data folder.

use std::path::Path;
use std::process::Command;

use crate::process::run;

/// Removes the segment of the killed server of this data folder. Returns false while a process still uses the segment.
pub(crate) fn release_shared_memory(data: &Path) -> bool {
    let Ok(text) = std::fs::read_to_string(data.join("postmaster.pid")) else { return true };
    let lines: Vec<&str> = text.lines().collect();
    let (Some(pid), Some(segment)) = (lines.first(), lines.get(6)) else { return true };
    let segments = std::fs::read_to_string("/proc/sysvipc/shm").unwrap_or_default();
    match find(&segments, pid.trim(), segment) {
        Some((id, "0")) => run(Command::new("ipcrm").args(["-m", id])).is_ok(),
        Some(_) => false,
        None => true,
    }
}

/// Returns the id of the segment and its number of attached processes. Key, id and creator must equal the values in the
/// file.
fn find<'a>(segments: &'a str, pid: &str, segment: &str) -> Option<(&'a str, &'a str)> {
    let mut wanted = segment.split_whitespace();
    let (key, id) = (wanted.next()?.parse::<i64>().ok()?, wanted.next()?);
    segments.lines().find_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let &[line_key, line_id, _mode, _size, creator, _last, attached, ..] = fields.as_slice() else { return None };
        // The file and the kernel's list may differ in the sign of the key.
        let same_key = line_key.parse::<i64>().is_ok_and(|line_key| line_key & 0xffff_ffff == key & 0xffff_ffff);
        (same_key && line_id == id && creator == pid).then_some((line_id, attached))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEGMENTS: &str = "\
       key      shmid perms                  size  cpid  lpid nattch   uid   gid  cuid  cgid
 -1234567          7   600                    56   300   301      0   101   104   101   104
  55555             8   600                    56   400   401      2   101   104   101   104
";

    #[test]
    fn a_segment_is_found_by_key_id_and_creator() {
        assert_eq!(find(SEGMENTS, "300", "-1234567  7"), Some(("7", "0")));
        assert_eq!(find(SEGMENTS, "300", "4293732729  7"), Some(("7", "0")));
        assert_eq!(find(SEGMENTS, "301", "-1234567  7"), None);
        assert_eq!(find(SEGMENTS, "300", "-1234567  6"), None);
        assert_eq!(find(SEGMENTS, "400", "55555  8"), Some(("8", "2")));
    }
}
