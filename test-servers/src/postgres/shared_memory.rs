//! What a killed server leaves to the machine: a small segment of System V shared memory, by which it knows itself.

use std::path::Path;
use std::process::Command;

use crate::process::run;

/// Gives it back, where the server of this data folder was killed and nobody uses it any more.
pub(crate) fn forget(data: &Path) {
    let Ok(text) = std::fs::read_to_string(data.join("postmaster.pid")) else { return };
    let lines: Vec<&str> = text.lines().collect();
    let (Some(pid), Some(segment)) = (lines.first(), lines.get(6)) else { return };
    let segments = std::fs::read_to_string("/proc/sysvipc/shm").unwrap_or_default();
    if let Some(id) = abandoned(&segments, pid.trim(), segment) {
        let _ = run(Command::new("ipcrm").args(["-m", id]));
    }
}

/// Its number, when key, number and creator are those of the file and nothing is attached.
fn abandoned<'a>(segments: &'a str, pid: &str, segment: &str) -> Option<&'a str> {
    let mut wanted = segment.split_whitespace();
    let (key, id) = (wanted.next()?.parse::<i64>().ok()?, wanted.next()?);
    segments.lines().find_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let &[line_key, line_id, _mode, _size, creator, _last, attached, ..] = fields.as_slice() else { return None };
        // The file has the key unsigned, the kernel's list signed, or the other way round.
        let same_key = line_key.parse::<i64>().is_ok_and(|line_key| line_key & 0xffff_ffff == key & 0xffff_ffff);
        (same_key && line_id == id && creator == pid && attached == "0").then_some(line_id)
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
    fn only_the_own_and_unused_segment_is_given_back() {
        assert_eq!(abandoned(SEGMENTS, "300", "-1234567  7"), Some("7"));
        assert_eq!(abandoned(SEGMENTS, "300", "4293732729  7"), Some("7"));
        assert_eq!(abandoned(SEGMENTS, "301", "-1234567  7"), None);
        assert_eq!(abandoned(SEGMENTS, "300", "-1234567  6"), None);
        assert_eq!(abandoned(SEGMENTS, "400", "55555  8"), None);
    }
}
