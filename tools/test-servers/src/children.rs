//! The child processes of a server.

use std::io;

use nix::sys::signal::Signal;

use crate::process::send;

/// Process ids, each with the start time of its process, because the kernel reuses ids.
#[derive(Debug)]
pub(crate) struct Children(Vec<(u32, u64)>);

impl Children {
    /// Lists the children of a process that have not exited.
    pub(crate) fn of(parent: u32) -> io::Result<Self> {
        let mut children = Vec::new();
        for entry in std::fs::read_dir("/proc")?.flatten() {
            let pid = entry.file_name().to_str().and_then(|name| name.parse().ok());
            if let Some((pid, state)) = pid.and_then(|pid| Some((pid, State::of(pid)?)))
                && state.parent == parent
            {
                children.push((pid, state.start_time));
            }
        }
        Ok(Self(children))
    }

    pub(crate) fn contains(&self, pid: u32) -> bool {
        self.0.iter().any(|(child, _)| *child == pid)
    }

    pub(crate) fn send(&self, signal: Signal) {
        for (pid, _) in self.running() {
            // The process may have exited meanwhile.
            let _ = send(pid, signal);
        }
    }

    pub(crate) fn all_exited(&self) -> bool {
        self.running().next().is_none()
    }

    pub(crate) fn all_stopped(&self) -> bool {
        self.running().all(|(pid, _)| is_stopped(pid))
    }

    fn running(&self) -> impl Iterator<Item = (u32, u64)> {
        self.0
            .iter()
            .copied()
            .filter(|(pid, start_time)| State::of(*pid).is_some_and(|state| state.start_time == *start_time))
    }
}

/// True if the process runs and is a child of this process. The parent is checked, because the kernel reuses ids.
pub(crate) fn is_running_child(pid: u32) -> bool {
    State::of(pid).is_some_and(|state| state.parent == std::process::id())
}

/// True if the process is stopped by a signal or has exited.
pub(crate) fn is_stopped(pid: u32) -> bool {
    State::of(pid).is_none_or(|state| state.stopped)
}

struct State {
    parent: u32,
    start_time: u64,
    stopped: bool,
}

impl State {
    /// Returns the state of a process. Returns `None` for a process that has exited, even if it is still a zombie.
    fn of(pid: u32) -> Option<Self> {
        let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The last `) ` ends the name of the program, which may itself contain spaces and parentheses.
        let fields: Vec<&str> = text.rsplit_once(") ")?.1.split(' ').collect();
        let state = *fields.first()?;
        if matches!(state, "Z" | "X") {
            return None;
        }
        let (parent, start_time) = (fields.get(1)?.parse().ok()?, fields.get(19)?.parse().ok()?);
        Some(Self { parent, start_time, stopped: matches!(state, "T" | "t") })
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn a_child_is_listed_until_it_exits() {
        let mut child = Command::new("sleep").arg("100").spawn().unwrap();
        let children = Children::of(std::process::id()).unwrap();
        assert!(children.contains(child.id()) && !children.all_exited());
        let only = Children(children.0.into_iter().filter(|(pid, _)| *pid == child.id()).collect());
        only.send(Signal::SIGKILL);
        child.wait().unwrap();
        assert!(only.all_exited());
    }
}
