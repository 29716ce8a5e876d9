//! A Redis Cluster.

use std::ops::RangeInclusive;

use super::{RedisServer, client::field_of};
use crate::support::eventually;

const SLOTS: [RangeInclusive<u16>; 3] = [0..=5460, 5461..=10_922, 10_923..=16_383];

/// Three masters that share the slots, without replicas.
pub struct RedisCluster {
    masters: [RedisServer; 3],
}

impl RedisCluster {
    /// Starts the three, joins them and waits until each says that all is well.
    #[track_caller]
    pub fn start() -> Self {
        let masters = [(); 3].map(|()| {
            RedisServer::start(&[
                "--cluster-enabled",
                "yes",
                "--cluster-node-timeout",
                "2000",
                "--cluster-announce-ip",
                "127.0.0.1",
            ])
        });
        for (epoch, (master, slots)) in masters.iter().zip(SLOTS).enumerate() {
            let mut redis = master.client();
            redis.command(&["CLUSTER", "SET-CONFIG-EPOCH", &(epoch + 1).to_string()]);
            let (first, last) = (slots.start().to_string(), slots.end().to_string());
            redis.command(&["CLUSTER", "ADDSLOTSRANGE", &first, &last]);
        }
        let mut first = masters[0].client();
        for other in &masters[1..] {
            first.command(&["CLUSTER", "MEET", "127.0.0.1", &other.port().to_string()]);
        }
        let cluster = Self { masters };
        cluster.wait_until_well();
        cluster
    }

    /// Waits until each master says that all slots are served.
    #[track_caller]
    pub fn wait_until_well(&self) {
        for master in &self.masters {
            eventually("the cluster is well", || {
                let Ok(info) = master.client().try_command(&["CLUSTER", "INFO"]) else { return false };
                let info = info.text();
                let field = |name: &str| field_of(&info, name);
                field("cluster_state") == "ok" && field("cluster_known_nodes") == "3"
            });
        }
    }

    /// Its URL: all three, any of which will do.
    pub fn url(&self) -> String {
        format!("redis+cluster://{}", self.masters.each_ref().map(RedisServer::address).join(","))
    }

    /// The servers.
    pub fn masters(&self) -> &[RedisServer; 3] {
        &self.masters
    }
}
