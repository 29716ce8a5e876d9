//! The least that a proxy on Pingora does: nothing but name the upstream. `make bench` holds the requests
//! that Sluice forwards against it.
//!
//! `bare ADDRESS UPSTREAM` forwards HTTP/1.1 from ADDRESS to UPSTREAM, both an IP address and a port, until
//! it is killed. One worker; connections are kept alive on both sides.

use std::net::SocketAddr;

use async_trait::async_trait;
use pingora::proxy::{ProxyHttp, Session, http_proxy_service};
use pingora::server::Server;
use pingora::server::configuration::ServerConf;
use pingora::upstreams::peer::HttpPeer;

/// Where all requests go.
struct Bare(SocketAddr);

#[async_trait]
impl ProxyHttp for Bare {
    type CTX = ();

    fn new_ctx(&self) -> Self::CTX {}

    async fn upstream_peer(&self, _: &mut Session, _: &mut Self::CTX) -> pingora::Result<Box<HttpPeer>> {
        Ok(Box::new(HttpPeer::new(self.0, false, String::new())))
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [address, upstream] = arguments.as_slice() else {
        // `cargo bench` starts it like this.
        println!("bare ADDRESS UPSTREAM forwards to UPSTREAM; `make bench` uses it");
        return Ok(());
    };
    let configuration = ServerConf { threads: 1, ..ServerConf::default() };
    let mut server = Server::new_with_opt_and_conf(None, configuration);
    server.bootstrap();
    let mut service = http_proxy_service(&server.configuration, Bare(upstream.parse()?));
    service.add_tcp(address);
    server.add_service(service);
    server.run_forever()
}
