//! A Redis Cluster of three masters and three replicas.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test and its helpers may panic")]

use test_servers::cluster::RedisCluster;
use test_servers::proxy::{Direction, Proxy};
use test_servers::redis::Redis;

#[test]
fn masters_share_the_slots_and_redirect_keys_of_other_masters() {
    let mut cluster = RedisCluster::start().unwrap();
    let ports: Vec<u16> = cluster.nodes().iter().map(Redis::port).collect();
    let hosts: Vec<String> = ports[..3].iter().map(|port| format!("127.0.0.1:{port}")).collect();
    assert_eq!(cluster.url(), format!("redis-cluster://{}", hosts.join(",")));
    let owners = [0, 5_461, 5_462, 10_922, 10_923, 16_383].map(|slot| cluster.master_of_slot(slot).unwrap());
    assert_eq!(owners, [0, 0, 1, 1, 2, 2]);

    let slot = cluster.slot_of("foo").unwrap();
    assert_eq!(slot, 12_182);
    let moved = cluster.nodes()[0].cli(&["SET", "foo", "bar"]).unwrap_err().to_string();
    assert!(moved.contains(&format!("MOVED 12182 127.0.0.1:{}", ports[2])), "{moved}");
    assert_eq!(cluster.nodes()[2].cli(&["SET", "foo", "bar"]).unwrap(), "OK");
    assert_eq!(cluster.nodes()[2].cli(&["WAIT", "1", "5000"]).unwrap(), "1");
    assert!(cluster.nodes()[5].cli(&["INFO", "keyspace"]).unwrap().contains("keys=1"));
}

#[test]
fn a_replica_replaces_a_killed_master_and_the_old_master_restarts_as_a_replica() {
    let mut cluster = RedisCluster::start().unwrap();
    assert!(cluster.wait_for_failover().is_err());
    assert!(cluster.kill_master(3).is_err());
    cluster.kill_master(0).unwrap();
    assert_eq!(cluster.wait_for_failover().unwrap(), 3);
    assert_eq!(cluster.master_of_slot(0).unwrap(), 3);
    cluster.nodes()[0].restart().unwrap();
    cluster.wait_until_whole().unwrap();
    assert!(cluster.nodes()[0].cli(&["ROLE"]).unwrap().starts_with("slave"));
}

#[test]
fn a_slot_moves_with_its_keys_and_redirects_with_ask_during_the_move() {
    let mut cluster = RedisCluster::start().unwrap();
    let slot = cluster.slot_of("{foo}").unwrap();
    for n in 0..250 {
        cluster.nodes()[2].cli(&["SET", &format!("{{foo}}\u{7f} \n{n}"), "v"]).unwrap();
    }
    cluster.begin_move(slot, 2, 1).unwrap();
    assert_eq!(cluster.move_keys(slot, 2, 1, 70).unwrap(), 70);
    let port = cluster.nodes()[1].port();
    let ask = cluster.nodes()[2].cli(&["GET", "{foo}new"]).unwrap_err().to_string();
    assert!(ask.contains(&format!("ASK {slot} 127.0.0.1:{port}")), "{ask}");
    let moved = cluster.nodes()[1].cli(&["GET", "{foo}new"]).unwrap_err().to_string();
    assert!(moved.contains("MOVED"), "{moved}");

    cluster.finish_move(slot, 2, 1).unwrap();
    assert_eq!(cluster.master_of_slot(slot).unwrap(), 1);
    assert_eq!(cluster.nodes()[1].cli(&["CLUSTER", "COUNTKEYSINSLOT", &slot.to_string()]).unwrap(), "250");
    assert_eq!(cluster.nodes()[1].cli(&["GET", "{foo}\u{7f} \n7"]).unwrap(), "v");
    let moved = cluster.nodes()[0].cli(&["GET", "{foo}new"]).unwrap_err().to_string();
    assert!(moved.contains(&port.to_string()), "{moved}");
    cluster.move_slot(slot, 1, 2).unwrap();
    assert_eq!(cluster.master_of_slot(slot).unwrap(), 2);
}

#[tokio::test]
async fn clients_are_redirected_to_an_announced_proxy() {
    let mut cluster = RedisCluster::start().unwrap();
    let proxy = Proxy::start(cluster.nodes()[2].address()).unwrap();
    cluster.announce(2, proxy.port()).unwrap();
    let moved = cluster.nodes()[0].cli(&["SET", "foo", "bar"]).unwrap_err().to_string();
    assert!(moved.contains(&format!("MOVED 12182 {}", proxy.address())), "{moved}");
    assert_eq!(proxy.bytes(Direction::ToServer), 0);
    assert_eq!(cluster.master_of_slot(12_182).unwrap(), 2);
}
