//! What is to happen to the bytes, and what has.

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

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ending {
    Close,
    Reset,
}

/// What happens to a piece that has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    Pass,
    Swallow,
    /// Its first bytes pass, and the connection ends.
    End(usize, Ending),
}

#[derive(Debug)]
pub(super) struct Plan {
    orders: Mutex<Orders>,
    delivered: [AtomicU64; 2],
    accepted: AtomicU64,
    /// Counts the calls that close everything.
    closing: watch::Sender<u64>,
}

#[derive(Debug)]
struct Orders {
    mode: Mode,
    endings: [Option<(u64, Ending)>; 2],
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            orders: Mutex::new(Orders { mode: Mode::Pass, endings: [None; 2] }),
            delivered: Default::default(),
            accepted: AtomicU64::new(0),
            closing: watch::Sender::new(0),
        }
    }
}

impl Plan {
    pub(super) fn set_mode(&self, mode: Mode) {
        self.orders.lock().mode = mode;
    }

    pub(super) fn delay(&self) -> Option<Duration> {
        match self.orders.lock().mode {
            Mode::Delay(time) => Some(time),
            Mode::Pass | Mode::BlackHole => None,
        }
    }

    pub(super) fn end_after(&self, direction: Direction, bytes: u64, ending: Ending) {
        *of(direction, &mut self.orders.lock().endings) = Some((bytes, ending));
    }

    pub(super) fn forget_endings(&self) {
        self.orders.lock().endings = [None; 2];
    }

    /// Decided when the piece is about to pass, so that two connections share one count.
    pub(super) fn fate(&self, direction: Direction, length: usize) -> Fate {
        let mut orders = self.orders.lock();
        if orders.mode == Mode::BlackHole {
            return Fate::Swallow;
        }
        let slot = of(direction, &mut orders.endings);
        match *slot {
            None => Fate::Pass,
            Some((left, ending)) => match usize::try_from(left) {
                Ok(left) if left <= length => {
                    *slot = None;
                    Fate::End(left, ending)
                }
                _ => {
                    *slot = Some((left.saturating_sub(length as u64), ending));
                    Fate::Pass
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
    fn an_ending_is_counted_over_pieces_and_comes_once() {
        let plan = Plan::default();
        plan.end_after(Direction::ToClient, 5, Ending::Close);
        assert_eq!(plan.fate(Direction::ToServer, 100), Fate::Pass);
        assert_eq!(plan.fate(Direction::ToClient, 3), Fate::Pass);
        assert_eq!(plan.fate(Direction::ToClient, 2), Fate::End(2, Ending::Close));
        assert_eq!(plan.fate(Direction::ToClient, 2), Fate::Pass);
    }

    #[test]
    fn nothing_passes_an_ending_after_no_byte() {
        let plan = Plan::default();
        plan.end_after(Direction::ToServer, 0, Ending::Reset);
        assert_eq!(plan.fate(Direction::ToServer, 7), Fate::End(0, Ending::Reset));
    }

    #[test]
    fn a_forgotten_ending_does_not_come() {
        let plan = Plan::default();
        plan.end_after(Direction::ToServer, 3, Ending::Close);
        plan.forget_endings();
        assert_eq!(plan.fate(Direction::ToServer, 7), Fate::Pass);
    }
}
