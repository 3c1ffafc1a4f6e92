//! A real nginx that demands a client certificate and says what it saw.

use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use super::eventually::eventually;
use super::needs::needs;
use super::pki::{Authority, Identity};
use super::process::free_address;

/// A running nginx; it stops when dropped.
pub struct Nginx {
    pub address: SocketAddr,
    child: Child,
    folder: TempDir,
}

impl Nginx {
    /// Starts one that shows `identity` and demands a certificate of `clients`. `protocols` is
    /// nginx's own word, as `TLSv1.3`. `None` where nginx is missing and may be.
    pub fn start(identity: &Identity, clients: &Authority, protocols: &str) -> Option<Nginx> {
        let program = needs("nginx")?;
        // The port is free when it is asked for and may be taken a moment later: then once more.
        (0..5)
            .find_map(|_| Nginx::try_start(&program, identity, clients, protocols))
            .or_else(|| {
                panic!("nginx did not start in five attempts");
            })
    }

    fn try_start(
        program: &std::path::Path,
        identity: &Identity,
        clients: &Authority,
        protocols: &str,
    ) -> Option<Nginx> {
        let folder = tempfile::tempdir().unwrap();
        identity.write(folder.path(), "server");
        std::fs::write(folder.path().join("clients.crt"), &clients.pem).unwrap();
        let address = free_address();
        let settings = settings(&folder, address, protocols);
        let file = folder.path().join("nginx.conf");
        std::fs::write(&file, settings).unwrap();
        let errors = std::fs::File::create(folder.path().join("stderr")).unwrap();
        let mut child = Command::new(program)
            .arg("-p")
            .arg(folder.path())
            .arg("-c")
            .arg(&file)
            .args(["-e", "error.log"])
            .stdout(Stdio::null())
            .stderr(errors)
            .spawn()
            .unwrap();
        let up = eventually("nginx listens or ends", || {
            if child.try_wait().unwrap().is_some() {
                return Some(false);
            }
            TcpStream::connect(address).is_ok().then_some(true)
        });
        up.then_some(Nginx {
            address,
            child,
            folder,
        })
    }

    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// The lines of its access log: `VERIFY DN SNI PROTOCOL REUSED STATUS REQUEST`.
    pub fn log(&self) -> Vec<String> {
        let text = std::fs::read_to_string(self.folder.path().join("access.log"));
        text.unwrap_or_default()
            .lines()
            .map(str::to_string)
            .collect()
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn settings(folder: &TempDir, address: SocketAddr, protocols: &str) -> String {
    let root = folder.path().display();
    format!(
        r#"
daemon off;
master_process off;
pid {root}/pid;
error_log {root}/error.log info;
events {{ worker_connections 256; }}
http {{
    log_format seen '$ssl_client_verify "$ssl_client_s_dn" $ssl_server_name $ssl_protocol $ssl_session_reused $status "$request"';
    access_log {root}/access.log seen;
    client_body_temp_path {root}/body;
    proxy_temp_path {root}/proxy;
    fastcgi_temp_path {root}/fastcgi;
    uwsgi_temp_path {root}/uwsgi;
    scgi_temp_path {root}/scgi;
    client_max_body_size 0;
    server {{
        listen {address} ssl http2;
        server_name _;
        ssl_certificate {root}/server.crt;
        ssl_certificate_key {root}/server.key;
        ssl_client_certificate {root}/clients.crt;
        ssl_verify_client on;
        ssl_verify_depth 3;
        ssl_protocols {protocols};
        add_header x-verify $ssl_client_verify always;
        add_header x-dn $ssl_client_s_dn always;
        add_header x-sni $ssl_server_name always;
        add_header x-protocol $ssl_protocol always;
        add_header x-host $http_host always;
        location / {{ return 200 "hello from nginx\n"; }}
        location /file {{ alias {root}/file; }}
    }}
}}
"#
    )
}
