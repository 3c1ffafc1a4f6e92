"""The proxies: for each, the configuration that does the same work.

Owns: one class per proxy: HTTP in on one port, mutual TLS out to one upstream, one worker.
Never: a setting that takes a check away: certificate, name and chain are verified by all.
"""

import json

from .pki import NAME
from .processes import PROXY_CPU, Process, descriptors, free

IDLE_UPSTREAM = 512


class Work:
    """What a proxy is asked to do."""

    def __init__(self, listen, upstream, hosts=1, h2=False):
        self.listen = listen
        self.upstream = upstream
        self.hosts = hosts
        self.h2 = h2

    def names(self):
        """Every host that is routed."""
        return [NAME] if self.hosts == 1 else [f"h{number}.example" for number in range(self.hosts)]


class Proxy:
    """A proxy that can be started; `can(scenario)` says whether it has what it takes."""

    def __init__(self, name, tools, pki, folder):
        self.name = name
        self.tools = tools
        self.pki = pki
        self.folder = folder / name
        self.folder.mkdir(parents=True, exist_ok=True)

    def lacks(self, _work):
        """Why it cannot do that work, or None."""
        return None

    def start(self, work):
        """A running proxy that has answered (or, with HTTP/2 only, listens)."""
        free(work.listen)
        process = Process(self.name, self.command(work), self.folder / f"{work.listen}.log", PROXY_CPU)
        if work.h2:
            return process.wait_port(work.listen)
        return process.wait_ready(work.listen, work.names()[0])

    def write(self, name, text):
        """A file of its own."""
        path = self.folder / name
        path.write_text(text)
        return path


class Sortie(Proxy):
    """Default limits and timeouts, strict parsing, metrics; the access log is off by default."""

    def __init__(self, name, tools, pki, folder, binary):
        super().__init__(name, tools, pki, folder)
        self.binary = binary

    def run(self, work, config, workers=1):
        """The command; the admin port is the one behind the listener's."""
        path = self.write(f"{work.listen}.yaml", config)
        return [self.binary, "run", "--config", path, "--listen", f"127.0.0.1:{work.listen}",
                "--admin", f"127.0.0.1:{work.listen + 100}", "--workers", str(workers)]

    def upstream(self, work, name="bank", certificate="client.crt", key="client.key"):
        """One entry of `upstreams`."""
        http = ", http: 2" if work.h2 else ""
        return (f"  - {{name: {name}, endpoints: ['127.0.0.1:{work.upstream}']{http}, tls: {{mode: mutual, "
                f"certificate: {self.pki.path(certificate)}, key: {self.pki.path(key)}, "
                f"ca: {self.pki.path('server-ca.crt')}, serverName: {NAME}}}}}\n")

    def command(self, work, workers=1):
        routes = "".join(f"  - {{host: {host}, upstream: bank}}\n" for host in work.names())
        return self.run(work, f"upstreams:\n{self.upstream(work)}routes:\n{routes}", workers)

    def fan(self, work, pairs):
        """As many upstreams as pairs of certificate and key, each with a host of its own."""
        upstreams = "".join(self.upstream(work, f"u{number}", *pair) for number, pair in enumerate(pairs))
        routes = "".join(f"  - {{host: h{number}.example, upstream: u{number}}}\n" for number in range(len(pairs)))
        return self.run(work, f"upstreams:\n{upstreams}routes:\n{routes}")


class Nginx(Proxy):
    """Connections to the upstream kept; request bodies go on as they come."""

    def lacks(self, work):
        return "nginx speaks no HTTP/2 to upstreams" if work.h2 else None

    def command(self, work):
        names = "\n            ".join(work.names())
        size = max(512, 2 ** (2 * work.hosts).bit_length())
        text = f"""
daemon off;
user root;
worker_processes 1;
worker_rlimit_nofile {descriptors()};
pid {self.folder}/{work.listen}.pid;
error_log {self.folder}/{work.listen}.error.log error;
events {{ worker_connections 16384; }}
http {{
    access_log off;
    keepalive_timeout 1h;
    keepalive_requests 1000000000;
    client_max_body_size 0;
    client_body_temp_path {self.folder}/body;
    proxy_temp_path {self.folder}/t1;
    fastcgi_temp_path {self.folder}/t2;
    uwsgi_temp_path {self.folder}/t3;
    scgi_temp_path {self.folder}/t4;
    server_names_hash_max_size {size};
    server_names_hash_bucket_size 128;
    upstream bank {{
        server 127.0.0.1:{work.upstream};
        keepalive {IDLE_UPSTREAM};
        keepalive_requests 1000000000;
        keepalive_timeout 1h;
    }}
    server {{
        listen 127.0.0.1:{work.listen} backlog=4096;
        server_name {names};
        location / {{
            proxy_pass https://bank;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_set_header Host $http_host;
            proxy_request_buffering off;
            proxy_max_temp_file_size 0;
            proxy_ssl_protocols TLSv1.2 TLSv1.3;
            proxy_ssl_certificate {self.pki.path('client.crt')};
            proxy_ssl_certificate_key {self.pki.path('client.key')};
            proxy_ssl_trusted_certificate {self.pki.path('server-ca.crt')};
            proxy_ssl_verify on;
            proxy_ssl_name {NAME};
            proxy_ssl_server_name on;
            proxy_ssl_session_reuse on;
        }}
    }}
    server {{
        listen 127.0.0.1:{work.listen} default_server;
        return 502;
    }}
}}
"""
        path = self.write(f"{work.listen}.conf", text)
        return [self.tools.nginx, "-p", self.folder, "-e", self.folder / f"{work.listen}.error.log", "-c", path]


