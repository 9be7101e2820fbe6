//! The addresses of the servers.

use kv_core::{Error, Result, StoreUrl};
use redis::{Client, ConnectionAddr, ConnectionInfo, IntoConnectionInfo, ProtocolVersion, RedisConnectionInfo};

use crate::config::{RedisConfig, Secret};
use crate::options;
use crate::server::endpoint::Endpoint;
use crate::server::tls;

/// The names of the URL schemes.
pub(crate) const TCP: &str = "redis";
pub(crate) const TLS: &str = "rediss";
pub(crate) const UNIX: &str = "redis+unix";
pub(crate) const CLUSTER: &str = "redis-cluster";

/// The library version that the server lists for our connections (`CLIENT LIST`).
const LIB_VERSION: &str = env!("CARGO_PKG_VERSION");

/// The addresses and logins of the servers with which a store is opened.
#[derive(Debug, Clone)]
pub(crate) enum Address {
    Server(Box<ConnectionInfo>),
    /// Some nodes of a cluster.
    Cluster(Vec<ConnectionInfo>),
}

/// The kind of an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AddressKind {
    /// One server through TCP, with or without TLS.
    Tcp,
    /// One server through a Unix socket.
    Socket,
    /// A cluster.
    Cluster,
}

impl Address {
    /// Returns the address in a URL.
    ///
    /// # Errors
    /// `Invalid` for another scheme, for an invalid address, and for a login or a database that differs from the one in
    /// the options.
    pub(crate) fn from_url(url: &StoreUrl, config: &RedisConfig) -> Result<Self> {
        let scheme = url.scheme();
        let address = if scheme == TCP || scheme == TLS {
            parsed(&format!("{scheme}:{}", url.rest())).map(|info| Self::Server(Box::new(info)))
        } else if scheme == UNIX {
            let path = url.path()?;
            let path = path.strip_prefix("//").unwrap_or(&path);
            if !path.starts_with('/') {
                return Err(Error::invalid("`redis+unix:` needs the absolute path of a socket: `redis+unix:///PATH`"));
            }
            let info = ConnectionAddr::Unix(path.into()).into_connection_info().map_err(|_| missing_address())?;
            Ok(Self::Server(Box::new(info)))
        } else if scheme == CLUSTER {
            nodes(url.rest(), config.tls).map(Self::Cluster)
        } else {
            Err(Error::invalid(format!("`{scheme}:` is not a scheme of Redis")))
        }?;
        check_conflicts(url, &address, config)?;
        Ok(address)
    }

    pub(crate) fn is_cluster(&self) -> bool {
        matches!(self, Self::Cluster(_))
    }

    pub(crate) fn kind(&self) -> AddressKind {
        match self {
            Self::Cluster(_) => AddressKind::Cluster,
            Self::Server(info) if matches!(info.addr(), ConnectionAddr::Unix(_)) => AddressKind::Socket,
            Self::Server(_) => AddressKind::Tcp,
        }
    }

    /// True if connections to the address use TLS.
    pub(crate) fn has_tls(&self, config: &RedisConfig) -> bool {
        let is_tls = |info: &ConnectionInfo| matches!(info.addr(), ConnectionAddr::TcpTls { .. });
        match self {
            Self::Server(info) => is_tls(info),
            Self::Cluster(nodes) => config.tls || nodes.iter().any(is_tls),
        }
    }

    /// Returns the number of the database: the number in the settings if they have one, otherwise the number in the
    /// address.
    pub(crate) fn db(&self, config: &RedisConfig) -> i64 {
        config.db.unwrap_or_else(|| match self {
            Self::Server(info) => info.redis_settings().db(),
            Self::Cluster(_) => 0,
        })
    }

    /// Returns each server with the settings applied.
    ///
    /// # Errors
    /// `Invalid` for a setting that does not apply to the address, and for invalid settings.
    pub(crate) fn endpoints(&self, config: &RedisConfig) -> Result<Vec<Endpoint>> {
        options::check_config(self, config)?;
        let nodes = match self {
            Self::Server(info) => std::slice::from_ref(info.as_ref()),
            Self::Cluster(nodes) if nodes.is_empty() => return Err(missing_address()),
            Self::Cluster(nodes) => nodes,
        };
        let has_files = config.ca.is_some() || config.cert.is_some() || config.key.is_some();
        let tls = if !self.has_tls(config) {
            None
        } else if nodes.iter().any(has_driver_tls) && !has_files {
            install_crypto_provider();
            None
        } else {
            Some(tls::connector(config)?)
        };
        nodes.iter().map(|info| Ok(Endpoint::new(client(info, config)?, tls.clone()))).collect()
    }
}

/// True for an address with TLS settings of a `redis::Client`, which only the driver can read.
fn has_driver_tls(info: &ConnectionInfo) -> bool {
    match info.addr() {
        ConnectionAddr::TcpTls { insecure, tls_params, .. } => *insecure || tls_params.is_some(),
        _ => false,
    }
}

/// Refuses a database, a user or a password in front of the options that differs from that in an option, because the
/// store can use only one of the two values. The same value may be given twice.
fn check_conflicts(url: &StoreUrl, address: &Address, config: &RedisConfig) -> Result<()> {
    let info = match address {
        Address::Server(info) => Some(info.as_ref()),
        Address::Cluster(nodes) => nodes.first(),
    };
    let Some(settings) = info.map(ConnectionInfo::redis_settings) else { return Ok(()) };
    let differ = |one: Option<&str>, other: Option<&str>| one.is_some() && other.is_some() && one != other;
    // The path in the URL of a socket is not a database. Without a path, the driver assumes database 0.
    let has_db = matches!(url.scheme(), TCP | TLS)
        && url.rest().trim_start_matches('/').split_once('/').is_some_and(|(_, db)| !db.is_empty());
    let conflicts = [
        ("db", "a database", has_db && config.db.is_some_and(|db| db != settings.db())),
        ("user", "a user", differ(settings.username(), config.user.as_deref())),
        ("pass", "a password", differ(settings.password(), config.pass.as_ref().map(Secret::as_str))),
    ];
    match conflicts.into_iter().find(|(.., is_conflict)| *is_conflict) {
        Some((option, name, _)) => Err(Error::invalid(format!(
            "the address in the URL has {name}, and the option `{option}` has another one: leave one of them out"
        ))),
        None => Ok(()),
    }
}

