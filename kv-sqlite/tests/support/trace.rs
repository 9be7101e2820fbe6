//! What a child did to its files, call by call, as `strace` tells it; and what a loss of power may leave of it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::{Random, child};

/// A medium writes this many bytes whole, or not at all.
const SECTOR: usize = 512;

/// `strace` over a child of this name, with these arguments; nothing where it cannot be run, which is told.
pub fn traced(name: &str, path: &Path, arguments: &[&str], output: &Path) -> Option<Command> {
    let probe = Command::new("strace").args(["-o", "/dev/null", "true"]).stderr(Stdio::null()).status();
    if !probe.is_ok_and(|status| status.success()) {
        eprintln!("NOT RUN: `strace` is not installed, or may not trace");
        return None;
    }
    let child = child(name, path);
    let mut command = Command::new("strace");
    command.args(["-f", "-qq", "-o"]).arg(output).args(arguments).arg(child.get_program());
    command.envs(child.get_envs().filter_map(|(name, value)| Some((name, value?))));
    command.stdin(Stdio::null()).stdout(Stdio::piped());
    Some(command)
}

/// The calls that change files, with all bytes.
pub const EVERYTHING: [&str; 6] =
    ["-yy", "-xx", "-s", "1000000", "-e", "trace=openat,write,pwrite64,fsync,fdatasync,ftruncate,unlink,rename"];

#[derive(Debug)]
pub enum Event {
    Created(PathBuf),
    Written { file: PathBuf, offset: usize, bytes: Vec<u8> },
    Cut { file: PathBuf, length: usize },
    Removed(PathBuf),
    Synced(PathBuf),
    Said(String),
}

/// The events in a trace, for files in this folder, in the order in which they began; a sync counts from its end.
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
    let number = |place: usize| {
        let tail = arguments.split(')').next()?;
        tail.rsplit(", ").nth(place)?.trim().parse().ok()
    };
    match name {
        "write" if arguments.starts_with("1<") => {
            Some(Event::Said(String::from_utf8(text()?).ok()?.strip_suffix('\n')?.to_owned()))
        }
        "openat" if arguments.contains("O_CREAT") => inside(text()?).map(Event::Created),
        "pwrite64" => Some(Event::Written { file: file()?, offset: number(0)?, bytes: text()? }),
        "ftruncate" => Some(Event::Cut { file: file()?, length: number(0)? }),
        "unlink" => inside(text()?).map(Event::Removed),
        "fsync" | "fdatasync" => file().map(Event::Synced),
        // Bytes of a file by a call that is not rebuilt here, which must not go unnoticed.
        "write" => file().map(|file| panic!("{} is written by `write`", file.display())),
        "rename" => inside(text()?).map(|file| panic!("{} is renamed", file.display())),
        _ => None,
    }
}

fn between(text: &str, open: char, close: char) -> Option<&str> {
    let (_, rest) = text.split_once(open)?;
    Some(rest.split_once(close)?.0)
}

/// `\x41\x42` as bytes.
fn unescaped(text: &str) -> Vec<u8> {
    text.split("\\x").skip(1).map(|pair| u8::from_str_radix(&pair[..2], 16).unwrap()).collect()
}

/// What the next loss of power leaves of what was not synced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loss {
    /// Nothing.
    All,
    /// Everything, as when only the process is killed.
    Nothing,
    /// Some sectors, in any order.
    Some,
}

/// The medium: what is safe of each file, and what was done to it since.
#[derive(Debug, Default)]
pub struct Medium {
    files: BTreeMap<PathBuf, File>,
}

#[derive(Debug, Default)]
struct File {
    safe: Vec<u8>,
    since: Vec<Change>,
    /// Whether the folder was synced since the name was made.
    is_named: bool,
    is_removed: bool,
}

#[derive(Debug)]
enum Change {
    Write(usize, Vec<u8>),
    Cut(usize),
}

impl Medium {
    /// Takes an event into account.
    pub fn happen(&mut self, event: &Event) {
        match event {
            Event::Created(path) => {
                let file = self.files.entry(path.clone()).or_default();
                if file.is_removed {
                    // A new file, whose name may still lead to the old one after a loss; the names are told apart by no
                    // more than that here.
                    *file = File::default();
                }
            }
            Event::Written { file, offset, bytes } => self.change(file, Change::Write(*offset, bytes.clone())),
            Event::Cut { file, length } => self.change(file, Change::Cut(*length)),
            Event::Removed(path) => self.files.entry(path.clone()).or_default().is_removed = true,
            Event::Synced(path) => {
                if let Some(file) = self.files.get_mut(path) {
                    for change in std::mem::take(&mut file.since) {
                        change.apply(&mut file.safe, |_| true);
                    }
                    return;
                }
                self.files.retain(|name, file| name.parent() != Some(path) || !file.is_removed);
                for (_, file) in self.files.iter_mut().filter(|(name, _)| name.parent() == Some(path)) {
                    file.is_named = true;
                }
            }
            Event::Said(_) => {}
        }
    }

    fn change(&mut self, path: &Path, change: Change) {
        self.files.entry(path.to_owned()).or_default().since.push(change);
    }

    /// Writes into a folder what a loss of power now leaves of the files.
    pub fn lose(&self, loss: Loss, random: &mut Random, folder: &Path) {
        for (path, file) in &self.files {
            let mut survives = |_: usize| match loss {
                Loss::All => false,
                Loss::Nothing => true,
                Loss::Some => random.below(2) == 0,
            };
            // A name that was made or removed since the folder was synced may be there or not.
            let is_there = match (file.is_removed, file.is_named) {
                (true, _) => !survives(0),
                (false, is_named) => is_named || survives(0),
            };
            if !is_there {
                continue;
            }
            let mut bytes = file.safe.clone();
            for change in &file.since {
                change.apply(&mut bytes, &mut survives);
            }
            std::fs::write(folder.join(path.file_name().unwrap()), bytes).unwrap();
        }
    }
}

impl Change {
    /// Applies what survives of it, sector by sector.
    fn apply(&self, bytes: &mut Vec<u8>, mut survives: impl FnMut(usize) -> bool) {
        match self {
            Self::Cut(length) => {
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