class Haproxy(Proxy):
    """One thread; connections to the upstream shared by all clients."""

    def command(self, work):
        both = work.h2
        hosts = self.write(f"{work.listen}.hosts", "".join(f"{host} bank\n" for host in work.names()))
        text = f"""
global
    nbthread 1
    maxconn 16000
    no strict-limits
    tune.ssl.default-dh-param 2048
defaults
    mode http
    timeout connect 10s
    timeout client 1h
    timeout server 1h
    timeout http-keep-alive 1h
frontend application
    bind 127.0.0.1:{work.listen} backlog 4096{' proto h2' if both else ''}
    use_backend %[req.hdr(host),field(1,:),lower,map({hosts})]
    default_backend nobody
backend bank
    http-reuse always
    server bank 127.0.0.1:{work.upstream} ssl verify required ca-file {self.pki.path('server-ca.crt')} crt {self.pki.path('client.pem')} sni str({NAME}) verifyhost {NAME}{' alpn h2' if both else ''}
backend nobody
    http-request return status 502
"""
        return [self.tools.haproxy, "-db", "-f", self.write(f"{work.listen}.cfg", text)]


class Envoy(Proxy):
    """One worker; without request ids, dynamic statistics and Envoy's own headers."""

    def command(self, work):
        ssl = {
            "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext",
            "sni": NAME,
            # The default keeps one session, and TLS 1.3 uses a ticket once.
            "max_session_keys": 64,
            "common_tls_context": {
                "tls_params": {"tls_maximum_protocol_version": "TLSv1_3"},
                "tls_certificates": [{"certificate_chain": {"filename": self.pki.path("client.crt")},
                                      "private_key": {"filename": self.pki.path("client.key")}}],
                "validation_context": {
                    "trusted_ca": {"filename": self.pki.path("server-ca.crt")},
                    "match_typed_subject_alt_names": [{"san_type": "DNS", "matcher": {"exact": NAME}}],
                },
                **({"alpn_protocols": ["h2"]} if work.h2 else {}),
            },
        }
        cluster = {
            "name": "bank", "type": "STATIC", "connect_timeout": "10s",
            "load_assignment": {"cluster_name": "bank", "endpoints": [{"lb_endpoints": [
                {"endpoint": {"address": address(work.upstream)}}]}]},
            "transport_socket": {"name": "envoy.transport_sockets.tls", "typed_config": ssl},
        }
        if work.h2:
            cluster["typed_extension_protocol_options"] = {
                "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                    "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
                    "explicit_http_config": {"http2_protocol_options": {}}}}
        route = {"match": {"prefix": "/"}, "route": {"cluster": "bank", "timeout": "0s"}}
        manager = {
            "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3"
                     ".HttpConnectionManager",
            "stat_prefix": "in", "codec_type": "AUTO", "generate_request_id": False,
            "route_config": {"virtual_hosts": [
                {"name": host, "domains": [host], "routes": [route]} for host in work.names()]},
            "http_filters": [{"name": "envoy.filters.http.router", "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router",
                "dynamic_stats": False, "suppress_envoy_headers": True}}],
        }
        listener = {"name": "in", "address": address(work.listen), "filter_chains": [{"filters": [
            {"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]}]}
        whole = {"static_resources": {"listeners": [listener], "clusters": [cluster]}}
        path = self.write(f"{work.listen}.json", json.dumps(whole))
        return [self.tools.envoy, "--concurrency", "1", "--disable-hot-restart", "-l", "error", "-c", path]


class Pingora(Proxy):
    """`benches/peers/pingora`: no routing at all, one upstream for every host."""

    def lacks(self, work):
        return "the small Pingora proxy has no routes" if work.hosts > 1 else None

    def command(self, work):
        pki = self.pki
        return [self.tools.pingora, f"127.0.0.1:{work.listen}", f"127.0.0.1:{work.upstream}", NAME,
                pki.path("server-ca.crt"), pki.path("client.crt.der"), pki.path("client.key.der"),
                "h2" if work.h2 else "h1"]


def address(port):
    """In Envoy's words."""
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}


PEERS = {"nginx": Nginx, "haproxy": Haproxy, "envoy": Envoy, "pingora": Pingora}


def chosen(names, tools, pki, folder):
    """The proxies of a run, sortie (or its builds) first."""
    proxies = []
    if "sortie" in names:
        proxies = [Sortie(name, tools, pki, folder, path) for name, path in tools.sorties.items()]
    return proxies + [PEERS[name](name, tools, pki, folder) for name in names if name != "sortie"]
