//! The options that apply only to some addresses or formats. An option that does not apply is refused, because a caller
//! who sets an option expects an effect.

use std::collections::BTreeMap;

use kv_core::{Error, Result, StoreUrl};

use crate::address::{Address, AddressKind};
use crate::codec::Format;
use crate::config::{Index, RedisConfig};

/// The settings that decide which options apply.
pub(crate) struct Mode {
    pub(crate) kind: AddressKind,
    pub(crate) has_tls: bool,
    pub(crate) format: Format,
    pub(crate) index: Index,
}

/// The rule for an option that applies only in some modes.
pub(crate) struct Rule {
    pub(crate) option: &'static str,
    pub(crate) is_used: fn(&Mode) -> bool,
    /// The end of the error text: the reason for the refusal, and the remedy.
    explanation: &'static str,
}

/// The rules. An option without a rule applies in every mode.
pub(crate) const RULES: [Rule; 9] = [
    Rule {
        option: "tls",
        is_used: |mode| mode.kind == AddressKind::Cluster,
        explanation: "only `redis-cluster:` has this option: use `rediss:` for one server with TLS",
    },
    Rule { option: "ca", is_used: |mode| mode.has_tls, explanation: NEEDS_TLS },
    Rule { option: "cert", is_used: |mode| mode.has_tls, explanation: NEEDS_TLS },
    Rule { option: "key", is_used: |mode| mode.has_tls, explanation: NEEDS_TLS },
    Rule {
        option: "nodelay",
        is_used: |mode| mode.kind != AddressKind::Socket,
        explanation: "a Unix socket has no such setting: leave it out",
    },
    Rule {
        option: "db",
        is_used: |mode| mode.kind != AddressKind::Cluster,
        explanation: "a cluster only has database 0: leave it out",
    },
    Rule { option: "buckets", is_used: |mode| mode.format == Format::Entry, explanation: NO_BUCKETS },
    Rule { option: "group_segments", is_used: |mode| mode.format == Format::Entry, explanation: NO_BUCKETS },
    Rule {
        option: "sweep_interval",
        is_used: |mode| mode.format == Format::Entry && mode.index != Index::None,
        explanation: "a namespace without an index has no sweeper: leave it out",
    },
];

const NEEDS_TLS: &str = "it needs TLS: use the scheme `rediss:`, or `redis-cluster:` with `tls=true`";
const NO_BUCKETS: &str = "the plain format has no buckets of keys: leave it out, or use `format=entry`";

/// Refuses each option in a URL that does not apply to its address or mode, even if the option has its default value.
pub(crate) fn check_url(url: &StoreUrl, address: &Address, config: &RedisConfig) -> Result<()> {
    let given: BTreeMap<String, String> = url.options()?;
    check(address, config, |option| given.contains_key(option))
}

/// Refuses a setting that does not apply to the address or mode, if the setting differs from its default.
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
        // `sweep_interval`: a program may set one interval for all its stores, and a store without a sweeper behaves
        // the same with any interval.
        _ => false,
    })
}

fn check(address: &Address, config: &RedisConfig, is_set: impl Fn(&str) -> bool) -> Result<()> {
    let mode =
        Mode { kind: address.kind(), has_tls: address.has_tls(config), format: config.format, index: config.index };
    match RULES.iter().find(|rule| !(rule.is_used)(&mode) && is_set(rule.option)) {
        Some(Rule { option, explanation, .. }) => {
            Err(Error::invalid(format!("`{option}` is not used here: {explanation}")))
        }
        None => Ok(()),
    }
}
