//! Progress of long work, shown while stderr is a terminal.

use std::borrow::Cow;

use indicatif::{ProgressBar, ProgressStyle};

/// How far long work has come.
#[derive(Debug, Clone)]
pub struct Progress {
    bar: ProgressBar,
}

impl Progress {
    /// Shown on stderr, if that is a terminal, without a known end.
    pub fn counter(doing: &'static str) -> Self {
        Self::styled(ProgressBar::new_spinner(), doing, "{spinner} {msg}: {human_pos} ({per_sec})")
    }

    /// Shown on stderr, if that is a terminal, as a share of the whole of each stage.
    pub fn stages() -> Self {
        Self::styled(ProgressBar::new(0), "starting", "{msg} {wide_bar} {human_pos}/{human_len} ({per_sec}, {eta})")
    }

    /// Something else is done from now on, of a known length.
    pub fn stage(&self, doing: &'static str, total: u64) {
        self.bar.reset();
        self.bar.set_length(total);
        self.bar.set_message(doing);
    }

    /// Shown nowhere.
    pub fn hidden() -> Self {
        Self { bar: ProgressBar::hidden() }
    }

    /// More was done.
    pub fn advance(&self, by: usize) {
        self.bar.inc(by as u64);
    }

    /// How much was done.
    pub fn position(&self) -> u64 {
        self.bar.position()
    }

    /// Does something that writes to the screen, without the bar in its way.
    pub fn suspend(&self, write: impl FnOnce()) {
        self.bar.suspend(write);
    }

    /// Takes the bar off the screen.
    pub fn finish(&self) {
        self.bar.finish_and_clear();
    }

    fn styled(bar: ProgressBar, doing: &'static str, template: &str) -> Self {
        let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
        Self { bar: bar.with_style(style).with_message(Cow::Borrowed(doing)) }
    }
}
