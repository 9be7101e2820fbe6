#![doc = include_str!("../README.md")]

/// The scheme `memory:`.
pub const SCHEME: kv_core::Scheme = kv_core::Scheme {
    name: "memory",
    usage: "memory:",
    open: |_| Box::pin(async { Err(kv_core::Error::unavailable("not yet")) }),
};
