//! The address of the server, parsed from a URL.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use kv_core::{Error, Result, StoreUrl};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use tokio_postgres::config::Host;
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::config::PostgresConfig;
use crate::tls::{self, SslMode};
use crate::url_options::UrlOptions;

/// The URL schemes of this adapter.
pub(crate) const SCHEMES: [&str; 2] = ["postgres", "postgresql"];

/// A server, and the settings to connect to it. The `Debug` output contains no secret.
#[derive(Clone)]
pub(crate) struct Address {
    pub(crate) config: tokio_postgres::Config,
    pub(crate) tls: MakeRustlsConnect,
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Address").field("hosts", &self.config.get_hosts()).finish_non_exhaustive()
    }
}

impl Address {
    /// Parses a URL into the address of the server and the settings of the store.
    ///
    /// # Errors
    /// `Invalid`. The error text never contains the URL.
    pub(crate) fn parse(url: &StoreUrl) -> Result<(Self, PostgresConfig)> {
        if !SCHEMES.contains(&url.scheme()) {
            return Err(Error::invalid("the URL scheme must be `postgres:` or `postgresql:`"));
        }
        let mut options = UrlOptions::new(url.options()?);
        // libpq writes `connect_timeout` as a number of seconds without a unit.
        if let Some(seconds) = options.store.get("connect_timeout").and_then(|text| text.parse::<u32>().ok()) {
            options.store.insert("connect_timeout".into(), format!("{seconds}s"));
        }
        let settings: PostgresConfig =
            format!("{}:?{}", url.scheme(), query(&options.store)).parse::<StoreUrl>()?.options()?;

        let mut text = format!("postgresql:{}", url.rest());
        if !options.driver.is_empty() {
            text = format!("{text}?{}", query(&options.driver));
        }
        let mut config: tokio_postgres::Config = text.parse().map_err(|_| {
            Error::invalid("the URL is not valid for PostgreSQL: `postgres://user:password@host:port/database`")
        })?;
        if config.get_hosts().is_empty() && config.get_hostaddrs().is_empty() {
            config.host("localhost");
        }
        // If there is a `hostaddr`, the driver connects to this address, and uses `host` only to verify the
        // certificate.
        let addresses: Vec<_> = config.get_hostaddrs().iter().map(|address| Host::Tcp(address.to_string())).collect();
        if config.get_hosts().is_empty() {
            for address in config.get_hostaddrs().to_vec() {
                config.host(address.to_string());
            }
        }
        let mode = match options.ssl_mode()? {
            Some(mode) => mode,
            None if addresses.is_empty() => SslMode::default_for(config.get_hosts()),
            None => SslMode::default_for(&addresses),
        };
        options.check(mode, settings.pooled)?;
        config.ssl_mode(mode.to_driver());
        let tls = tls::connector(mode, &options.files())?;
        Ok((Self { config, tls }, settings))
    }

    /// Parses `listen_url`, the URL of the server itself, to which the listener connects.
    ///
    /// # Errors
    /// The errors of [`Address::parse`], and `Invalid` if the URL has a setting of the store, which belongs in the store's URL.
    pub(crate) fn parse_listen_url(url: &str) -> Result<Self> {
        let url: StoreUrl = url.parse()?;
        if UrlOptions::new(url.options()?).store.is_empty() {
            return Ok(Self::parse(&url)?.0);
        }
        Err(Error::invalid("`listen_url` has an option that only the URL of the store may have"))
    }

    /// Completes the settings of the URL with the settings that every connection of the store needs.
    pub(crate) fn apply(&mut self, settings: &PostgresConfig) {
        let config = &mut self.config;
        config.connect_timeout(settings.connect_timeout);
        if config.get_tcp_user_timeout().is_none() {
            config.tcp_user_timeout(settings.operation_timeout);
        }
        // Two hours is the driver's default. This is too long to notice a lost connection.
        if config.get_keepalives_idle() == Duration::from_secs(2 * 60 * 60) {
            config.keepalives_idle(Duration::from_secs(30));
        }
        if config.get_application_name().is_none() {
            config.application_name("anykv");
        }
        // A pooler refuses session options, and several applications share its sessions.
        if !settings.pooled {
            let options = format!("{} {}", config.get_options().unwrap_or_default(), settings.session_options());
            config.options(options.trim());
        }
    }
}

