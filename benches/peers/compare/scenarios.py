"""What is done to each proxy, and in which order.

Owns: one function per scenario, interleaving, and what makes a run count. Never: a table.

Every round asks all proxies, each round beginning with another one. A run with an answer that is not
2xx, or with a broken connection, does not count: the proxy has no value in that row, and the whole
command fails in the end.
"""

import json
import os
import statistics
import subprocess

from . import upstream
from .pki import NAME
from .processes import OTHER_CPU, PROXY_CPU, Process, can_hold, free
from .proxies import Work
from .say import Failure, say

MIB = 1024 * 1024


class Bench:
    """One run: tools, upstream, proxies, and the values so far."""

    def __init__(self, tools, pki, folder, first, proxies, rounds, seconds):
        self.tools = tools
        self.pki = pki
        self.folder = folder
        self.first = first
        self.proxies = proxies
        self.rounds = rounds
        self.seconds = seconds
        self.values = {}
        self.problems = []
        self.notes = []
        # Of sortie alone: (what grows, how many) to CPU and memory.
        self.growth = []

    def listen(self, proxy, variant=0):
        """A port for each; the admin port of sortie lies 100 above."""
        return self.first + 20 + 8 * self.proxies.index(proxy) + variant

    def add(self, key, proxy, value):
        """One more sample."""
        self.values.setdefault(key, {}).setdefault(proxy, []).append(value)

    def problem(self, where, text):
        """Said now, and again at the end."""
        say(f"{where}: {text}")
        self.problems.append(f"{where}: {text}")

    def load(self, kind, port, process=None, **flags):
        """One run of the load; what it says, or Failure."""
        command = [self.tools.load, kind, "--to", f"127.0.0.1:{port}"]
        if process is not None:
            command += ["--pids", ",".join(str(pid) for pid in process.pids())]
        for name, value in flags.items():
            command += [f"--{name}", str(value)]
        done = subprocess.run(
            command, capture_output=True, text=True, check=False,
            preexec_fn=lambda: os.sched_setaffinity(0, {OTHER_CPU}))
        if done.returncode != 0:
            raise Failure(done.stderr.strip() or f"peers-load ended with {done.returncode}")
        answer = json.loads(done.stdout)
        if answer.get("refusals"):
            raise Failure(f"{answer['refusals']} answers were not 2xx (the last: {answer.get('last_refusal')})")
        if answer.get("failures"):
            raise Failure(f"{answer['failures']} connections broke (the last: {answer['last_failure']})")
        if answer.get("requests") == 0:
            raise Failure("not one answer in the window")
        return answer

    def started(self, work, proxies=None):
        """Every proxy that can do that work, running."""
        running = {}
        for proxy in proxies or self.proxies:
            why = proxy.lacks(work)
            if why:
                continue
            own = Work(self.listen(proxy, work.variant), work.upstream, work.hosts, work.h2)
            try:
                running[proxy] = proxy.start(own)
            except Failure as failure:
                self.problem(proxy.name, str(failure))
        return running

    def rounds_over(self, running, name, measure, rounds=None):
        """`measure(proxy, process)` for each in every round; one that fails is left out from there on."""
        alive = list(running)
        for number in range(rounds or self.rounds):
            turn = number % len(alive) if alive else 0
            for proxy in alive[turn:] + alive[:turn]:
                say(f"{name}, round {number + 1}: {proxy.name}")
                try:
                    measure(proxy, running[proxy])
                except Failure as failure:
                    self.problem(f"{name}: {proxy.name}", str(failure))
                    alive.remove(proxy)

    def end(self, running):
        """Until the next scenario."""
        for process in running.values():
            process.end()


def work(offset, bench, **more):
    """A template: each proxy gets its own port."""
    variant = more.pop("variant", 0)
    made = Work(None, bench.first + offset, **more)
    made.variant = variant
    return made


def micros(answer):
    """CPU per request."""
    return answer["cpu_ns"] / answer["requests"] / 1000


def s1(bench):
    """Small requests on connections that stay."""
    running = bench.started(work(upstream.MAIN, bench))

    def cpu(proxy, process):
        answer = bench.load("steady", bench.listen(proxy), process, seconds=bench.seconds)
        bench.add("s1.cpu", proxy.name, micros(answer))
        bench.add("s1.user", proxy.name, answer["user_ms"] * 1000 / answer["requests"])

    bench.rounds_over(running, "s1 CPU per request", cpu)
    why = can_hold()
    if why:
        bench.notes.append(f"Requests/s at half a core: not measured, {why}.")
    else:
        for process in running.values():
            process.hold(0.5)

        def rate(proxy, process):
            answer = bench.load("steady", bench.listen(proxy), process, seconds=bench.seconds)
            bench.add("s1.rate", proxy.name, answer["requests"] / answer["seconds"])
            used = answer["cpu_ns"] / 1e9 / answer["seconds"]
            bench.add("s1.used", proxy.name, used)
            if used < 0.45:
                bench.notes.append(f"Half a core: {proxy.name} used {used:.2f} of it in one round; the load was the limit there.")

        bench.rounds_over(running, "s1 requests/s at half a core", rate)
    direct = bench.load("steady", bench.first + upstream.PLAIN, seconds=bench.seconds)
    bench.add("s1.rate", "direct", direct["requests"] / direct["seconds"])
    bench.end(running)


