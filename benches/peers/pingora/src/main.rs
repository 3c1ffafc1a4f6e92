//! The smallest proxy that Pingora makes: HTTP in, mutual TLS out to one upstream.
//!
//! Owns: the peer that `benches/peers/run` calls `pingora`.
//! Never: part of sortie; a Cargo workspace of its own.
//! Called by: `peer-pingora LISTEN UPSTREAM NAME CA.pem CERT.der KEY.der h1|h2`.
//!
//! One thread without work stealing, its upstream pool as large as the other peers'. The client
//! certificate is parsed once; what Pingora makes of it per connection is Pingora's.

use std::env;
use std::fs;
use std::net::SocketAddr;
use std::process::exit;
use std::sync::Arc;

use async_trait::async_trait;
use pingora_core::Result;
use pingora_core::apps::HttpServerOptions;
use pingora_core::protocols::ALPN;
use pingora_core::server::Server;
use pingora_core::server::configuration::ServerConf;
use pingora_core::upstreams::peer::HttpPeer;
use pingora_core::utils::tls::CertKey;
use pingora_proxy::{ProxyHttp, Session, http_proxy_service};

struct Egress {
    upstream: SocketAddr,
    name: String,
    identity: Arc<CertKey>,
    alpn: ALPN,
}

#[async_trait]
impl ProxyHttp for Egress {
    type CTX = ();

    fn new_ctx(&self) -> Self::CTX {}

    async fn upstream_peer(&self, _: &mut Session, _: &mut ()) -> Result<Box<HttpPeer>> {
        let mut peer = HttpPeer::new(self.upstream, true, self.name.clone());
        peer.client_cert_key = Some(Arc::clone(&self.identity));
        peer.options.verify_cert = true;
        peer.options.verify_hostname = true;
        peer.options.alpn = self.alpn.clone();
        // Its default is one stream per connection.
        peer.options.max_h2_streams = 128;
        Ok(Box::new(peer))
    }
}

fn main() {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [listen, upstream, name, ca, certificate, key, version] = arguments.as_slice() else {
        eprintln!("usage: peer-pingora LISTEN UPSTREAM NAME CA.pem CERT.der KEY.der h1|h2");
        exit(64);
    };
    let read = |path: &String| {
        fs::read(path).unwrap_or_else(|error| {
            eprintln!("peer-pingora: {path}: {error}");
            exit(1)
        })
    };
    let conf = ServerConf {
        threads: 1,
        work_stealing: false,
        ca_file: Some(ca.clone()),
        upstream_keepalive_pool_size: 512,
        grace_period_seconds: Some(0),
        graceful_shutdown_timeout_seconds: Some(0),
        ..ServerConf::default()
    };
    let mut server = Server::new_with_opt_and_conf(None, conf);
    server.bootstrap();
    let h2 = version == "h2";
    let egress = Egress {
        upstream: upstream.parse().expect("an address of the upstream"),
        name: name.clone(),
        identity: Arc::new(CertKey::new(vec![read(certificate)], read(key))),
        alpn: if h2 { ALPN::H2 } else { ALPN::H1 },
    };
    let mut service = http_proxy_service(&server.configuration, egress);
    if h2 && let Some(logic) = service.app_logic_mut() {
        let mut options = HttpServerOptions::default();
        options.h2c = true;
        logic.server_options = Some(options);
    }
    service.add_tcp(listen);
    server.add_service(service);
    server.run_forever();
}
