//! The processes that a server has started.

use std::io;

use nix::sys::signal::Signal;

use crate::process::send;

/// Each with the time of its start: a number alone may belong to somebody else later.
#[derive(Debug)]
pub(crate) struct Family(Vec<(u32, u64)>);

impl Family {
    /// The children of a process, as far as they have not ended.
    pub(crate) fn of(parent: u32) -> io::Result<Self> {
        let mut children = Vec::new();
        for entry in std::fs::read_dir("/proc")?.flatten() {
            let pid = entry.file_name().to_str().and_then(|name| name.parse().ok());
            if let Some((pid, state)) = pid.and_then(|pid| Some((pid, State::of(pid)?)))
                && state.parent == parent
            {
                children.push((pid, state.begun));
            }
        }
        Ok(Self(children))
    }

    pub(crate) fn contains(&self, pid: u32) -> bool {
        self.0.iter().any(|(child, _)| *child == pid)
    }

    pub(crate) fn send(&self, signal: Signal) {
        for (pid, _) in self.living() {
            // It may have ended since.
            let _ = send(pid, signal);
        }
    }

    pub(crate) fn is_gone(&self) -> bool {
        self.living().next().is_none()
    }

    pub(crate) fn is_stopped(&self) -> bool {
        self.living().all(|(pid, _)| is_stopped(pid))
    }

    fn living(&self) -> impl Iterator<Item = (u32, u64)> {
        self.0.iter().copied().filter(|(pid, begun)| State::of(*pid).is_some_and(|state| state.begun == *begun))
    }
}

/// Has not ended, and is ours: the number may belong to somebody else later.
pub(crate) fn is_own(pid: u32) -> bool {
    State::of(pid).is_some_and(|state| state.parent == std::process::id())
}

/// True also of a process that has ended.
pub(crate) fn is_stopped(pid: u32) -> bool {
    State::of(pid).is_none_or(|state| state.stopped)
}

struct State {
    parent: u32,
    begun: u64,
    stopped: bool,
}

impl State {
    /// None for one that has ended, also where nobody has reaped it.
    fn of(pid: u32) -> Option<Self> {
        let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The name before it may hold blanks and parentheses.
        let fields: Vec<&str> = text.rsplit_once(") ")?.1.split(' ').collect();
        let state = *fields.first()?;
        if matches!(state, "Z" | "X") {
            return None;
        }
        let (parent, begun) = (fields.get(1)?.parse().ok()?, fields.get(19)?.parse().ok()?);
        Some(Self { parent, begun, stopped: matches!(state, "T" | "t") })
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn a_child_is_found_and_gone_after_its_end() {
        let mut child = Command::new("sleep").arg("100").spawn().unwrap();
        let family = Family::of(std::process::id()).unwrap();
        assert!(family.contains(child.id()) && !family.is_gone());
        let only = Family(family.0.into_iter().filter(|(pid, _)| *pid == child.id()).collect());
        only.send(Signal::SIGKILL);
        child.wait().unwrap();
        assert!(only.is_gone());
    }
}