def s2(bench):
    """Latency at fixed rates, from when a request was due."""
    running = bench.started(work(upstream.MAIN, bench))
    for rate, seconds in ((1000, bench.seconds * 3), (5000, bench.seconds * 2)):
        def keep(name, answer, rate=rate):
            for part in ("p50", "p99", "p999"):
                bench.add(f"s2.{rate}.{part}", name, answer[f"{part}_us"])

        def measure(proxy, process, rate=rate, seconds=seconds, keep=keep):
            answer = bench.load("steady", bench.listen(proxy), process, seconds=seconds, rate=rate, connections=32)
            keep(proxy.name, answer)
            bench.add(f"s2.{rate}.cpu", proxy.name, micros(answer))

        bench.rounds_over(running, f"s2 {rate}/s", measure)
        keep("direct", bench.load("steady", bench.first + upstream.PLAIN, seconds=seconds, rate=rate, connections=32))
    bench.end(running)


def s3(bench):
    """Large bodies."""
    running = bench.started(work(upstream.MAIN, bench))
    for mib, clients in ((1, 4), (64, 1)):
        def down(proxy, process, mib=mib, clients=clients):
            answer = bench.load("steady", bench.listen(proxy), process, seconds=bench.seconds,
                                path=f"/files/{mib}m", connections=clients)
            bench.add(f"s3.down{mib}", proxy.name, answer["cpu_ns"] / 1000 / (answer["bytes_in"] / MIB))

        def up(proxy, process, mib=mib, clients=clients):
            answer = bench.load("steady", bench.listen(proxy), process, seconds=bench.seconds,
                                path="/put/file", upload=mib * MIB, connections=clients)
            bench.add(f"s3.up{mib}", proxy.name, answer["cpu_ns"] / 1000 / (answer["bytes_out"] / MIB))

        bench.rounds_over(running, f"s3 {mib} MiB down", down)
        bench.rounds_over(running, f"s3 {mib} MiB up", up)
    bench.end(running)


def s4(bench):
    """New connections on either side."""
    running = bench.started(work(upstream.MAIN, bench))

    def new(proxy, process):
        answer = bench.load("steady", bench.listen(proxy), process, seconds=bench.seconds, close=1, connections=16)
        bench.add("s4.new", proxy.name, micros(answer))

    bench.rounds_over(running, "s4 new client connections", new)
    bench.end(running)
    for offset, key in ((upstream.FULL, "full"), (upstream.RESUMED, "resumed")):
        running = bench.started(work(offset, bench))

        def handshakes(proxy, process, key=key):
            answer = bench.load("steady", bench.listen(proxy), process, seconds=bench.seconds, connections=8)
            bench.add(f"s4.{key}", proxy.name, micros(answer))
            share = 100 * answer["resumed"] / answer["requests"]
            if key == "resumed":
                bench.add("s4.share", proxy.name, share)
            elif share > 0:
                raise Failure(f"{share:.0f} % of the full handshakes were resumed")

        bench.rounds_over(running, f"s4 {key} handshakes", handshakes)
        bench.end(running)


def s5(bench):
    """Memory, idle and per connection that has asked once."""
    template = work(upstream.MAIN, bench)
    for number in range(min(bench.rounds, 2)):
        for proxy in bench.proxies:
            say(f"s5 memory, round {number + 1}: {proxy.name}")
            for process in bench.started(template, [proxy]).values():
                try:
                    answer = bench.load("idle", bench.listen(proxy), process, steps="1000,10000")
                    bench.add("s5.idle", proxy.name, answer["first_kib"] / 1024)
                    for count, kib in answer["kib"].items():
                        bench.add(f"s5.{count}", proxy.name, (kib - answer["first_kib"]) / int(count))
                except Failure as failure:
                    bench.problem(f"s5: {proxy.name}", str(failure))
                process.end()


def starts(bench, proxy, one):
    """Milliseconds and MiB of a start."""
    free(one.listen)
    command = [bench.tools.load, "start", "--to", f"127.0.0.1:{one.listen}", "--cpu", PROXY_CPU,
               "--host", one.names()[-1], "--log", proxy.folder / "start.log", "--", *proxy.command(one)]
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False,
                          preexec_fn=lambda: os.sched_setaffinity(0, {OTHER_CPU}))
    if done.returncode != 0:
        raise Failure(done.stderr.strip())
    answer = json.loads(done.stdout)
    return answer["ms"], answer["rss_kib"] / 1024


