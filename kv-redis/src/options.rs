//! The options that each kind of address and each format uses. An option that is not used is refused, never ignored.

use std::collections::BTreeMap;

use kv_core::{Error, Result, StoreUrl};

use crate::address::{Address, AddressKind};
use crate::codec::Format;
use crate::config::{Index, RedisConfig};

/// The settings that decide which options are used.
pub(crate) struct Mode {
    pub(crate) kind: AddressKind,
    pub(crate) has_tls: bool,
    pub(crate) format: Format,
    pub(crate) index: Index,
}

/// An option that not every mode uses.
pub(crate) struct Rule {
    pub(crate) option: &'static str,
    pub(crate) is_used: fn(&Mode) -> bool,
    /// The reason, and what to do instead.
    otherwise: &'static str,
}

/// Every option that is not in this table is used in every mode.
pub(crate) const RULES: [Rule; 9] = [
    Rule {
        option: "tls",
        is_used: |mode| mode.kind == AddressKind::Cluster,
        otherwise: "it belongs to `redis-cluster:`. For one server the scheme decides: `rediss:` uses TLS",
    },
    Rule { option: "ca", is_used: |mode| mode.has_tls, otherwise: NEEDS_TLS },
    Rule { option: "cert", is_used: |mode| mode.has_tls, otherwise: NEEDS_TLS },
    Rule { option: "key", is_used: |mode| mode.has_tls, otherwise: NEEDS_TLS },
    Rule {
        option: "nodelay",
        is_used: |mode| mode.kind != AddressKind::Socket,
        otherwise: "it belongs to TCP, and a Unix socket has no such setting: leave it out",
    },
    Rule {
        option: "db",
        is_used: |mode| mode.kind != AddressKind::Cluster,
        otherwise: "a cluster only has database 0: leave it out",
    },
    Rule { option: "buckets", is_used: |mode| mode.format == Format::Entry, otherwise: NO_BUCKETS },
    Rule { option: "group_segments", is_used: |mode| mode.format == Format::Entry, otherwise: NO_BUCKETS },
    Rule {
        option: "sweep_interval",
        is_used: |mode| mode.format == Format::Entry && mode.index != Index::None,
        otherwise: "a namespace without an index has no sweeper: leave it out",
    },
];

const NEEDS_TLS: &str = "it needs TLS: use the scheme `rediss:`, or `redis-cluster:` with `tls=true`";
const NO_BUCKETS: &str = "the plain format has no buckets: leave it out, or use `format=entry`";

/// Refuses an option of a URL that its scheme or mode does not use, whatever its value is.
pub(crate) fn check_url(url: &StoreUrl, address: &Address, config: &RedisConfig) -> Result<()> {
    let given: BTreeMap<String, String> = url.options()?;
    check(address, config, |option| given.contains_key(option))
}

/// Refuses a setting that is not used at this address, if its value shows that it was set.
pub(crate) fn check_config(address: &Address, config: &RedisConfig) -> Result<()> {
    let default = RedisConfig::default();
    check(address, config, |option| match option {
        "tls" => config.tls,
        "ca" => config.ca.is_some(),
        "cert" => config.cert.is_some(),
        "key" => config.key.is_some(),
        "nodelay" => config.nodelay,
        "db" => config.db.is_some(),
        "buckets" => config.buckets.is_some(),
        "group_segments" => config.group_segments != default.group_segments,
        // A program may set the interval for all its stores. Nothing depends on it where there is no sweeper.
        _ => false,
    })
}

fn check(address: &Address, config: &RedisConfig, is_set: impl Fn(&str) -> bool) -> Result<()> {
    let mode =
        Mode { kind: address.kind(), has_tls: address.has_tls(config), format: config.format, index: config.index };
    match RULES.iter().find(|rule| !(rule.is_used)(&mode) && is_set(rule.option)) {
        Some(Rule { option, otherwise, .. }) => {
            Err(Error::invalid(format!("`{option}` is not used here: {otherwise}")))
        }
        None => Ok(()),
    }
}
