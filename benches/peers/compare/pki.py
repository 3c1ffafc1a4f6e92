"""Certificates of a run: the upstream's, the proxy's, and those that must be refused.

Owns: the files below `pki`. Never: a key for anything but this machine; all end after 30 days.
"""

import base64
import re
import subprocess
import time

from .say import Failure, say

NAME = "bank.example"
CLIENT = "CN=peers-client"
FRESH = 7 * 24 * 3600


class Pki:
    """P-256 throughout. `server-ca` signs the upstream's, `client-ca` the proxies'."""

    def __init__(self, openssl, folder):
        self.openssl = openssl
        self.folder = folder
        stamp = folder / "complete"
        if stamp.exists() and time.time() - stamp.stat().st_mtime < FRESH:
            return
        say("making certificates")
        folder.mkdir(parents=True, exist_ok=True)
        for authority in ("server-ca", "client-ca", "other-ca"):
            self._key(authority)
            self._run("req", "-new", "-x509", "-days", "30", "-subj", f"/CN={authority}",
                      "-key", self.path(f"{authority}.key"), "-out", self.path(f"{authority}.crt"),
                      "-addext", "basicConstraints=critical,CA:TRUE",
                      "-addext", "keyUsage=critical,keyCertSign,cRLSign")
        self._leaf("server", f"/CN={NAME}", "server-ca", f"subjectAltName=DNS:{NAME}")
        self._leaf("other-ca-server", f"/CN={NAME}", "other-ca", f"subjectAltName=DNS:{NAME}")
        self._leaf("other-name", "/CN=shop.example", "server-ca", "subjectAltName=DNS:shop.example")
        self._leaf("client", f"/{CLIENT}", "client-ca", "extendedKeyUsage=clientAuth")
        both = "".join((folder / f"client.{end}").read_text() for end in ("crt", "key"))
        (folder / "client.pem").write_text(both)
        for end in ("crt", "key"):
            text = (folder / f"client.{end}").read_text()
            body = re.search(r"-----BEGIN [A-Z ]+-----(.*?)-----END", text, re.S).group(1)
            (folder / f"client.{end}.der").write_bytes(base64.b64decode(body))
        stamp.touch()

    def path(self, name):
        """Where a file is, as text for a configuration."""
        return str(self.folder / name)

    def many(self, count):
        """So many client certificates of their own; pairs of names."""
        pairs = []
        for number in range(count):
            name = f"many-{number}"
            if not (self.folder / f"{name}.crt").exists():
                if number % 250 == 0:
                    say(f"making client certificates, {number} of {count}")
                # All in one command: there are many.
                self._run("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
                          "-CA", self.path("client-ca.crt"), "-CAkey", self.path("client-ca.key"), "-days", "30",
                          "-subj", f"/CN=client-{number}", "-addext", "basicConstraints=critical,CA:FALSE",
                          "-addext", "keyUsage=critical,digitalSignature", "-addext", "extendedKeyUsage=clientAuth",
                          "-keyout", self.path(f"{name}.key"), "-out", self.path(f"{name}.crt"))
            pairs.append((f"{name}.crt", f"{name}.key"))
        return pairs

    def _key(self, name):
        self._run("genpkey", "-quiet", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256",
                  "-out", self.path(f"{name}.key"))

    def _leaf(self, name, subject, issuer, extension):
        self._key(name)
        self._run("req", "-new", "-subj", subject, "-key", self.path(f"{name}.key"), "-out", self.path("csr"))
        lines = ["basicConstraints=critical,CA:FALSE", "keyUsage=critical,digitalSignature", extension]
        (self.folder / "ext").write_text("\n".join(lines) + "\n")
        # With an extension file it becomes a version 3 certificate; TLS libraries refuse others.
        self._run("x509", "-req", "-days", "30", "-in", self.path("csr"), "-extfile", self.path("ext"),
                  "-CA", self.path(f"{issuer}.crt"), "-CAkey", self.path(f"{issuer}.key"),
                  "-CAcreateserial", "-out", self.path(f"{name}.crt"))

    def _run(self, *arguments):
        done = subprocess.run([self.openssl, *arguments], capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise Failure(f"openssl {arguments[0]} failed: {done.stderr.strip()}")