def s6(bench):
    """From exec to the first answer."""
    everyone = {proxy: None for proxy in bench.proxies}

    def once(proxy, _):
        one = Work(bench.listen(proxy), bench.first + upstream.MAIN)
        for _ in range(3):
            bench.add("s6.start", proxy.name, starts(bench, proxy, one)[0])

    bench.rounds_over(everyone, "s6 start", once)
    for name, path in bench.tools.sorties.items():
        bench.add("s6.size", name, os.path.getsize(path) / 1e6)


def s7(bench):
    """HTTP/2 on both sides."""
    running = bench.started(work(upstream.H2, bench, h2=True))

    def cpu(proxy, process):
        answer = bench.load("streams", bench.listen(proxy), process, seconds=bench.seconds, connections=8, streams=8)
        bench.add("s7.cpu", proxy.name, micros(answer))

    bench.rounds_over(running, "s7 HTTP/2", cpu)
    bench.end(running)


def s8(bench):
    """Many hosts, beside one."""
    able = [proxy for proxy in bench.proxies if not proxy.lacks(Work(0, 0, hosts=2))]
    base = {}

    def memory(proxy, hosts):
        one = Work(bench.listen(proxy), bench.first + upstream.MAIN, hosts)
        return starts(bench, proxy, one)

    for proxy in able:
        say(f"s8 one host, memory: {proxy.name}")
        base[proxy] = statistics.median(memory(proxy, 1)[1] for _ in range(3))
    for hosts in (10_000, 100_000):
        def start(proxy, _, hosts=hosts):
            milliseconds, mib = memory(proxy, hosts)
            bench.add(f"s8.{hosts}.start", proxy.name, milliseconds)
            bench.add(f"s8.{hosts}.rss", proxy.name, mib - base[proxy])

        bench.rounds_over({proxy: None for proxy in able}, f"s8 {hosts} hosts, start", start)
        few = bench.started(work(upstream.MAIN, bench), able)
        many = bench.started(work(upstream.MAIN, bench, hosts=hosts, variant=1), able)

        def cpu(proxy, process, hosts=hosts, few=few):
            both = []
            for count, variant, measured in ((0, 0, few[proxy]), (hosts, 1, process)):
                answer = bench.load("steady", bench.listen(proxy, variant), measured,
                                    seconds=bench.seconds, hosts=count)
                both.append(micros(answer))
            bench.add(f"s8.{hosts}.cpu", proxy.name, 100 * (both[1] / both[0] - 1))

        bench.rounds_over(many, f"s8 {hosts} hosts, CPU", cpu)
        bench.end(few)
        bench.end(many)


def s9(bench):
    """Whether the cost stays where it is while the work grows: sortie alone."""
    for proxy in [proxy for proxy in bench.proxies if hasattr(proxy, "fan")]:
        one = Work(bench.listen(proxy), bench.first + upstream.MAIN)
        for count in (10, 100, 1_000, 10_000):
            # At a fixed rate, every connection in its turn: all are alive, few are busy.
            flags = dict(connections=count, rate=5000, turns=1, warm=0.5 + count / 5000)
            grow(bench, proxy, one, "connections", count, lambda: proxy.command(one), NAME, flags)
        for what in ("upstreams", "certificates"):
            for count in (1, 10, 100, 1_000):
                pairs = [("client.crt", "client.key")] * count
                if what == "certificates":
                    pairs = bench.pki.many(count)
                # One question at a time needs one connection to each; warm until all are there.
                flags = dict(hosts=count, connections=1, warm=0.5 + count / 200)
                grow(bench, proxy, one, what, count, lambda pairs=pairs: proxy.fan(one, pairs), "h0.example", flags)
        for count in (1, 2):
            command = lambda count=count: proxy.command(one, workers=count)
            grow(bench, proxy, one, "workers", count, command, NAME, dict(connections=64))


def grow(bench, proxy, one, what, count, command, host, flags):
    """One size: CPU per request and memory, over the rounds."""
    free(one.listen)
    cpu, memory = [], []
    process = Process(proxy.name, command(), proxy.folder / "growth.log", PROXY_CPU)
    try:
        process.wait_ready(one.listen, host)
        for number in range(min(bench.rounds, 3)):
            say(f"s9 {count} {what}, round {number + 1}: {proxy.name}")
            answer = bench.load("steady", one.listen, process, seconds=bench.seconds, **flags)
            cpu.append(micros(answer))
            memory.append(resident(process))
        bench.growth.append({"proxy": proxy.name, "what": what, "count": count, "cpu_us": cpu, "rss_mib": memory})
    except Failure as failure:
        bench.problem(f"s9 {count} {what}: {proxy.name}", str(failure))
    finally:
        process.end()


def resident(process):
    """MiB."""
    sum_kib = 0
    for pid in process.pids():
        with open(f"/proc/{pid}/status", encoding="ascii", errors="replace") as lines:
            sum_kib += sum(int(line.split()[1]) for line in lines if line.startswith("VmRSS:"))
    return sum_kib / 1024


ALL = {"s1": s1, "s2": s2, "s3": s3, "s4": s4, "s5": s5, "s6": s6, "s7": s7, "s8": s8, "s9": s9}
