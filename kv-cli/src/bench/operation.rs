//! The measured operations.

use std::fmt;

use clap::ValueEnum;
use serde::{Serialize, Serializer};

/// A kind of call. Every rate counts calls, not entries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, ValueEnum)]
pub enum Operation {
    /// Read an existing key
    Get,
    /// Read a missing key
    GetMiss,
    /// Write an existing key
    Overwrite,
    /// Write an existing key with a time to live of an hour
    SetTtl,
    /// Read a key and write it if its version is unchanged: two calls
    Cas,
    /// List the 100 entries under a prefix
    List,
    /// Read 100 keys in one call
    GetMany,
    /// Calls in the proportions of the recorded workload: 72.3 % get, 25.9 % set, 1.4 % delete, 0.4 % cas
    Mixed,
    /// Write a new key; the store grows, so this operation comes last
    Insert,
}

impl Operation {
    /// All operations, in the order of measurement.
    pub const ALL: [Self; 9] = [
        Self::Get,
        Self::GetMiss,
        Self::Overwrite,
        Self::SetTtl,
        Self::Cas,
        Self::List,
        Self::GetMany,
        Self::Mixed,
        Self::Insert,
    ];

    /// Returns the name on the command line and in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::GetMiss => "get-miss",
            Self::Overwrite => "overwrite",
            Self::SetTtl => "set-ttl",
            Self::Cas => "cas",
            Self::List => "list",
            Self::GetMany => "get-many",
            Self::Mixed => "mixed",
            Self::Insert => "insert",
        }
    }

    /// True if the operation changes the store.
    pub fn writes(self) -> bool {
        match self {
            Self::Overwrite | Self::SetTtl | Self::Cas | Self::Mixed | Self::Insert => true,
            Self::Get | Self::GetMiss | Self::List | Self::GetMany => false,
        }
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl Serialize for Operation {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_match_the_command_line() {
        assert_eq!(Operation::ALL.len(), Operation::value_variants().len());
        for operation in Operation::ALL {
            assert_eq!(Operation::from_str(operation.name(), false), Ok(operation));
        }
    }
}
