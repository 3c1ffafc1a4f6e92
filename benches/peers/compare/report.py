"""The results: an aligned Markdown table, and JSON.

Owns: medians, spreads, ratios, and whether a target is met. Never: leaves out a row where sortie is behind.
"""

import json
import statistics

from .rows import ROWS


def number(value, digits):
    """With a separator where it is long."""
    return f"{value:,.{digits}f}"


def cell(samples, digits):
    """Median, and the spread in brackets."""
    if not samples:
        return "-"
    middle = number(statistics.median(samples), digits)
    if len(samples) == 1:
        return middle
    return f"{middle} [{number(min(samples), digits)}-{number(max(samples), digits)}]"


def table(header, lines):
    """Aligned, so that it can be read without being rendered."""
    widths = [max(len(line[column]) for line in [header, *lines]) for column in range(len(header))]
    rule = ["-" * width for width in widths]
    shown = [header, rule, *lines]
    return "\n".join("| " + " | ".join(text.ljust(width) for text, width in zip(line, widths)) + " |" for line in shown)


def best_of(row, values, peers):
    """The best peer's name and median."""
    medians = {name: statistics.median(values[name]) for name in peers if values.get(name)}
    if not medians:
        return None, None
    choose = max if row.more_is_better else min
    name = choose(medians, key=medians.get)
    return name, medians[name]


def comparison(bench):
    """The table of all rows that were measured."""
    ours = [proxy.name for proxy in bench.proxies if hasattr(proxy, "fan")]
    peers = [proxy.name for proxy in bench.proxies if not hasattr(proxy, "fan")]
    header = ["", "unit", *ours, *peers]
    header += [f"{name} / {ours[0]}" for name in ours[1:]]
    if ours:
        header += [f"{ours[0]} / best peer", "target", "met"]
    lines = []
    for row in ROWS:
        values = bench.values.get(row.key)
        if not values:
            continue
        name, best = best_of(row, values, peers)
        line = [row.what, row.unit]
        for column in ours + peers:
            text = cell(values.get(column), row.digits)
            line.append(f"**{text}**" if column == name else text)
        first = statistics.median(values[ours[0]]) if ours and values.get(ours[0]) else None
        for other in ours[1:]:
            both = first and values.get(other)
            line.append(f"{statistics.median(values[other]) / first:.2f}" if both else "-")
        if ours:
            comparable = first is not None and best and row.unit != "%"
            line.append(f"{first / best:.2f} ({name})" if comparable else "-")
            met = row.met(first, best) if first is not None else None
            line += [row.target(), {None: "-", True: "yes", False: "no"}[met]]
        lines.append(line)
    return table(header, lines)


def growth(bench):
    """Cost while the work grows."""
    if not bench.growth:
        return ""
    lines = []
    base = {}
    for entry in bench.growth:
        cpu = statistics.median(entry["cpu_us"])
        first = base.setdefault((entry["proxy"], entry["what"]), cpu)
        lines.append([entry["proxy"], entry["what"], f"{entry['count']:,}", cell(entry["cpu_us"], 1),
                      f"{100 * (cpu / first - 1):+.0f} %", cell(entry["rss_mib"], 1)])
    header = ["", "what grows", "to", "CPU µs/request", "over the first", "RSS MiB"]
    return table(header, lines)


def notes(bench, machine, versions, options):
    """What a reader has to know beside the figures."""
    lines = [f"{machine['processor']}, {machine['cores']} cores, Linux {machine['kernel']}; {options}."]
    lines += [f"{name}: {line}." for name, line in versions.items()]
    direct = bench.values.get("s1.rate", {}).get("direct")
    if direct:
        lines.append(f"Without proxy or TLS: {number(statistics.median(direct), 0)} requests/s.")
    for rate in (1000, 5000):
        parts = [bench.values.get(f"s2.{rate}.{part}", {}).get("direct") for part in ("p50", "p99", "p999")]
        if all(parts):
            text = " / ".join(number(statistics.median(part), 0) for part in parts)
            lines.append(f"Without proxy or TLS at {rate:,} requests/s: p50 / p99 / p99.9 {text} µs.")
    for name, samples in bench.values.get("s1.user", {}).items():
        lines.append(f"User space of {name} per small request: {statistics.median(samples):.1f} µs.")
    return lines + sorted(set(bench.notes))


def whole(bench, machine, versions, options, facts):
    """All of it as text and as JSON."""
    remarks = notes(bench, machine, versions, options)
    parts = [comparison(bench), growth(bench), "\n".join(f"- {line}" for line in remarks)]
    if bench.problems:
        parts.append("Did not count:\n" + "\n".join(f"- {line}" for line in bench.problems))
    text = "\n\n".join(part for part in parts if part)
    data = {"machine": machine, "versions": versions, "options": options, "mutual_tls": facts,
            "samples": bench.values, "growth": bench.growth, "notes": remarks, "problems": bench.problems}
    return text, json.dumps(data, indent=1)
