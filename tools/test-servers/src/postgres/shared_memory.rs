//! What a killed server leaves to the machine: a small segment of System V shared memory, by which it knows itself.

use std::path::Path;
use std::process::Command;

use crate::process::run;

/// Gives it back, where the server of this data folder was killed. False while one of its processes still uses it.
pub(crate) fn forget(data: &Path) -> bool {
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

/// Its number and how many are attached, when key, number and creator are those of the file.
fn find<'a>(segments: &'a str, pid: &str, segment: &str) -> Option<(&'a str, &'a str)> {
    let mut wanted = segment.split_whitespace();
    let (key, id) = (wanted.next()?.parse::<i64>().ok()?, wanted.next()?);
    segments.lines().find_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let &[line_key, line_id, _mode, _size, creator, _last, attached, ..] = fields.as_slice() else { return None };
        // The file has the key unsigned, the kernel's list signed, or the other way round.
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
    fn only_the_own_segment_is_found() {
        assert_eq!(find(SEGMENTS, "300", "-1234567  7"), Some(("7", "0")));
        assert_eq!(find(SEGMENTS, "300", "4293732729  7"), Some(("7", "0")));
        assert_eq!(find(SEGMENTS, "301", "-1234567  7"), None);
        assert_eq!(find(SEGMENTS, "300", "-1234567  6"), None);
        assert_eq!(find(SEGMENTS, "400", "55555  8"), Some(("8", "2")));
    }
}
