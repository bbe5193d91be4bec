"""What every benchmark shares: the machine's own account of work, paired statistics, tables."""

import contextlib
import datetime
import functools
import json
import os
import platform
import random
import statistics
import subprocess

from weftlab import kernel, weftd as lab

_ROOT = os.path.abspath(f"{os.path.dirname(__file__)}/../../..")


def tool(*words, cpu=0):
    """Runs weft_crr to its end where this is called (a pod's worker) and returns what it printed."""
    prefix = ["taskset", "-c", str(cpu)]
    done = subprocess.run(
        [*prefix, lab.binary("weft_crr", "tests"), *map(str, words)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"weft_crr {' '.join(map(str, words[:3]))}: {done.stderr.strip()}")
    return json.loads(done.stdout)


def serve(channel, addresses):
    """A server job: weft_crr serve, on the client's CPU, until told to stop. One CPU for both: a cycle is
    then what it costs, where two would measure how long a halted CPU takes to wake (measured here: 250 of
    330 us)."""
    with subprocess.Popen(
        ["taskset", "-c", "0", lab.binary("weft_crr", "tests"), "serve", *addresses], stdout=subprocess.PIPE
    ) as process:
        process.stdout.readline()
        channel.send("ready")
        channel.wait_for_stop()
        process.kill()


def busy_ns():
    """CPU time all processors spent on anything since boot, softirqs included: loopback and veth charge
    the receiver's work to whoever sends, so a process's own account is not the whole cost."""
    with open("/proc/stat", encoding="ascii") as file:
        fields = [int(word) for word in file.readline().split()[1:9]]
    user, nice, system, _idle, _iowait, irq, softirq, _steal = fields
    return (user + nice + system + irq + softirq) * 1_000_000_000 // os.sysconf("SC_CLK_TCK")


@contextlib.contextmanager
def awake():
    """No CPU halts meanwhile: each has a loop at SCHED_IDLE, which gives way to anything else at once. A
    halted virtual CPU wakes when its hypervisor pleases, up to milliseconds later, and who sleeps more
    often meets that more often: without this, latencies tell how often a program sleeps."""
    spinners = [
        subprocess.Popen(
            ["taskset", "-c", str(cpu), "chrt", "--idle", "0", "sh", "-c", "while :; do :; done"],
            preexec_fn=functools.partial(kernel.die_with_parent, os.getpid()),
        )
        for cpu in range(os.cpu_count())
    ]
    try:
        yield
    finally:
        for spinner in spinners:
            spinner.kill()
            spinner.wait()


def median(values):
    return statistics.median(values)


def interval(values, resamples=2000):
    """Bootstrap 95 % confidence interval of the median."""
    generator = random.Random(1)
    medians = sorted(
        statistics.median(generator.choices(values, k=len(values))) for _ in range(resamples)
    )
    return medians[int(resamples * 0.025)], medians[int(resamples * 0.975)]


def table(title, heading, rows):
    print(f"\n{title}")
    widths = [max(len(str(row[i])) for row in [heading, *rows]) for i in range(len(heading))]
    for row in [heading, *rows]:
        print("  " + "  ".join(str(cell).ljust(width) for cell, width in zip(row, widths)).rstrip())


def verdict(ok):
    return "reached" if ok else "MISSED"


class Figures:
    """Rows of the last table. A figure is reached where the worse bound of its interval reaches it."""

    def __init__(self):
        self.rows = []

    def add(self, what, values, unit, digits=3, most=None, least=None):
        low, high = interval(values)
        reach, ok = "-", ""
        if most is not None:
            reach, ok = f"<= {most:g}{unit}", verdict(high <= most)
        elif least is not None:
            reach, ok = f">= {least:g}{unit}", verdict(low >= least)
        self.rows.append(
            [what, f"{median(values):,.{digits}f}{unit}", f"{low:,.{digits}f}..{high:,.{digits}f}", reach, ok]
        )


def ratios(rounds, a, b, key):
    return [r[a][key] / r[b][key] for r in rounds]


def save(name, measured):
    folder = f"{lab.build_dir()}/bench"
    os.makedirs(folder, exist_ok=True)
    path = f"{folder}/{name}.json"
    measured["machine"] = {
        "kernel": platform.release(),
        "cpus": os.cpu_count(),
        "date": datetime.date.today().isoformat(),
        "command": f"scripts/bench {name}",
    }
    with open(path, "w", encoding="ascii") as file:
        json.dump(measured, file, indent=1)
    print(f"\n  everything measured: {os.path.relpath(path, _ROOT)}")


def progress(text):
    print(f"bench: {text}", flush=True)
