//! The cases of the conformance suite in which the server is away: in a black hole, and refusing connections.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use conformance_tests::{Fresh, Suite};
use kv_core::{Error, Result};
use kv_redis::STANDALONE;
use test_servers::proxy::Proxy;

mod support;

/// A proxy for each store, by its name.
#[derive(Clone, Default)]
struct Proxies(Arc<Mutex<HashMap<String, Arc<Proxy>>>>);

impl Proxies {
    fn of(&self, fresh: &Fresh) -> Result<Arc<Proxy>> {
        let mut proxies = self.0.lock().unwrap();
        if let Some(proxy) = proxies.get(fresh.name()) {
            return Ok(Arc::clone(proxy));
        }
        let proxy = Proxy::start(support::server().address()).map_err(|error| Error::unavailable(error.to_string()))?;
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
            let builder = support::at(&format!("redis://{}", proxy?.address())).namespace(fresh.name());
            let short = Duration::from_secs(1);
            builder.operation_timeout(short).connect_timeout(short).heartbeat(short / 4).open().await
        }
    };
    let cut = move |fresh: Fresh| std::future::ready(cutting.of(&fresh).map(|proxy| cut(&proxy)));
    let heal = move |fresh: Fresh| std::future::ready(healing.of(&fresh).map(|proxy| proxy.pass()));
    Suite::new(name, STANDALONE, open).with_second_handle().with_outage(cut, heal)
}

mod black_hole {
    use super::{Proxy, suite};

    conformance_tests::outage! { suite("redis-black-hole", Proxy::black_hole) }
}

mod refused {
    use super::suite;

    conformance_tests::outage! {
        suite("redis-refused", |proxy| {
            proxy.refuse();
            proxy.close_all();
        })
    }
}
