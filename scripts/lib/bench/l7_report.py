"""What scripts/bench l7 prints: tables of medians, and each figure to reach with its interval."""

from . import common


def _tables(measured):
    def cell(rounds, name, key, scale, digits=1):
        return f"{common.median([r[name][key] for r in rounds]) / scale:,.{digits}f}"

    for title, key in (
        ("keep-alive, 1 KB, 64 connections, closed loop (medians over rounds)", "keep_alive"),
        ("1 MB, 8 connections", "large"),
        ("routes: the last of them matches", "routes"),
    ):
        rounds = measured[key]
        common.table(
            title,
            ["proxy", "CPU us/request", "machine us/request", "requests/s", "failed"],
            [
                [name, cell(rounds, name, "cpu_ns_per_op", 1e3, 2), cell(rounds, name, "busy_ns_per_op", 1e3, 2),
                 cell(rounds, name, "rate", 1, 0), sum(r[name]["bad"] for r in rounds)]
                for name in rounds[0]
            ],
        )
    for key, how in (("latency", "CPUs halt as they like"), ("latency_awake", "no CPU halts")):
        _latency_table(f"open loop, {measured['latency_rate']:,} requests/s due, 64 connections; {how}", measured[key])
    _memory_table(measured["memory"])


def _latency_table(title, rounds):
    def cell(name, key):
        return f"{common.median([r[name][key] for r in rounds]) / 1e3:,.0f}"

    common.table(
        title,
        ["proxy", "p50 us", "p99 us", "p99.9 us", "failed"],
        [
            [name, *(cell(name, key) for key in ("p50_ns", "p99_ns", "p999_ns")),
             sum(r[name]["errors"] for r in rounds)]
            for name in rounds[0]
        ],
    )


def _memory_table(rounds):
    def middle(name, part, kind, scale, digits):
        return f"{common.median([r[name][part][kind] for r in rounds]) / scale:,.{digits}f}"

    common.table(
        "memory of a fresh process, and by which it grows an idle keep-alive connection",
        ["proxy", "idle RSS MB", "PSS MB", "RSS KB/connection", "PSS KB/connection"],
        [
            [name, middle(name, "idle", "rss", 1e6, 1), middle(name, "idle", "pss", 1e6, 1),
             middle(name, "per_connection", "rss", 1024, 2), middle(name, "per_connection", "pss", 1024, 2)]
            for name in rounds[0]
        ],
    )


def _cpu(figures, rounds):
    for peer, most in (("nginx", 1.0), ("haproxy", 1.0), ("envoy", 0.5)):
        if peer in rounds[0]:
            figures.add(f"CPU a request: weft against {peer}", common.ratios(rounds, "weft", peer, "cpu_ns_per_op"), "x",
                        most=most)
            figures.add(f"... of the whole machine, against {peer}", common.ratios(rounds, "weft", peer, "busy_ns_per_op"),
                        "x")
    figures.add("CPU a request: relay against nginx", common.ratios(rounds, "relay", "nginx", "cpu_ns_per_op"), "x")
    figures.add("CPU a request: weft less relay",
                [(r["weft"]["cpu_ns_per_op"] - r["relay"]["cpu_ns_per_op"]) / 1e3 for r in rounds], " us", 2)


def _added(figures, rounds, how, reach):
    def added(r, name):
        return max(r[name]["p99_ns"] - r["direct"]["p99_ns"], 1000)  # less than a microsecond is noise

    for peer, most in (("haproxy", 1.0), ("nginx", None), ("envoy", None)):
        if peer in rounds[0]:
            figures.add(f"added p99{how}: weft against {peer}",
                        [added(r, "weft") / added(r, peer) for r in rounds], "x", most=most if reach else None)
            figures.add(f"... the plain p99, against {peer}", common.ratios(rounds, "weft", peer, "p99_ns"), "x")


def _failed(measured):
    closed = sum(r["weft"]["bad"] for key in ("keep_alive", "large") for r in measured[key])
    routed = sum(each["bad"] for r in measured["routes"] for each in r.values())
    return closed + routed + sum(r["weft"]["errors"] for r in measured["latency"])


def report(measured, routes, idle_connections):
    _tables(measured)
    figures = common.Figures()
    _cpu(figures, measured["keep_alive"])
    _added(figures, measured["latency_awake"], "", reach=True)
    _added(figures, measured["latency"], ", CPUs halt", reach=False)
    for peer in ("haproxy", "haproxy splice-auto", "haproxy splice"):
        figures.add(f"1 MB, throughput against {peer}", common.ratios(measured["large"], "weft", peer, "rate"), "x", least=1)
        figures.add(f"... CPU, against {peer}", common.ratios(measured["large"], "weft", peer, "cpu_ns_per_op"), "x")
    memory = measured["memory"]
    figures.add("memory, idle", [r["weft"]["idle"]["rss"] / 1e6 for r in memory], " MB", 1, most=15)
    figures.add(f"memory, each of {idle_connections:,} idle connections",
                [r["weft"]["per_connection"]["rss"] / 1024 for r in memory], " KB", 2, most=8)
    for kind in ("exact", "prefix", "header", "regex"):
        figures.add(f"CPU a request: {routes:,} {kind} routes against 1",
                    common.ratios(measured["routes"], f"weft {kind}", "weft 1 route", "cpu_ns_per_op"), "x",
                    most=None if kind == "regex" else 1.05)
    failed = _failed(measured)
    figures.rows.append(["requests that weft failed", failed, "", "0", common.verdict(failed == 0)])
    common.table("against the figures to reach", ["what", "median", "95 % interval", "reach", ""], figures.rows)
    return figures.rows