/// Formats options as the query of a URL.
fn query(options: &BTreeMap<String, String>) -> String {
    let encode = |text| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
    let pairs: Vec<_> = options.iter().map(|(name, value)| format!("{name}={}", encode(value))).collect();
    pairs.join("&")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(url: &str) -> Result<(Address, PostgresConfig)> {
        Address::parse(&url.parse()?)
    }

    fn driver_mode(url: &str) -> tokio_postgres::config::SslMode {
        parse(url).unwrap().0.config.get_ssl_mode()
    }

    #[test]
    fn a_url_has_the_same_meaning_as_for_the_driver() {
        let (address, settings) = parse(
            "postgresql://ada:p%40ss%2Fw@127.0.0.1:54,localhost/db?table=t&connect_timeout=7&application_name=a%26b",
        )
        .unwrap();
        let config = &address.config;
        assert_eq!((config.get_user(), config.get_password()), (Some("ada"), Some(b"p@ss/w".as_slice())));
        assert_eq!((config.get_ports(), config.get_dbname()), ([54, 5432].as_slice(), Some("db")));
        assert_eq!(config.get_application_name(), Some("a&b"));
        assert_eq!((settings.table.as_str(), settings.connect_timeout), ("t", Duration::from_secs(7)));
        let (socket, _) = parse("postgres://ada@%2Fvar%2Frun/db?password=secret").unwrap();
        assert_eq!(socket.config.get_hosts(), [Host::Unix("/var/run".into())]);
        let (socket, _) = parse("postgres:///db?host=/var/run&user=ada&connect_timeout=2s").unwrap();
        assert_eq!(
            (socket.config.get_hosts(), socket.config.get_user()),
            ([Host::Unix("/var/run".into())].as_slice(), Some("ada"))
        );
        assert!(parse("postgres://host:port/db?sslmode=disable").is_err());
    }

    #[test]
    fn only_an_explicit_sslmode_allows_plain_text_to_another_machine() {
        use tokio_postgres::config::SslMode::{Disable, Prefer, Require};
        assert_eq!(driver_mode("postgres://localhost/db"), Disable);
        assert_eq!(driver_mode("postgres://[::1]/db"), Disable);
        assert_eq!(driver_mode("postgres://%2Ftmp/db"), Disable);
        assert_eq!(driver_mode("postgres://db.example.org/db?sslmode=disable"), Disable);
        assert_eq!(driver_mode("postgres://db.example.org/db?sslmode=prefer"), Prefer);
        assert_eq!(driver_mode("postgres://db.example.org/db?sslmode=require"), Require);
        assert!(parse("postgres://localhost/db?sslmode=verify_full").is_err());
        assert!(parse("postgres://localhost/db?sslmode=verify-full&sslrootcert=/none").is_err());
    }

    #[test]
    fn an_option_without_effect_is_refused() {
        for (name, url) in [
            ("sslrootcert", "postgres://localhost/db?sslrootcert=/none"),
            ("sslrootcert", "postgres://db.example.org/db?sslmode=prefer&sslrootcert=/none"),
            ("sslcert", "postgres://localhost/db?sslcert=/none&sslkey=/none"),
            ("sslkey", "postgres://db.example.org/db?sslmode=disable&sslkey=/none"),
            ("sslnegotiation", "postgres://localhost/db?sslnegotiation=direct"),
            ("lock_timeout", "postgres://localhost/db?pooled=true&lock_timeout=1s"),
            ("watch_loss_bound", "postgres://localhost/db?pooled=true&watch_loss_bound=1s"),
        ] {
            let error = parse(url).unwrap_err();
            assert!(error.message().contains(&format!("`{name}`")), "{url}: {error}");
        }
        assert!(parse("postgres://localhost/db?lock_timeout=1s").is_ok());
        assert!(Address::parse_listen_url("postgres://localhost/db?table=t").is_err());
        assert!(Address::parse_listen_url("postgres://localhost/db?user=u").is_ok());
    }

    #[test]
    fn hostaddr_alone_decides_whether_a_connection_is_local() {
        use tokio_postgres::config::SslMode::{Disable, Require};
        assert_eq!(driver_mode("postgres://u:p@localhost/db?hostaddr=203.0.113.5"), Require);
        assert_eq!(driver_mode("postgres://u:p@%2Ftmp/db?hostaddr=203.0.113.5"), Require);
        assert_eq!(driver_mode("postgres:///db?host=localhost,localhost&hostaddr=127.0.0.1,203.0.113.5"), Require);
        assert_eq!(driver_mode("postgres://u:p@db.example.org/db?hostaddr=127.0.0.1"), Disable);
        assert_eq!(driver_mode("postgres:///db?hostaddr=127.0.0.1"), Disable);
    }

    #[test]
    fn hostaddr_without_host_is_the_name_to_verify() {
        let (address, _) = parse("postgres:///db?hostaddr=203.0.113.5,::1").unwrap();
        assert_eq!(address.config.get_hosts(), [Host::Tcp("203.0.113.5".into()), Host::Tcp("::1".into())]);
        assert_eq!(address.config.get_hostaddrs().len(), 2);
        assert_eq!(address.config.get_ssl_mode(), tokio_postgres::config::SslMode::Require);
    }

    #[test]
    fn no_error_and_no_debug_output_contains_a_secret() {
        for url in [
            "postgres://ada:c4n4ry@host:bad/db",
            "postgres://ada:c4n4ry@host/db?sslmode=x",
            "postgres://ada:c4n4ry@localhost/db?port=c4n4ry",
            "postgres://localhost/db?tabel=c4n4ry",
            "postgres://u:a?c4n4ry=1@h",
            "postgres://localhost/db?sslmode=c4n4ry",
            "postgres://localhost/db?target_session_attrs=c4n4ry",
            "postgres://localhost/db?sslmode=require&sslrootcert=/c4n4ry",
            "postgres://localhost/db?table=t&sync=c4n4ry",
            "c4n4ry://localhost/db",
            "postgres://localhost/db?password=c4n4ry&operation_timeout=c4n4ry7",
        ] {
            let error = parse(url).unwrap_err();
            let text = format!("{error} {error:?}");
            assert!(!text.contains("c4n4ry"), "{text}");
        }
        let (address, settings) =
            parse("postgres://ada:c4n4ry@localhost/db?listen_url=postgres://a:c4n4ry@h/db").unwrap();
        assert!(!format!("{address:?} {settings:?}").contains("c4n4ry"));
    }

    #[test]
    fn a_setting_that_would_allow_an_endless_wait_is_refused() {
        for option in [
            "connect_timeout=0",
            "connect_timeout=0s",
            "operation_timeout=100us",
            "lock_timeout=0s",
            "sweep_interval=0s",
            "connections=0",
        ] {
            let (name, _) = option.split_once('=').unwrap();
            let url: StoreUrl = format!("postgres://localhost/kv?{option}").parse().unwrap();
            let (_, config) = Address::parse(&url).unwrap();
            let error = config.limits(true).unwrap_err();
            assert!(error.message().contains(name), "{option}: {error}");
        }
    }
}
