//! The cases of the conformance suite in which the server is away: in a black hole, and refusing connections.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex};
use std::time::Duration;

use conformance_tests::{Fresh, Suite};
use kv_core::{Durability, Error, Result, Survives};
use kv_postgres::{CAPABILITIES, PostgresStore};
use test_servers::postgres::Postgres;
use test_servers::proxy::Proxy;

/// One for all cases; the kernel ends it with this process.
static SERVER: LazyLock<Postgres> = LazyLock::new(|| Postgres::start().unwrap());

/// A proxy for each store, by its name.
#[derive(Clone, Default)]
struct Proxies(Arc<Mutex<HashMap<String, Arc<Proxy>>>>);

impl Proxies {
    fn of(&self, fresh: &Fresh) -> Result<Arc<Proxy>> {
        let mut proxies = self.0.lock().unwrap();
        if let Some(proxy) = proxies.get(fresh.name()) {
            return Ok(Arc::clone(proxy));
        }
        let proxy = Proxy::start(SERVER.address()).map_err(|error| Error::unavailable(error.to_string()))?;
        let proxy = Arc::new(proxy);
        proxies.insert(fresh.name().to_owned(), Arc::clone(&proxy));
        Ok(proxy)
    }
}

fn suite(name: &str, cut: impl Fn(&Proxy) + Copy + Send + Sync + 'static) -> Suite {
    let proxies = Proxies::default();
    let (opening, cutting, healing) = (proxies.clone(), proxies.clone(), proxies);
    let open = move |fresh: Fresh| {
        let proxy = opening.of(&fresh);
        async move {
            let port = proxy?.port().to_string();
            let url = SERVER.url().replace(&format!(":{}/", SERVER.port()), &format!(":{port}/"));
            // Proving a password takes a while in a program that was compiled without optimization.
            let short = Duration::from_secs(3);
            let builder = PostgresStore::builder().url(&url)?.table(fresh.name());
            builder.operation_timeout(short).connect_timeout(short).open().await
        }
    };
    let cut = move |fresh: Fresh| std::future::ready(cutting.of(&fresh).map(|proxy| cut(&proxy)));
    let heal = move |fresh: Fresh| std::future::ready(healing.of(&fresh).map(|proxy| proxy.pass()));
    let declared = CAPABILITIES.with_durability(Durability::surviving(Survives::Server));
    Suite::new(name, declared, open).with_second_handle().with_outage(cut, heal)
}

mod black_hole {
    use super::{Proxy, suite};

    conformance_tests::outage! { suite("postgres-black-hole", Proxy::black_hole) }
}

mod refused {
    use super::suite;

    conformance_tests::outage! {
        suite("postgres-refused", |proxy| {
            proxy.refuse();
            proxy.close_all();
        })
    }
}
