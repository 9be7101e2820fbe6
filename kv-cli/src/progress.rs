//! The progress bar of long commands.

use std::borrow::Cow;

use indicatif::{ProgressBar, ProgressStyle};

/// A progress bar on stderr. It is hidden if stderr is not a terminal.
#[derive(Debug, Clone)]
pub struct Progress {
    bar: ProgressBar,
}

impl Progress {
    /// Creates a counter for work of unknown length.
    pub fn counter(activity: &'static str) -> Self {
        Self::styled(ProgressBar::new_spinner(), activity, "{spinner} {msg}: {human_pos} ({per_sec})")
    }

    /// Creates a bar for work in stages of known length.
    pub fn stages() -> Self {
        Self::styled(ProgressBar::new(0), "starting", "{msg} {wide_bar} {human_pos}/{human_len} ({per_sec}, {eta})")
    }

    /// Starts a stage with `total` steps.
    pub fn stage(&self, activity: &'static str, total: u64) {
        self.bar.reset();
        self.bar.set_length(total);
        self.bar.set_message(activity);
    }

    /// Creates a bar that is never visible.
    pub fn hidden() -> Self {
        Self { bar: ProgressBar::hidden() }
    }

    /// Adds `by` to the position.
    pub fn advance(&self, by: usize) {
        self.bar.inc(by as u64);
    }

    /// Returns the position.
    pub fn position(&self) -> u64 {
        self.bar.position()
    }

    /// Hides the bar while `write` writes to the terminal.
    pub fn suspend(&self, write: impl FnOnce()) {
        self.bar.suspend(write);
    }

    /// Removes the bar from the terminal.
    pub fn finish(&self) {
        self.bar.finish_and_clear();
    }

    fn styled(bar: ProgressBar, activity: &'static str, template: &str) -> Self {
        let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
        Self { bar: bar.with_style(style).with_message(Cow::Borrowed(activity)) }
    }
}
