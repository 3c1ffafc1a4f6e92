"""The service behind the proxies: real nginx that lets nobody in without a client certificate.

Owns: its ports and what is behind each. Never: changes with the proxy that asks.
"""

import os

from .processes import OTHER_CPU, Process, descriptors, free, get

# Offsets from the first port of a run.
PLAIN, MAIN, FULL, RESUMED, H2, OTHER_CA, OTHER_NAME = range(7)
PORTS = 7
MIB = 1024 * 1024
SUITE = "ssl_conf_command Ciphersuites TLS_AES_128_GCM_SHA256;"


def config(pki, folder, first):
    """One worker; one suite and one group, since clients differ in what they prefer."""
    def server(offset, leaf="server", lines="", listen=""):
        return f"""
    server {{
        listen 127.0.0.1:{first + offset} ssl{listen} backlog=4096;
        ssl_certificate {pki.path(leaf + '.crt')};
        ssl_certificate_key {pki.path(leaf + '.key')};
        ssl_client_certificate {pki.path('client-ca.crt')};
        ssl_verify_client on;
        {lines}
        include {folder}/places.conf;
    }}"""

    places = f"""
        location / {{ return 200 "$ssl_session_reused is whether the session was resumed, and this is a small answer of an upstream service\\n"; }}
        location = /who {{ return 200 "verify=$ssl_client_verify dn=$ssl_client_s_dn sni=$ssl_server_name tls=$ssl_protocol suite=$ssl_cipher\\n"; }}
        location /files/ {{ alias {folder}/files/; }}
        location /put/ {{ alias {folder}/put/; dav_methods PUT; }}
"""
    (folder / "places.conf").write_text(places)
    resumes = "ssl_session_cache off; ssl_session_tickets on;"
    # No ticket is handed out, so no client has anything to resume. A server's own command hides those of all servers.
    never = f"ssl_session_cache off; ssl_session_tickets off; {SUITE} ssl_conf_command NumTickets 0;"
    once = "keepalive_timeout 0;"
    servers = [
        server(MAIN, lines=resumes),
        server(FULL, lines=never + once),
        server(RESUMED, lines=resumes + once),
        server(H2, lines=resumes, listen=" http2"),
        server(OTHER_CA, leaf="other-ca-server", lines=resumes),
        server(OTHER_NAME, leaf="other-name", lines=resumes),
    ]
    return f"""
daemon off;
user root;
worker_processes 1;
worker_rlimit_nofile {descriptors()};
pid {folder}/upstream.pid;
error_log {folder}/upstream.error.log warn;
events {{ worker_connections 20000; }}
http {{
    access_log off;
    default_type text/plain;
    keepalive_timeout 1h;
    keepalive_requests 1000000000;
    client_max_body_size 0;
    client_body_buffer_size 1m;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/t1;
    fastcgi_temp_path {folder}/t2;
    uwsgi_temp_path {folder}/t3;
    scgi_temp_path {folder}/t4;
    server_tokens off;
    ssl_protocols TLSv1.3;
    ssl_ecdh_curve X25519;
    {SUITE}
    server {{
        listen 127.0.0.1:{first + PLAIN} backlog=4096;
        include {folder}/places.conf;
    }}
{''.join(servers)}
}}
"""


def start(tools, pki, folder, first):
    """Runs until the run ends."""
    for offset in range(PORTS):
        free(first + offset)
    for name in ("files", "put", "body"):
        (folder / name).mkdir(exist_ok=True)
    for mib in (1, 64):
        (folder / f"files/{mib}m").write_bytes(os.urandom(MIB) * mib)
    path = folder / "upstream.conf"
    path.write_text(config(pki, folder, first))
    command = [tools.nginx, "-p", folder, "-e", folder / "upstream.error.log", "-c", path]
    process = Process("the upstream (nginx)", command, folder / "upstream.log", OTHER_CPU)
    process.wait_ready(first + PLAIN, "bank.example")
    return process


def answers(first):
    """Whether it serves, said in its own words."""
    return get(first + PLAIN, "bank.example", "/who")
