//! The file operations of a child as `strace` records them, and a model of the files after a loss of power.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::{Random, child};

/// The number of bytes that the medium writes atomically.
const SECTOR: usize = 512;

/// Returns the command that runs a child under `strace`. If `strace` cannot be run, prints a message and returns
/// `None`.
pub fn traced(name: &str, path: &Path, arguments: &[&str], output: &Path) -> Option<Command> {
    let probe = Command::new("strace").args(["-o", "/dev/null", "true"]).stderr(Stdio::null()).status();
    if !probe.is_ok_and(|status| status.success()) {
        eprintln!("NOT RUN: `strace` is not installed or has no permission to trace");
        return None;
    }
    let child = child(name, path);
    let mut command = Command::new("strace");
    command.args(["-f", "-qq", "-o"]).arg(output).args(arguments).arg(child.get_program());
    command.envs(child.get_envs().filter_map(|(name, value)| Some((name, value?))));
    command.stdin(Stdio::null()).stdout(Stdio::piped());
    Some(command)
}

/// The arguments with which `strace` records the system calls that change files, including all written bytes.
pub const FILE_CALLS: [&str; 6] =
    ["-yy", "-xx", "-s", "1000000", "-e", "trace=openat,write,pwrite64,fsync,fdatasync,ftruncate,unlink,rename"];

#[derive(Debug)]
pub enum Event {
    Created(PathBuf),
    Written {
        file: PathBuf,
        offset: usize,
        bytes: Vec<u8>,
    },
    Truncated {
        file: PathBuf,
        length: usize,
    },
    Removed(PathBuf),
    Synced(PathBuf),
    /// A line that the child printed.
    Printed(String),
}

/// Returns the events of a trace for the files in a directory. The events are in the order in which the calls began,
/// except that a sync is an event only when its call has ended.
pub fn events(trace: &str, folder: &Path) -> Vec<Event> {
    let (mut events, mut waiting) = (Vec::new(), BTreeMap::new());
    for line in trace.lines() {
        let (thread, call) = line.split_once(' ').unwrap();
        let call = call.trim_start();
        if let Some(begun) = call.strip_suffix("<unfinished ...>") {
            if begun.contains("sync(") {
                waiting.insert(thread, begun.to_owned());
            } else {
                events.extend(event(begun, folder));
            }
        } else if call.starts_with("<... ") {
            let begun = waiting.remove(thread);
            let has_succeeded = call.ends_with("= 0");
            events.extend(begun.filter(|_| has_succeeded).and_then(|begun| event(&begun, folder)));
        } else if !call.contains(" = -1 E") {
            events.extend(event(call, folder));
        }
    }
    events
}

fn event(call: &str, folder: &Path) -> Option<Event> {
    let (name, arguments) = call.split_once('(')?;
    let inside = |bytes: Vec<u8>| {
        let path = PathBuf::from(String::from_utf8(bytes).ok()?);
        path.starts_with(folder).then_some(path)
    };
    let file = || inside(unescaped(between(arguments, '<', '>')?));
    let text = || Some(unescaped(between(arguments, '"', '"')?));
    let number = |index_from_end: usize| {
        let tail = arguments.split(')').next()?;
        tail.rsplit(", ").nth(index_from_end)?.trim().parse().ok()
    };
    match name {
        "write" if arguments.starts_with("1<") => {
            Some(Event::Printed(String::from_utf8(text()?).ok()?.strip_suffix('\n')?.to_owned()))
        }
        "openat" if arguments.contains("O_CREAT") => inside(text()?).map(Event::Created),
        "pwrite64" => Some(Event::Written { file: file()?, offset: number(0)?, bytes: text()? }),
        "ftruncate" => Some(Event::Truncated { file: file()?, length: number(0)? }),
        "unlink" => inside(text()?).map(Event::Removed),
        "fsync" | "fdatasync" => file().map(Event::Synced),
        // The model does not support these calls. If the child makes one of them, the test fails.
        "write" => {
            file().map(|file| panic!("{} is written by `write`, which the model does not support", file.display()))
        }
        "rename" => {
            inside(text()?).map(|file| panic!("{} is renamed, which the model does not support", file.display()))
        }
        _ => None,
    }
}

