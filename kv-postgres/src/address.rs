//! Where the server is, from a URL.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use kv_core::{Error, Result, StoreUrl};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use tokio_postgres::config::Host;
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::config::PostgresConfig;
use crate::tls::{self, Files, SslMode};

/// The options of a URL that are the driver's; the rest are fields of [`PostgresConfig`].
const OF_DRIVER: [&str; 15] = [
    "application_name",
    "channel_binding",
    "dbname",
    "host",
    "hostaddr",
    "keepalives",
    "keepalives_idle",
    "keepalives_interval",
    "keepalives_retries",
    "load_balance_hosts",
    "options",
    "password",
    "port",
    "sslnegotiation",
    "target_session_attrs",
];
const OF_DRIVER_TOO: [&str; 2] = ["tcp_user_timeout", "user"];

/// The schemes of our URLs.
pub(crate) const SCHEMES: [&str; 2] = ["postgres", "postgresql"];

/// A server, and how to connect to it. `Debug` shows no secret.
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
    /// Takes a URL apart: the address, and the settings that stand among its options.
    ///
    /// # Errors
    /// `Invalid`, and never with the URL in it.
    pub(crate) fn parse(url: &StoreUrl) -> Result<(Self, PostgresConfig)> {
        if !SCHEMES.contains(&url.scheme()) {
            return Err(Error::invalid(format!("`{}:` is not `postgres:`", url.scheme())));
        }
        let mut ours: BTreeMap<String, String> = url.options()?;
        let mut theirs = BTreeMap::new();
        for name in OF_DRIVER.iter().chain(&OF_DRIVER_TOO) {
            if let Some(value) = ours.remove(*name) {
                theirs.insert((*name).to_owned(), value);
            }
        }
        let mode = ours.remove("sslmode");
        let files =
            Files { root: ours.remove("sslrootcert"), certificate: ours.remove("sslcert"), key: ours.remove("sslkey") };
        // libpq's is a number of seconds.
        if let Some(seconds) = ours.get("connect_timeout").and_then(|text| text.parse::<u32>().ok()) {
            ours.insert("connect_timeout".into(), format!("{seconds}s"));
        }
        let settings: PostgresConfig = format!("{}:?{}", url.scheme(), query(&ours)).parse::<StoreUrl>()?.options()?;

        let mut text = format!("postgresql:{}", url.rest());
        if !theirs.is_empty() {
            text = format!("{text}?{}", query(&theirs));
        }
        let mut config: tokio_postgres::Config = text.parse().map_err(|_| {
            Error::invalid("the URL is none that PostgreSQL takes: `postgres://user:password@host:port/database`")
        })?;
        if config.get_hosts().is_empty() && config.get_hostaddrs().is_empty() {
            config.host("localhost");
        }
        // The driver connects to the addresses where there are some, and the host is then only the name to be verified.
        let addresses: Vec<_> = config.get_hostaddrs().iter().map(|address| Host::Tcp(address.to_string())).collect();
        if config.get_hosts().is_empty() {
            for address in config.get_hostaddrs().to_vec() {
                config.host(address.to_string());
            }
        }
        let mode = match mode {
            Some(text) => SslMode::parse(&text)?,
            None if addresses.is_empty() => SslMode::default_for(config.get_hosts()),
            None => SslMode::default_for(&addresses),
        };
        config.ssl_mode(mode.of_driver());
        let tls = tls::connector(mode, &files)?;
        Ok((Self { config, tls }, settings))
    }

    /// Sets what every connection of ours has, behind the settings of the URL.
    pub(crate) fn settle(&mut self, settings: &PostgresConfig) {
        let config = &mut self.config;
        config.connect_timeout(settings.connect_timeout);
        if config.get_tcp_user_timeout().is_none() {
            config.tcp_user_timeout(settings.operation_timeout);
        }
        if config.get_keepalives_idle() == Duration::from_secs(2 * 60 * 60) {
            config.keepalives_idle(Duration::from_secs(30));
        }
        if config.get_application_name().is_none() {
            config.application_name("anykv");
        }
        // A pooler refuses options, and a setting of its sessions would be everybody's.
        if !settings.pooled {
            let options = format!("{} {}", config.get_options().unwrap_or_default(), settings.session_options());
            config.options(options.trim());
        }
    }
}

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
    fn urls_as_the_driver_takes_them() {
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
    fn plain_text_leaves_the_machine_only_where_it_is_asked_for() {
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
    fn an_address_decides_what_is_local_whatever_the_host_is_called() {
        use tokio_postgres::config::SslMode::{Disable, Require};
        assert_eq!(driver_mode("postgres://u:p@localhost/db?hostaddr=203.0.113.5"), Require);
        assert_eq!(driver_mode("postgres://u:p@%2Ftmp/db?hostaddr=203.0.113.5"), Require);
        assert_eq!(driver_mode("postgres:///db?host=localhost,localhost&hostaddr=127.0.0.1,203.0.113.5"), Require);
        assert_eq!(driver_mode("postgres://u:p@db.example.org/db?hostaddr=127.0.0.1"), Disable);
        assert_eq!(driver_mode("postgres:///db?hostaddr=127.0.0.1"), Disable);
    }

    #[test]
    fn an_address_alone_is_the_name_to_be_verified() {
        let (address, _) = parse("postgres:///db?hostaddr=203.0.113.5,::1").unwrap();
        assert_eq!(address.config.get_hosts(), [Host::Tcp("203.0.113.5".into()), Host::Tcp("::1".into())]);
        assert_eq!(address.config.get_hostaddrs().len(), 2);
        assert_eq!(address.config.get_ssl_mode(), tokio_postgres::config::SslMode::Require);
    }

    #[test]
    fn no_error_and_no_debug_form_shows_a_secret() {
        for url in [
            "postgres://ada:c4n4ry@host:bad/db",
            "postgres://ada:c4n4ry@host/db?sslmode=x",
            "postgres://ada:c4n4ry@localhost/db?port=c4n4ry",
            "postgres://localhost/db?tabel=c4n4ry",
            "postgres://localhost/db?password=c4n4ry&operation_timeout=c4n4ry7",
        ] {
            let error = parse(url).unwrap_err();
            let shown = format!("{error} {error:?}");
            assert!(!shown.contains("c4n4ry@") && !shown.contains("password=c4n4ry"), "{shown}");
        }
        let (address, settings) =
            parse("postgres://ada:c4n4ry@localhost/db?listen_url=postgres://a:c4n4ry@h/db").unwrap();
        assert!(!format!("{address:?} {settings:?}").contains("c4n4ry"));
    }
}
