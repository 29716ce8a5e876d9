//! A master and its replica, watched by Sentinels.

use std::collections::BTreeMap;

use super::{RedisServer, Reply};
use crate::support::eventually;

/// What the Sentinels call the pair.
const NAME: &str = "mymaster";

/// Two servers of which one is the master, and two Sentinels that must agree.
pub struct Sentinels {
    servers: [RedisServer; 2],
    sentinels: [RedisServer; 2],
}

impl Sentinels {
    /// Starts all four and waits until the Sentinels know each other and the replica.
    #[track_caller]
    pub fn start() -> Self {
        let master = RedisServer::start(&[]);
        let replica = RedisServer::start(&["--replicaof", "127.0.0.1", &master.port().to_string()]);
        eventually("the replica has caught up", || replica.client().info("master_link_status") == "up");
        let sentinels = [(); 2].map(|()| sentinel(master.port()));
        let fleet = Self { servers: [master, replica], sentinels };
        fleet.wait_until_well();
        fleet
    }

    /// Waits until both Sentinels know each other, a master and a replica that are well.
    #[track_caller]
    pub fn wait_until_well(&self) {
        for sentinel in &self.sentinels {
            eventually("a Sentinel knows everybody", || {
                let mut redis = sentinel.client();
                let quorum = redis.try_command(&["SENTINEL", "CKQUORUM", NAME]).is_ok();
                let master = fields(redis.command(&["SENTINEL", "MASTER", NAME]));
                let replicas = redis.command(&["SENTINEL", "REPLICAS", NAME]).list();
                let well = |replica: Reply| {
                    let replica = fields(replica);
                    replica["flags"] == "slave" && replica["master-link-status"] == "ok"
                };
                quorum
                    && master["flags"] == "master"
                    && master["num-other-sentinels"] == "1"
                    && replicas.len() == 1
                    && replicas.into_iter().all(well)
            });
        }
    }

    /// The URL: both Sentinels and the pair's name.
    pub fn url(&self) -> String {
        format!("redis+sentinel://{}/{NAME}/0", self.sentinels.each_ref().map(RedisServer::address).join(","))
    }

    /// The port of the server that the Sentinels name as the master.
    #[track_caller]
    pub fn master_port(&self) -> u16 {
        let address =
            self.sentinels[0].client().command(&["SENTINEL", "GET-MASTER-ADDR-BY-NAME", NAME]).list();
        u16::try_from(address[1].clone().number()).expect("the master has a port")
    }

    /// The server that the Sentinels name as the master.
    #[track_caller]
    pub fn master(&self) -> &RedisServer {
        let port = self.master_port();
        self.servers.iter().find(|server| server.port() == port).expect("the master is one of the two")
    }

    /// Has the replica promoted while the master is well; returns when both
    /// Sentinels name the new one. The old one becomes its replica soon after.
    #[track_caller]
    pub fn fail_over(&self) {
        let old = self.master_port();
        eventually("the Sentinels begin a fail-over", || {
            self.sentinels[0].client().try_command(&["SENTINEL", "FAILOVER", NAME]).is_ok()
        });
        for sentinel in &self.sentinels {
            eventually("a Sentinel names another master", || {
                let named = sentinel.client().command(&["SENTINEL", "GET-MASTER-ADDR-BY-NAME", NAME]).list();
                named[1].clone().number() != i64::from(old)
            });
        }
        eventually("the new master takes writes", || self.master().client().info("role") == "master");
    }
}

fn sentinel(master: u16) -> RedisServer {
    let sentinel = RedisServer::launch(|port, place| {
        let file = place.join("sentinel.conf");
        let text = format!(
            "port {port}\nbind 127.0.0.1\ndir {}\n\
             sentinel monitor {NAME} 127.0.0.1 {master} 2\n\
             sentinel down-after-milliseconds {NAME} 500\n\
             sentinel failover-timeout {NAME} 2000\n",
            place.display()
        );
        std::fs::write(&file, text).unwrap();
        vec![file.to_string_lossy().into_owned(), "--sentinel".into()]
    });
    // They look every 10 s and tell every 2 s, unless they are told to hurry.
    let hurry = ["INFO-PERIOD", "200", "PUBLISH-PERIOD", "200", "PING-PERIOD", "100", "ASK-PERIOD", "200"];
    sentinel.client().command(&[&["SENTINEL", "DEBUG"], &hurry[..]].concat());
    sentinel
}

/// A list of names and values, taken apart.
fn fields(reply: Reply) -> BTreeMap<String, String> {
    let texts: Vec<String> = reply.list().into_iter().map(Reply::text).collect();
    texts.chunks_exact(2).map(|pair| (pair[0].clone(), pair[1].clone())).collect()
}