fn between(text: &str, open: char, close: char) -> Option<&str> {
    let (_, rest) = text.split_once(open)?;
    Some(rest.split_once(close)?.0)
}

/// Converts `\x41\x42` to bytes.
fn unescaped(text: &str) -> Vec<u8> {
    text.split("\\x").skip(1).map(|pair| u8::from_str_radix(&pair[..2], 16).unwrap()).collect()
}

/// The part of the unsynced changes that a loss of power loses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loss {
    /// All unsynced changes.
    All,
    /// No unsynced change, as if only the process was killed.
    Nothing,
    /// Each unsynced sector with a probability of one half, independent of the order of the changes.
    Some,
}

/// The medium: the synced content of each file, and the unsynced changes.
#[derive(Debug, Default)]
pub struct Medium {
    files: BTreeMap<PathBuf, File>,
}

#[derive(Debug, Default)]
struct File {
    synced: Vec<u8>,
    unsynced: Vec<Change>,
    /// True if the directory was synced after the file was created.
    is_name_synced: bool,
    is_removed: bool,
}

#[derive(Debug)]
enum Change {
    Write(usize, Vec<u8>),
    Truncated(usize),
}

impl Medium {
    /// Applies an event.
    pub fn apply(&mut self, event: &Event) {
        match event {
            Event::Created(path) => {
                let file = self.files.entry(path.clone()).or_default();
                if file.is_removed {
                    // A simplification: after a loss of power the name may still lead to the old file, but this model
                    // forgets the old file.
                    *file = File::default();
                }
            }
            Event::Written { file, offset, bytes } => self.change(file, Change::Write(*offset, bytes.clone())),
            Event::Truncated { file, length } => self.change(file, Change::Truncated(*length)),
            Event::Removed(path) => self.files.entry(path.clone()).or_default().is_removed = true,
            Event::Synced(path) => {
                if let Some(file) = self.files.get_mut(path) {
                    for change in std::mem::take(&mut file.unsynced) {
                        change.apply(&mut file.synced, |_| true);
                    }
                    return;
                }
                self.files.retain(|name, file| name.parent() != Some(path) || !file.is_removed);
                for (_, file) in self.files.iter_mut().filter(|(name, _)| name.parent() == Some(path)) {
                    file.is_name_synced = true;
                }
            }
            Event::Printed(_) => {}
        }
    }

    fn change(&mut self, path: &Path, change: Change) {
        self.files.entry(path.to_owned()).or_default().unsynced.push(change);
    }

    /// Writes the files into a directory, as they may be if the power is lost at this moment.
    pub fn lose(&self, loss: Loss, random: &mut Random, folder: &Path) {
        for (path, file) in &self.files {
            let mut survives = |_: usize| match loss {
                Loss::All => false,
                Loss::Nothing => true,
                Loss::Some => random.below(2) == 0,
            };
            // If a file was created or removed after the last sync of its directory, both states are possible.
            let exists = match (file.is_removed, file.is_name_synced) {
                (true, _) => !survives(0),
                (false, is_name_synced) => is_name_synced || survives(0),
            };
            if !exists {
                continue;
            }
            let mut bytes = file.synced.clone();
            for change in &file.unsynced {
                change.apply(&mut bytes, &mut survives);
            }
            std::fs::write(folder.join(path.file_name().unwrap()), bytes).unwrap();
        }
    }
}

impl Change {
    /// Applies the surviving sectors of the change.
    fn apply(&self, bytes: &mut Vec<u8>, mut survives: impl FnMut(usize) -> bool) {
        match self {
            Self::Truncated(length) => {
                if survives(0) {
                    bytes.resize(*length, 0);
                }
            }
            Self::Write(offset, written) => {
                let mut done = 0;
                while done < written.len() {
                    let start = offset + done;
                    let end = (start / SECTOR + 1) * SECTOR;
                    let length = (end - start).min(written.len() - done);
                    if survives(start / SECTOR) {
                        if bytes.len() < start + length {
                            bytes.resize(start + length, 0);
                        }
                        bytes[start..start + length].copy_from_slice(&written[done..done + length]);
                    }
                    done += length;
                }
            }
        }
    }
}