/// Parses `[USER:PASSWORD@]HOST:PORT[,HOST:PORT…]` into one address for each host.
fn nodes(rest: &str, tls: bool) -> Result<Vec<ConnectionInfo>> {
    let rest = rest.strip_prefix("//").unwrap_or(rest).trim_end_matches('/');
    let (login, hosts) = match rest.rsplit_once('@') {
        Some((login, hosts)) => (format!("{login}@"), hosts),
        None => (String::new(), rest),
    };
    if hosts.contains('/') {
        return Err(Error::invalid(
            "a cluster only has database 0, so its URL has no database: `redis-cluster://HOST:PORT`",
        ));
    }
    let scheme = if tls { TLS } else { TCP };
    hosts.split(',').filter(|host| !host.is_empty()).map(|host| parsed(&format!("{scheme}://{login}{host}"))).collect()
}

fn parsed(url: &str) -> Result<ConnectionInfo> {
    // The driver's error may be the source, because it does not contain the URL and its password.
    url.into_connection_info().map_err(|error| {
        Error::invalid("the URL has no valid address: it must be `redis://[USER:PASSWORD@]HOST[:PORT][/DB]`")
            .with_source(error)
    })
}

fn missing_address() -> Error {
    Error::invalid("a store needs the address of a server: none was given")
}

fn client(info: &ConnectionInfo, config: &RedisConfig) -> Result<Client> {
    let mut settings: RedisConnectionInfo =
        info.redis_settings().clone().set_protocol(ProtocolVersion::RESP3).set_lib_name("anykv", LIB_VERSION);
    if let Some(db) = config.db {
        settings = settings.set_db(db);
    }
    if let Some(user) = &config.user {
        settings = settings.set_username(user);
    }
    if let Some(pass) = &config.pass {
        settings = settings.set_password(pass.as_str());
    }
    let mut info = info.clone().set_redis_settings(settings);
    if config.nodelay {
        let tcp = info.tcp_settings().clone().set_nodelay(true);
        info = info.set_tcp_settings(tcp);
    }
    Client::open(info).map_err(|error| Error::invalid("the settings of the connection are invalid").with_source(error))
}

/// Installs a default crypto provider for rustls if the process has none, because the driver uses the default provider
/// and fails without one. The store calls this function only if the driver makes the connections.
fn install_crypto_provider() {
    if rustls::crypto::CryptoProvider::get_default().is_none() {
        // The call fails if another thread has installed a provider first. That provider serves as well.
        let _ = rustls::crypto::ring::default_provider().install_default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(url: &str) -> Result<Address> {
        let url: StoreUrl = url.parse().unwrap();
        Address::from_url(&url, &url.options().unwrap())
    }

    #[test]
    fn every_scheme_is_parsed() {
        let Address::Server(info) = address("redis://ada:s%40crt@h:1/3").unwrap() else { panic!() };
        assert_eq!(info.addr(), &ConnectionAddr::Tcp("h".into(), 1));
        let settings = info.redis_settings();
        assert_eq!((settings.username(), settings.password(), settings.db()), (Some("ada"), Some("s@crt"), 3));
        let Address::Server(info) = address("rediss://h").unwrap() else { panic!() };
        assert!(matches!(info.addr(), ConnectionAddr::TcpTls { port: 6_379, insecure: false, .. }));
        let Address::Server(info) = address("redis+unix:///a/b%20c.sock?pass=x").unwrap() else { panic!() };
        assert_eq!(info.addr(), &ConnectionAddr::Unix("/a/b c.sock".into()));
        let Address::Cluster(nodes) = address("redis-cluster://u:p@a:1,b:2").unwrap() else { panic!() };
        assert_eq!(nodes.len(), 2);
        assert_eq!(nodes[1].addr(), &ConnectionAddr::Tcp("b".into(), 2));
        assert_eq!(nodes[1].redis_settings().password(), Some("p"));
    }

    #[test]
    fn the_error_for_an_invalid_address_does_not_contain_its_password() {
        for url in [
            "redis:canary",
            "redis+unix:relative",
            "redis://ada:canary@",
            "redis-cluster://a:1/3?pass=canary",
            "postgres://canary",
        ] {
            let error = address(url).unwrap_err();
            assert_eq!(error.kind(), kv_core::ErrorKind::Invalid, "{url}");
            assert!(!format!("{error} {error:?}").contains("canary"), "{error:?}");
        }
        let none = Address::Cluster(vec![]).endpoints(&RedisConfig::default());
        assert!(none.is_err());
    }

    #[test]
    fn the_settings_are_applied_to_the_address() {
        let config = RedisConfig { db: Some(2), pass: Some("canary".into()), ..RedisConfig::default() };
        let endpoints = address("redis://h").unwrap().endpoints(&config).unwrap();
        let settings = endpoints[0].info().redis_settings();
        assert_eq!((settings.db(), settings.password()), (2, Some("canary")));
        assert!(!format!("{:?} {:?}", endpoints[0], endpoints[0].info()).contains("canary"));
        let on_cluster = Address::Cluster(vec!["redis://h".into_connection_info().unwrap()]);
        assert!(on_cluster.endpoints(&config).is_err());
    }
}
