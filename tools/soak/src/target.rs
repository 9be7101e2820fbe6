//! The store under test: a URL of the caller, or private files or servers.

use std::time::Duration;

use anykv::{Clock, SystemClock};
use tempfile::TempDir;
use test_servers::cluster::RedisCluster;
use test_servers::postgres::Postgres;
use test_servers::redis::Redis;

use crate::error::Result;

/// The longest time until a server has ended the sessions of a killed client.
const SETTLE_TIMEOUT: Duration = Duration::from_secs(20);

/// The time in which a server of the caller ends the sessions of a killed client. This program does not ask such a
/// server for its sessions.
const SETTLE_UNKNOWN: Duration = Duration::from_millis(500);

#[derive(Debug)]
pub(crate) struct Store {
    pub(crate) url: String,
    backend: Backend,
}

#[derive(Debug)]
enum Backend {
    Files { _folder: TempDir },
    Redis(Redis),
    Cluster(RedisCluster),
    Postgres(Postgres),
    Caller,
}

impl Store {
    /// Creates an empty store. A URL is used as it is.
    pub(crate) fn start(name: &str) -> Result<Self> {
        let files = |scheme: &str| -> Result<Self> {
            let folder = TempDir::with_prefix("soak-")?;
            let url = format!("{scheme}:{}", folder.path().join("store").display());
            Ok(Self { url, backend: Backend::Files { _folder: folder } })
        };
        Ok(match name {
            "sqlite" | "sled" => files(name)?,
            "redis" => {
                let server = Redis::builder().append_only().start()?;
                Self { url: server.url(), backend: Backend::Redis(server) }
            }
            "redis-cluster" => {
                let cluster = RedisCluster::start()?;
                Self { url: cluster.url(), backend: Backend::Cluster(cluster) }
            }
            "postgres" => {
                let server = Postgres::builder().fsync(true).start()?;
                Self { url: server.url(), backend: Backend::Postgres(server) }
            }
            url if url.contains(':') => Self { url: url.to_owned(), backend: Backend::Caller },
            other => return Err(format!("`{other}` is neither the name of a store nor a URL").into()),
        })
    }

    /// Waits until the server has ended the sessions of a killed client, because a request that the server has received
    /// may take effect until then. No other client may be connected.
    pub(crate) async fn settle(&mut self) -> Result<()> {
        let end = SystemClock.now() + SETTLE_TIMEOUT;
        while self.has_clients()? {
            if SystemClock.now() > end {
                return Err("the server has not ended the sessions of the killed client".into());
            }
            SystemClock.sleep(Duration::from_millis(5)).await;
        }
        if matches!(self.backend, Backend::Caller) {
            SystemClock.sleep(SETTLE_UNKNOWN).await;
        }
        Ok(())
    }

    fn has_clients(&mut self) -> Result<bool> {
        // The listing contains the session that requests the listing.
        let is_crowded = |server: &Redis| -> Result<bool> {
            let clients = server.cli(&["CLIENT", "LIST", "TYPE", "normal"])?;
            Ok(clients.lines().filter(|line| !line.is_empty()).count() > 1)
        };
        Ok(match &mut self.backend {
            Backend::Files { .. } | Backend::Caller => false,
            Backend::Redis(server) => is_crowded(server)?,
            Backend::Cluster(cluster) => {
                cluster.nodes().iter().map(is_crowded).collect::<Result<Vec<_>>>()?.contains(&true)
            }
            Backend::Postgres(server) => {
                let others = "select count(*) from pg_stat_activity where backend_type = 'client backend' \
                              and pid <> pg_backend_pid()";
                server.psql("kv", others)?.trim() != "0"
            }
        })
    }

    /// Kills the server as a crash would.
    pub(crate) fn kill_server(&mut self) -> Result<()> {
        match &mut self.backend {
            Backend::Redis(server) => Ok(server.kill()?),
            Backend::Postgres(server) => Ok(server.kill()?),
            Backend::Files { .. } | Backend::Cluster(_) | Backend::Caller => {
                Err("only the servers of `redis` and `postgres` can be killed".into())
            }
        }
    }

    /// Starts the killed server again, with the same data.
    pub(crate) fn restart_server(&mut self) -> Result<()> {
        match &mut self.backend {
            Backend::Redis(server) => Ok(server.restart()?),
            Backend::Postgres(server) => Ok(server.restart()?),
            Backend::Files { .. } | Backend::Cluster(_) | Backend::Caller => Ok(()),
        }
    }
}
