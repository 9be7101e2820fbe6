//! The settings of a server.

use std::time::Duration;

/// The default of [`ServeConfig::max_connections`].
const MAX_CONNECTIONS: usize = 256;

/// File descriptors that connections leave to the store and the program.
const RESERVED_DESCRIPTORS: usize = 64;

/// The settings of a server.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ServeConfig {
    /// The most connections that are served at once; further connections wait. Default: 256. The limit of file
    /// descriptors of the process, less 64, applies too.
    pub max_connections: usize,
    /// The time without a request after which a session without streams ends. Default: never.
    pub idle_timeout: Option<Duration>,
}

impl Default for ServeConfig {
    fn default() -> Self {
        Self { max_connections: MAX_CONNECTIONS, idle_timeout: None }
    }
}

impl ServeConfig {
    /// Sets the most connections that are served at once.
    #[must_use]
    pub fn with_max_connections(mut self, connections: usize) -> Self {
        self.max_connections = connections;
        self
    }

    /// Sets the time without a request after which a session ends.
    #[must_use]
    pub fn with_idle_timeout(mut self, timeout: Duration) -> Self {
        self.idle_timeout = Some(timeout);
        self
    }

    /// The most connections, below the limit of file descriptors.
    pub(super) fn connections(&self) -> usize {
        let descriptors = std::fs::read_to_string("/proc/self/limits").ok().as_deref().and_then(descriptors);
        let most = descriptors.map_or(usize::MAX, |limit| limit.saturating_sub(RESERVED_DESCRIPTORS).max(limit / 2));
        self.max_connections.min(most).max(1)
    }
}

/// The soft limit of open files. `None` if there is none or the text has another form.
fn descriptors(limits: &str) -> Option<usize> {
    limits.lines().find_map(|line| line.strip_prefix("Max open files"))?.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_of_descriptors_is_read() {
        let limits = "Limit                     Soft Limit           Hard Limit           Units\n\
                      Max open files            256                  1048576              files\n";
        assert_eq!(descriptors(limits), Some(256));
        assert_eq!(descriptors(&limits.replace("256 ", "unlimited ")), None);
        assert_eq!(ServeConfig::default().with_max_connections(0).connections(), 1);
    }
}
