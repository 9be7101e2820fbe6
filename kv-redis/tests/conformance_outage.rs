//! The cases of the conformance suite in which the server is away: in a black hole, refusing connections, and killed.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::time::Duration;

use conformance_tests::{Fresh, Suite};
use kv_core::Result;
use kv_redis::{CAPABILITIES, RedisStore};
use test_servers::proxy::Proxy;
use test_servers::redis::Redis;

mod support;

async fn open(url: String, fresh: Fresh) -> Result<RedisStore> {
    let short = Duration::from_secs(1);
    let builder = support::at(&url).namespace(fresh.name());
    builder.operation_timeout(short).connect_timeout(short).heartbeat(short / 4).open().await
}

/// A proxy for each store.
fn proxied(name: &str, cut: impl Fn(&Proxy) + Send + Sync + 'static) -> Suite {
    let lay = || Proxy::start(support::server().address());
    let open = |proxy: &Proxy, fresh| open(format!("redis://{}", proxy.address()), fresh);
    let cut = move |proxy: &mut Proxy| {
        cut(proxy);
        Ok(())
    };
    let heal = |proxy: &mut Proxy| {
        proxy.pass();
        Ok(())
    };
    Suite::over_links(name, CAPABILITIES, lay, open, cut, heal)
}

/// A server for each store, which keeps what it acknowledged when it is killed.
fn killed() -> Suite {
    let lay = || Redis::builder().append_only().start();
    let open = |server: &Redis, fresh| open(server.url(), fresh);
    let restart = |server: &mut Redis| if server.cli(&["PING"]).is_ok() { Ok(()) } else { server.restart() };
    Suite::over_links("redis-killed", CAPABILITIES, lay, open, Redis::kill, restart)
}

mod black_hole {
    use super::{Proxy, proxied};

    conformance_tests::outage! { proxied("redis-black-hole", Proxy::black_hole) }
}

mod refused {
    use super::proxied;

    conformance_tests::outage! {
        proxied("redis-refused", |proxy| {
            proxy.refuse();
            proxy.close_all();
        })
    }
}

mod killed_server {
    use super::killed;

    conformance_tests::outage! { killed() }
}
