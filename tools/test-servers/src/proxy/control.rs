//! The requested behaviour of a proxy, and its counters.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::watch;

use super::Direction;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    Pass,
    Delay(Duration),
    BlackHole,
}

/// The way to end a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Disconnect {
    Close,
    Reset,
}

/// The action for a chunk of bytes that was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Action {
    Pass,
    Discard,
    /// Forwards this many bytes of the chunk, then disconnects.
    Disconnect(usize, Disconnect),
}

#[derive(Debug)]
pub(super) struct Control {
    settings: Mutex<Settings>,
    delivered: [AtomicU64; 2],
    accepted: AtomicU64,
    /// Incremented by each [`close_all`](Self::close_all).
    closing: watch::Sender<u64>,
}

#[derive(Debug)]
struct Settings {
    mode: Mode,
    /// For each direction, the number of bytes until the next disconnect; `None` if no disconnect was requested.
    disconnects: [Option<(u64, Disconnect)>; 2],
}

impl Default for Control {
    fn default() -> Self {
        Self {
            settings: Mutex::new(Settings { mode: Mode::Pass, disconnects: [None; 2] }),
            delivered: Default::default(),
            accepted: AtomicU64::new(0),
            closing: watch::Sender::new(0),
        }
    }
}

impl Control {
    pub(super) fn set_mode(&self, mode: Mode) {
        self.settings.lock().mode = mode;
    }

    pub(super) fn delay(&self) -> Option<Duration> {
        match self.settings.lock().mode {
            Mode::Delay(time) => Some(time),
            Mode::Pass | Mode::BlackHole => None,
        }
    }

    pub(super) fn disconnect_after(&self, direction: Direction, bytes: u64, disconnect: Disconnect) {
        *of(direction, &mut self.settings.lock().disconnects) = Some((bytes, disconnect));
    }

    pub(super) fn clear_disconnects(&self) {
        self.settings.lock().disconnects = [None; 2];
    }

    /// Returns the action for a chunk of `length` bytes. Call this method just before forwarding, because all
    /// connections share one byte count.
    pub(super) fn next_action(&self, direction: Direction, length: usize) -> Action {
        let mut settings = self.settings.lock();
        if settings.mode == Mode::BlackHole {
            return Action::Discard;
        }
        let slot = of(direction, &mut settings.disconnects);
        match *slot {
            None => Action::Pass,
            Some((remaining, disconnect)) => match usize::try_from(remaining) {
                Ok(remaining) if remaining <= length => {
                    *slot = None;
                    Action::Disconnect(remaining, disconnect)
                }
                _ => {
                    *slot = Some((remaining.saturating_sub(length as u64), disconnect));
                    Action::Pass
                }
            },
        }
    }

    pub(super) fn close_all(&self) {
        self.closing.send_modify(|count| *count += 1);
    }

    pub(super) fn closing(&self) -> watch::Receiver<u64> {
        self.closing.subscribe()
    }

    pub(super) fn count_delivered(&self, direction: Direction, bytes: usize) {
        of_ref(direction, &self.delivered).fetch_add(bytes as u64, Relaxed);
    }

    pub(super) fn count_accepted(&self) {
        self.accepted.fetch_add(1, Relaxed);
    }

    pub(super) fn bytes(&self, direction: Direction) -> u64 {
        of_ref(direction, &self.delivered).load(Relaxed)
    }

    pub(super) fn connections(&self) -> u64 {
        self.accepted.load(Relaxed)
    }
}

fn of<T>(direction: Direction, [to_server, to_client]: &mut [T; 2]) -> &mut T {
    match direction {
        Direction::ToServer => to_server,
        Direction::ToClient => to_client,
    }
}

fn of_ref<T>(direction: Direction, [to_server, to_client]: &[T; 2]) -> &T {
    match direction {
        Direction::ToServer => to_server,
        Direction::ToClient => to_client,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disconnect_counts_bytes_over_chunks_and_happens_once() {
        let control = Control::default();
        control.disconnect_after(Direction::ToClient, 5, Disconnect::Close);
        assert_eq!(control.next_action(Direction::ToServer, 100), Action::Pass);
        assert_eq!(control.next_action(Direction::ToClient, 3), Action::Pass);
        assert_eq!(control.next_action(Direction::ToClient, 2), Action::Disconnect(2, Disconnect::Close));
        assert_eq!(control.next_action(Direction::ToClient, 2), Action::Pass);
    }

    #[test]
    fn a_disconnect_after_zero_bytes_forwards_nothing() {
        let control = Control::default();
        control.disconnect_after(Direction::ToServer, 0, Disconnect::Reset);
        assert_eq!(control.next_action(Direction::ToServer, 7), Action::Disconnect(0, Disconnect::Reset));
    }

    #[test]
    fn a_cleared_disconnect_does_not_happen() {
        let control = Control::default();
        control.disconnect_after(Direction::ToServer, 3, Disconnect::Close);
        control.clear_disconnects();
        assert_eq!(control.next_action(Direction::ToServer, 7), Action::Pass);
    }
}
