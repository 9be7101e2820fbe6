//! The outage cases of the conformance suite: the network drops all packets, the network refuses connections, or the
//! server is killed. Also the cases of a full disk, on a server whose memory is full.
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
    builder
        .operation_timeout(short)
        .connect_timeout(short)
        .heartbeat(short / 4)
        .watch_loss_bound(short / 2)
        .open()
        .await
}

/// The suite with a proxy for each store. `cut` makes the proxy unreachable.
fn proxied(name: &str, cut: impl Fn(&Proxy) + Send + Sync + 'static) -> Suite {
    let start = || Proxy::start(support::server().address());
    let open = |proxy: &Proxy, fresh| open(format!("redis://{}", proxy.address()), fresh);
    let cut = move |proxy: &mut Proxy| {
        cut(proxy);
        Ok(())
    };
    let heal = |proxy: &mut Proxy| {
        proxy.pass();
        Ok(())
    };
    Suite::over_links(name, CAPABILITIES, start, open, cut, heal)
}

/// The suite with a server for each store. The server keeps its acknowledged writes in a file, and is killed.
fn killed() -> Suite {
    let start = || Redis::builder().append_only().start();
    let open = |server: &Redis, fresh| open(server.url(), fresh);
    let restart = |server: &mut Redis| if server.cli(&["PING"]).is_ok() { Ok(()) } else { server.restart() };
    Suite::over_links("redis-killed", CAPABILITIES, start, open, Redis::kill, restart)
}

/// The suite with a server for each store, whose memory is full if it may hold only one byte.
fn full() -> Suite {
    let open = |server: &Redis, fresh| open(server.url(), fresh);
    let limit = |bytes| move |server: &mut Redis| server.cli(&["CONFIG", "SET", "maxmemory", bytes]).map(drop);
    Suite::on_disks("redis-full", CAPABILITIES, Redis::start, open, limit("1"), limit("0")).with_reopen()
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

mod full_memory {
    use super::full;

    conformance_tests::full_disk! { full() }
}
