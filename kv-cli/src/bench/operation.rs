//! What is measured.

use std::fmt;

use clap::ValueEnum;
use serde::{Serialize, Serializer};

/// One kind of call. A unit of every rate is one call, whatever number of entries it moves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, ValueEnum)]
pub enum Operation {
    /// Read a key that is there
    Get,
    /// Read a key that is not there
    GetMiss,
    /// Write a key that is there
    Overwrite,
    /// Write a key that is there, with an hour to live
    SetTtl,
    /// Read a key and write it if its version is still the same: two calls
    Cas,
    /// List the 100 entries under a prefix
    List,
    /// Read 100 keys in one call
    GetMany,
    /// Calls in the shares of the recorded federation traffic: 72.3 % get, 25.9 % set, 1.4 % delete, 0.4 % cas
    Mixed,
    /// Write a key that was never there: the store grows, so this comes last
    Insert,
}

impl Operation {
    /// Every one, in the order in which they are measured.
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

    /// How it is written on the command line and in reports.
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

    /// Whether it changes the store.
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
    fn names_are_those_of_the_command_line() {
        assert_eq!(Operation::ALL.len(), Operation::value_variants().len());
        for operation in Operation::ALL {
            assert_eq!(Operation::from_str(operation.name(), false), Ok(operation));
        }
    }
}
