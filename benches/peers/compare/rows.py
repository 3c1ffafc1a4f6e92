"""What is measured, in words, and what issue 6 wants of it.

Owns: the rows of the table: their order, units and targets. Never: a measured value.
"""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Row:
    """`ratio`: at most (or, where more is better, at least) so many times the best peer; `most`: an absolute bound."""

    key: str
    what: str
    unit: str
    ratio: float = None
    most: float = None
    more_is_better: bool = False
    digits: int = 1

    def target(self):
        """As the table says it."""
        if self.ratio is not None:
            return f"{'≥' if self.more_is_better else '≤'} {self.ratio:.2f}x"
        return f"≤ {self.most:g} {self.unit}" if self.most is not None else "-"

    def met(self, ours, best):
        """None where there is no target, or nothing to compare with."""
        if self.most is not None:
            return ours <= self.most
        if self.ratio is None or not best:
            return None
        share = ours / best
        return share >= self.ratio if self.more_is_better else share <= self.ratio


ROWS = [
    Row("s1.cpu", "small request, HTTP/1.1 keep-alive: CPU", "µs", ratio=0.80),
    Row("s1.rate", "the same, held to half a core: requests/s", "", ratio=1.25, more_is_better=True, digits=0),
    Row("s2.1000.p50", "1,000 requests/s: p50", "µs", ratio=0.95, digits=0),
    Row("s2.1000.p99", "1,000 requests/s: p99", "µs", ratio=0.95, digits=0),
    Row("s2.1000.p999", "1,000 requests/s: p99.9", "µs", digits=0),
    Row("s2.1000.cpu", "1,000 requests/s: CPU per request", "µs"),
    Row("s2.5000.p50", "5,000 requests/s: p50", "µs", ratio=0.95, digits=0),
    Row("s2.5000.p99", "5,000 requests/s: p99", "µs", ratio=0.95, digits=0),
    Row("s2.5000.p999", "5,000 requests/s: p99.9", "µs", digits=0),
    Row("s2.5000.cpu", "5,000 requests/s: CPU per request", "µs"),
    Row("s3.down1", "1 MiB down, 4 clients: CPU per MiB", "µs", digits=0),
    Row("s3.up1", "1 MiB up, 4 clients: CPU per MiB", "µs", digits=0),
    Row("s3.down64", "64 MiB down, 1 client: CPU per MiB", "µs", ratio=0.82, digits=0),
    Row("s3.up64", "64 MiB up, 1 client: CPU per MiB", "µs", ratio=0.92, digits=0),
    Row("s4.new", "new client connection per request: CPU", "µs", ratio=0.85),
    Row("s4.full", "full mTLS handshake per request: CPU", "µs", ratio=0.75, digits=0),
    Row("s4.resumed", "resumed mTLS handshake per request: CPU", "µs", ratio=0.60, digits=0),
    Row("s4.share", "of those, resumed", "%", more_is_better=True),
    Row("s5.idle", "memory after the first request, RSS", "MiB", most=6),
    Row("s5.1000", "memory per idle client connection, 1,000", "KiB", most=0.5, digits=2),
    Row("s5.10000", "memory per idle client connection, 10,000", "KiB", most=0.5, digits=2),
    Row("s6.start", "exec to the first 200", "ms", most=8),
    Row("s6.size", "the program, stripped", "MB", most=12),
    Row("s7.cpu", "HTTP/2 in and out: CPU per request", "µs", ratio=1.00),
    Row("s8.10000.cpu", "10,000 hosts: CPU per request, over one host", "%", most=3),
    Row("s8.10000.start", "10,000 hosts: exec to the first 200", "ms", most=15),
    Row("s8.10000.rss", "10,000 hosts: added memory", "MiB", most=3),
    Row("s8.100000.cpu", "100,000 hosts: CPU per request, over one host", "%", most=5),
    Row("s8.100000.start", "100,000 hosts: exec to the first 200", "ms", most=150, digits=0),
    Row("s8.100000.rss", "100,000 hosts: added memory", "MiB"),
]
