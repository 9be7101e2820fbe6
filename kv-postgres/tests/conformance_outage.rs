//! The cases of the conformance suite in which the server is away: in a black hole, refusing connections, and killed.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::sync::LazyLock;
use std::time::Duration;

use conformance_tests::{Fresh, Suite};
use kv_core::{Capabilities, Durability, Result, Survives};
use kv_postgres::{CAPABILITIES, PostgresStore};
use test_servers::postgres::Postgres;
use test_servers::proxy::Proxy;

/// One for all proxies; the kernel ends it with this process.
static SERVER: LazyLock<Postgres> = LazyLock::new(|| Postgres::start().unwrap());

/// The servers do not wait for the disk, and the store finds that out.
const DECLARED: Capabilities = CAPABILITIES.with_durability(Durability::surviving(Survives::Server));

async fn open(url: String, fresh: Fresh) -> Result<PostgresStore> {
    // Proving a password takes a while in a program that was compiled without optimization.
    let short = Duration::from_secs(3);
    let builder = PostgresStore::builder().url(&url)?.table(fresh.name());
    builder.operation_timeout(short).connect_timeout(short).open().await
}

/// A proxy for each store.
fn proxied(name: &str, cut: impl Fn(&Proxy) + Send + Sync + 'static) -> Suite {
    let lay = || Proxy::start(SERVER.address());
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
    Suite::over_links(name, DECLARED, lay, open, cut, heal)
}

/// A server for each store.
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
