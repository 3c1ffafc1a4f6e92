"""Processes of a run, and the half core that they may be held to.

Owns: every child, its core, its log, its end. Never: ends a process that it did not start.
"""

import atexit
import http.client
import os
import pathlib
import resource
import signal
import socket
import subprocess
import time

from .say import Failure

PROXY_CPU = 0
# The upstream and the load share the other core: the proxy has its own.
OTHER_CPU = 1
STARTED = []


def descriptors():
    """As many as a process may open."""
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def prepare():
    """Ten thousand connections need as many descriptors; and nobody stays behind."""
    wanted = 65536
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < wanted:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, max(hard, wanted)))
        except (ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
            if hard < 11_000:
                raise Failure(f"ulimit -n is {hard}; 11,000 are needed for 10,000 connections") from None
    if len(os.sched_getaffinity(0)) < 2 or not {PROXY_CPU, OTHER_CPU} <= os.sched_getaffinity(0):
        raise Failure("cores 0 and 1 are needed: one for the proxy, one for load and upstream")
    atexit.register(end_all)


def go_first():
    """Before whatever else this machine does; without the right to it, beside it."""
    try:
        os.nice(-10)
    except OSError:
        pass


def free(port):
    """Says so where a port is taken; a process that was ended may need a moment to let go of it."""
    until = time.monotonic() + 3
    while True:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
                return
            except OSError as error:
                taken = error
        if time.monotonic() > until:
            raise Failure(f"port {port} of 127.0.0.1 is taken ({taken}); --port FIRST moves all of them")
        time.sleep(0.02)


class Process:
    """A program on one core, with its log in a file, and everything that it starts."""

    def __init__(self, name, command, log, cpu):
        self.name = name
        self.log = pathlib.Path(log)
        self._group = None
        with open(self.log, "wb") as out:
            self._child = subprocess.Popen(
                [str(part) for part in command], stdin=subprocess.DEVNULL, stdout=out, stderr=out,
                start_new_session=True, preexec_fn=lambda: os.sched_setaffinity(0, {cpu}))
        STARTED.append(self)

    def wait_ready(self, port, host, patience=60):
        """Until a plain GET is answered with 200."""
        until = time.monotonic() + patience
        while time.monotonic() < until:
            if self._child.poll() is not None:
                raise Failure(f"{self.name} ended with {self._child.returncode}; {self.tail()}")
            status, _ = get(port, host, "/")
            if status == 200:
                return self
            time.sleep(0.02)
        raise Failure(f"{self.name} answered no 200 within {patience} s (last: {status}); {self.tail()}")

    def wait_port(self, port, patience=60):
        """Until it takes connections: for those that speak no HTTP/1."""
        until = time.monotonic() + patience
        while time.monotonic() < until:
            if self._child.poll() is not None:
                raise Failure(f"{self.name} ended with {self._child.returncode}; {self.tail()}")
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                return self
            except OSError:
                time.sleep(0.02)
        raise Failure(f"{self.name} does not listen after {patience} s; {self.tail()}")

    def tail(self):
        """The end of its log."""
        text = self.log.read_text(errors="replace").strip()[-1500:]
        return f"its log ({self.log}) ends:\n{text}" if text else "it said nothing"

    def pids(self):
        """The process and all below it."""
        found, waiting = [], [self._child.pid]
        while waiting:
            pid = waiting.pop()
            found.append(pid)
            for task in pathlib.Path(f"/proc/{pid}/task").glob("*/children"):
                try:
                    waiting.extend(int(word) for word in task.read_text().split())
                except OSError:
                    pass
        return found

    def hold(self, share):
        """Held to a share of a core from here on."""
        self._group = Group(f"sortie-peers-{self._child.pid}", share)
        for pid in self.pids():
            self._group.add(pid)

    def end(self):
        """All of its group."""
        if self._child is not None:
            if "LLVM_PROFILE_FILE" in os.environ:
                # A program that counts for link/profile writes down what it has counted as it ends.
                self._child.terminate()
                try:
                    self._child.wait(10)
                except subprocess.TimeoutExpired:
                    pass
            try:
                os.killpg(self._child.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
            self._child.wait()
            self._child = None
            if self in STARTED:
                STARTED.remove(self)
        if self._group is not None:
            self._group.remove()
            self._group = None


def end_all():
    """At exit, however it comes."""
    for process in list(STARTED):
        process.end()


class Group:
    """A cgroup with a quota of CPU time. Version 2, or version 1's cpu controller."""

    PERIOD_US = 10_000

    def __init__(self, name, share):
        quota = int(self.PERIOD_US * share)
        try:
            if pathlib.Path("/sys/fs/cgroup/cgroup.controllers").exists():
                base = pathlib.Path("/sys/fs/cgroup")
                (base / "cgroup.subtree_control").write_text("+cpu")
                self.folder = base / name
                self.folder.mkdir()
                (self.folder / "cpu.max").write_text(f"{quota} {self.PERIOD_US}")
            else:
                self.folder = pathlib.Path("/sys/fs/cgroup/cpu") / name
                self.folder.mkdir()
                (self.folder / "cpu.cfs_period_us").write_text(str(self.PERIOD_US))
                (self.folder / "cpu.cfs_quota_us").write_text(str(quota))
        except OSError as error:
            raise Failure(f"no cgroup with a CPU quota can be made here ({error})") from error

    def add(self, pid):
        """All threads of it."""
        (self.folder / "cgroup.procs").write_text(str(pid))

    def remove(self):
        """Once the processes are gone; the kernel takes a moment to see it."""
        for _ in range(100):
            try:
                self.folder.rmdir()
                return
            except OSError:
                time.sleep(0.02)


def can_hold():
    """None, or why there can be no quota."""
    try:
        Group("sortie-peers-try", 0.5).remove()
    except Failure as failure:
        return str(failure)
    return None


def get(port, host, path):
    """Status and body; status None where there is no answer."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("GET", path, headers={"Host": host, "Connection": "close"})
        answer = connection.getresponse()
        return answer.status, answer.read().decode(errors="replace")
    except (OSError, http.client.HTTPException) as error:
        return None, str(error)
    finally:
        connection.close()
