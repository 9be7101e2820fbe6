//! The settings of a server.

use std::time::Duration;

/// The default of [`ServeConfig::max_connections`].
const MAX_CONNECTIONS: usize = 256;

/// The maximum number of connections that are not sessions yet.
const MAX_WAITING: usize = 64;

/// The number of file descriptors that are reserved for the store and the program.
const RESERVED_DESCRIPTORS: usize = 64;

/// The settings of a server.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ServeConfig {
    /// The maximum number of sessions at once. Further connections wait. Default: 256. On Linux, the server has at most
    /// as many connections as the process's open-file limit minus 64, or half of that limit if half is more. A quarter
    /// of these connections, but at most 64, are for connections that wait.
    pub max_connections: usize,
    /// The idle time after which a session that has no streams ends. Default: never.
    pub idle_timeout: Option<Duration>,
}

impl Default for ServeConfig {
    fn default() -> Self {
        Self { max_connections: MAX_CONNECTIONS, idle_timeout: None }
    }
}

impl ServeConfig {
    /// Sets the maximum number of connections that are served at once.
    #[must_use]
    pub fn with_max_connections(mut self, connections: usize) -> Self {
        self.max_connections = connections;
        self
    }

    /// Sets the idle time after which a session that has no streams ends.
    #[must_use]
    pub fn with_idle_timeout(mut self, timeout: Duration) -> Self {
        self.idle_timeout = Some(timeout);
        self
    }

    /// Returns the maximum number of sessions, and of connections that are not sessions yet. The limit of file
    /// descriptors reduces both. Both are at least one.
    pub(super) fn connection_limits(&self) -> (usize, usize) {
        let descriptors = std::fs::read_to_string("/proc/self/limits").ok().as_deref().and_then(parse_max_open_files);
        let available = descriptors.map_or(usize::MAX, |max| max.saturating_sub(RESERVED_DESCRIPTORS).max(max / 2));
        let waiting = MAX_WAITING.min(available / 4).max(1);
        (self.max_connections.min(available.saturating_sub(waiting)).max(1), waiting)
    }
}

/// Parses the soft limit of open files in the text of `/proc/self/limits`. Returns `None` if the number is unlimited or
/// missing.
fn parse_max_open_files(limits: &str) -> Option<usize> {
    limits.lines().find_map(|line| line.strip_prefix("Max open files"))?.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_soft_limit_of_open_files_is_parsed() {
        let limits = "Limit                     Soft Limit           Hard Limit           Units\n\
                      Max open files            256                  1048576              files\n";
        assert_eq!(parse_max_open_files(limits), Some(256));
        assert_eq!(parse_max_open_files(&limits.replace("256 ", "unlimited ")), None);
        assert_eq!(ServeConfig::default().with_max_connections(0).connection_limits().0, 1);
    }
}
