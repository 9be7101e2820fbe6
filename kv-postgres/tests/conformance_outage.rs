//! The outage cases of the conformance suite: the server drops all packets, refuses connections, or is killed.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::sync::LazyLock;
use std::time::Duration;

use conformance_tests::{Fresh, Suite};
use kv_core::{Capabilities, Durability, Result, Survives};
use kv_postgres::{CAPABILITIES, PostgresStore};
use test_servers::postgres::Postgres;
use test_servers::proxy::Proxy;

/// The server behind all proxies. The kernel kills it at the end of this process.
static SERVER: LazyLock<Postgres> = LazyLock::new(|| Postgres::start().unwrap());

/// The servers run without `fsync`, so the store declares a lower durability.
const DECLARED: Capabilities = CAPABILITIES.with_durability(Durability::surviving(Survives::Server));

async fn open(url: String, fresh: Fresh) -> Result<PostgresStore> {
    // Password authentication is slow in a build without optimization.
    let short = Duration::from_secs(3);
    let builder = PostgresStore::builder().url(&url)?.table(fresh.name());
    let builder = builder.watch_loss_bound(Duration::from_millis(500));
    builder.operation_timeout(short).connect_timeout(short).open().await
}

/// A suite with one proxy for each store. `cut` interrupts the connections through the proxy.
fn proxied(name: &str, cut: impl Fn(&Proxy) + Send + Sync + 'static) -> Suite {
    let start = || Proxy::start(SERVER.address());
    let open = |proxy: &Proxy, fresh| {
        let through = SERVER.url().replace(&format!(":{}/", SERVER.port()), &format!(":{}/", proxy.port()));
        open(through, fresh)
    };
    let cut = move |proxy: &mut Proxy| {
        cut(proxy);
        Ok(())
    };
    let heal = |proxy: &mut Proxy| {
        proxy.pass();
        Ok(())
    };
    Suite::over_links(name, DECLARED, start, open, cut, heal)
}

/// A suite with one server for each store. The suite kills the server.
fn killed() -> Suite {
    let open = |server: &Postgres, fresh| open(server.url(), fresh);
    let restart = |server: &mut Postgres| if server.psql("kv", "SELECT 1").is_ok() { Ok(()) } else { server.restart() };
    Suite::over_links("postgres-killed", DECLARED, Postgres::start, open, Postgres::kill, restart)
}

mod black_hole {
    use super::{Proxy, proxied};

    conformance_tests::outage! { proxied("postgres-black-hole", Proxy::black_hole) }
}

mod refused {
    use super::proxied;

    conformance_tests::outage! {
        proxied("postgres-refused", |proxy| {
            proxy.refuse();
            proxy.close_all();
        })
    }
}

mod killed_server {
    use super::killed;

    conformance_tests::outage! { killed() }
}
