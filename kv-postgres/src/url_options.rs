//! The options of a URL. Each option has a reader, and a condition under which it has an effect.

use std::collections::BTreeMap;

use kv_core::{Error, Result};

use crate::tls::{Files, SslMode};

/// The part of the program that reads an option.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reader {
    /// The driver, tokio-postgres.
    Driver,
    /// The module [`crate::tls`].
    Tls,
    /// The settings of the store, [`crate::config::PostgresConfig`].
    Store,
}

/// The condition under which an option has an effect. An option without an effect is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Condition {
    Always,
    /// `sslmode` encrypts.
    Encrypted,
    /// `sslmode` verifies the server's certificate if there is a root certificate.
    Verified,
    /// The store has its own sessions, because `pooled` is not set.
    OwnSessions,
    /// The store receives notifications: it is not behind a pooler, or `listen_url` is set.
    Listens,
}

/// All options, except the settings of [`crate::config::PostgresConfig`] that always have an effect.
const OPTIONS: [(&str, Reader, Condition); 23] = [
    ("application_name", Reader::Driver, Condition::Always),
    ("channel_binding", Reader::Driver, Condition::Always),
    ("dbname", Reader::Driver, Condition::Always),
    ("host", Reader::Driver, Condition::Always),
    ("hostaddr", Reader::Driver, Condition::Always),
    ("keepalives", Reader::Driver, Condition::Always),
    ("keepalives_idle", Reader::Driver, Condition::Always),
    ("keepalives_interval", Reader::Driver, Condition::Always),
    ("keepalives_retries", Reader::Driver, Condition::Always),
    ("load_balance_hosts", Reader::Driver, Condition::Always),
    ("lock_timeout", Reader::Store, Condition::OwnSessions),
    ("options", Reader::Driver, Condition::Always),
    ("password", Reader::Driver, Condition::Always),
    ("port", Reader::Driver, Condition::Always),
    ("sslcert", Reader::Tls, Condition::Encrypted),
    ("sslkey", Reader::Tls, Condition::Encrypted),
    ("sslmode", Reader::Tls, Condition::Always),
    ("sslnegotiation", Reader::Driver, Condition::Encrypted),
    ("sslrootcert", Reader::Tls, Condition::Verified),
    ("target_session_attrs", Reader::Driver, Condition::Always),
    ("tcp_user_timeout", Reader::Driver, Condition::Always),
    ("user", Reader::Driver, Condition::Always),
    ("watch_loss_bound", Reader::Store, Condition::Listens),
];

/// The options of one URL, by reader.
#[derive(Default)]
pub(crate) struct UrlOptions {
    pub(crate) driver: BTreeMap<String, String>,
    tls: BTreeMap<&'static str, String>,
    pub(crate) store: BTreeMap<String, String>,
    /// The conditions of the given options.
    conditions: Vec<(&'static str, Condition)>,
}

impl UrlOptions {
    pub(crate) fn new(options: BTreeMap<String, String>) -> Self {
        let mut sorted = Self { store: options, ..Self::default() };
        for (name, reader, condition) in OPTIONS {
            let Some(value) = sorted.store.remove(name) else { continue };
            sorted.conditions.push((name, condition));
            match reader {
                Reader::Driver => drop(sorted.driver.insert(name.to_owned(), value)),
                Reader::Tls => drop(sorted.tls.insert(name, value)),
                Reader::Store => drop(sorted.store.insert(name.to_owned(), value)),
            }
        }
        sorted
    }

    /// Returns the value of `sslmode`.
    pub(crate) fn ssl_mode(&self) -> Result<Option<SslMode>> {
        self.tls.get("sslmode").map(|text| SslMode::parse(text)).transpose()
    }

    /// Returns the paths of the files for TLS.
    pub(crate) fn files(&self) -> Files {
        let file = |name| self.tls.get(name).cloned();
        Files { root: file("sslrootcert"), certificate: file("sslcert"), key: file("sslkey") }
    }

    /// Checks that each given option has an effect.
    ///
    /// # Errors
    /// `Invalid` for an option without an effect. The error text contains the name of the option.
    pub(crate) fn check(&self, mode: SslMode, pooled: bool) -> Result<()> {
        let listens = !pooled || self.store.contains_key("listen_url");
        for (name, condition) in &self.conditions {
            let (has_effect, needs) = match condition {
                Condition::Always => (true, ""),
                Condition::Encrypted => (mode != SslMode::Disable, "an `sslmode` that encrypts"),
                Condition::Verified => {
                    (!matches!(mode, SslMode::Disable | SslMode::Prefer), "an `sslmode` that verifies")
                }
                Condition::OwnSessions => (!pooled, "a store without `pooled`"),
                Condition::Listens => (listens, "a store without `pooled`, or `listen_url`"),
            };
            if !has_effect {
                return Err(Error::invalid(format!("the option `{name}` needs {needs}")));
            }
        }
        Ok(())
    }
}
