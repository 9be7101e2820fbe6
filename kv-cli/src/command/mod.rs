//! The commands, one file each.

pub(crate) mod bench;
pub(crate) mod completions;
pub(crate) mod conformance;
pub(crate) mod copy;
pub(crate) mod delete;
pub(crate) mod export;
pub(crate) mod get;
pub(crate) mod import;
pub(crate) mod list;
pub(crate) mod replay;
pub(crate) mod schemes;
pub(crate) mod serve;
pub(crate) mod set;
pub(crate) mod ttl;
pub(crate) mod verify;
pub(crate) mod watch;
