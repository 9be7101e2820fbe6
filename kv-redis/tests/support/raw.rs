//! Access to the stored bytes of an entry through a driver.

use kv_core::{Error, Key, Result};
use redis::aio::MultiplexedConnection;

/// Returns the key of the entry in the database, and a connection to the server that has it. The URL has no login, and
/// the namespace has buckets.
pub(crate) async fn entry_of(url: &str, namespace: &str, key: &Key) -> Result<(Vec<u8>, MultiplexedConnection)> {
    let (scheme, rest) = url.split_once("://").unwrap();
    let address = rest.split([',', '/', '?']).next().unwrap().to_owned();
    let mut addresses = vec![address.clone()];
    if scheme.contains("cluster") {
        let nodes: String = redis::cmd("CLUSTER").arg("NODES").query_async(&mut connect(&address).await).await.unwrap();
        addresses = nodes.lines().filter(|line| line.contains("master")).filter_map(address_of).collect();
    }
    // The hash tag of the key's bucket is between the braces.
    let pattern = format!("{namespace}#{{*}}{key}");
    for address in addresses {
        let mut server = connect(&address).await;
        let mut found: Vec<Vec<u8>> = redis::cmd("KEYS").arg(&pattern).query_async(&mut server).await.unwrap();
        if let Some(physical) = found.pop() {
            return Ok((physical, server));
        }
    }
    Err(Error::unavailable(format!("no server has the entry {key}")))
}

async fn connect(address: &str) -> MultiplexedConnection {
    let client = redis::Client::open(format!("redis://{address}")).unwrap();
    client.get_multiplexed_async_connection().await.unwrap()
}

/// The address in a line of `CLUSTER NODES`: `ID HOST:PORT@BUS …`.
fn address_of(line: &str) -> Option<String> {
    Some(line.split(' ').nth(1)?.split('@').next()?.to_owned())
}
