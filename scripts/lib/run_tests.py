#!/usr/bin/python3
"""scripts/test: builds, runs ctest, counts the tests inside its entries, looks for leftovers."""

import argparse
import os
import re
import subprocess
import sys
import time
import xml.etree.ElementTree as xml
from collections import defaultdict

from weftlab import LabError, cleanup_stale, leftovers

ROOT = os.path.abspath(f"{os.path.dirname(__file__)}/../..")
SUITES = ["unit", "golden", "bpf", "e2e", "helm", "fuzz", "check"]
# With --long only: entries that build or soak for a quarter of an hour.
LONG = "long"
# Under the sanitizers: e2e only its smoke tests, the rest of it tests the kernel's side once more.
ASAN_SUITES = ["unit", "golden", "e2e", "fuzz"]
ASAN_ENV = {
    "ASAN_OPTIONS": "detect_leaks=1:abort_on_error=1",
    "UBSAN_OPTIONS": "print_stacktrace=1",
}
# What has threads: weft_threaded() in cmake/weft.cmake labels it so; the target "threaded" builds it.
TSAN_SUITES = ["unit", "e2e"]
TSAN_ENV = {"TSAN_OPTIONS": "second_deadlock_stack=1"}
TSAN_BITS = 28  # with more of vm.mmap_rnd_bits GCC 12's ends at once, now and then

_GTEST_RAN = re.compile(r"^\[==========\] (\d+) tests? from .* ran", re.M)
_GTEST_PASSED = re.compile(r"^\[  PASSED  \] (\d+) test", re.M)
_UNITTEST_RAN = re.compile(r"^Ran (\d+) tests? in .*$", re.M)
_UNITTEST_BAD = re.compile(r"(?:failures|errors|skipped|unexpected successes)=(\d+)")
_MISSING = re.compile(r"^not run: kernel feature (\S+)", re.M)


def count_inner(output, passed):
    """(passed, failed) tests inside one ctest entry; a skipped one counts as failed."""
    ran = sum(map(int, _GTEST_RAN.findall(output)))
    good = sum(map(int, _GTEST_PASSED.findall(output)))
    for found in _UNITTEST_RAN.finditer(output):
        ran += int(found.group(1))
        verdict = output[found.end() :].lstrip().splitlines()[:1]
        good += int(found.group(1)) - sum(
            map(int, _UNITTEST_BAD.findall(verdict[0] if verdict else ""))
        )
    if not ran and not (_GTEST_RAN.search(output) or _UNITTEST_RAN.search(output)):
        return (1, 0) if passed else (0, 1)  # a script: the entry is the test
    good = max(good, 0)
    bad = ran - good
    return (good, bad) if passed else (good, max(bad, 1))


def read_features():
    listed = {}
    with open(f"{ROOT}/tests/kernel-features.txt", encoding="utf-8") as file:
        for line in file:
            name, colon, reason = line.partition(":")
            if colon and not line.startswith("#"):
                listed[name.strip()] = reason.strip()
    return listed


class Tally:
    def __init__(self):
        self.entries = defaultdict(int)
        self.passed = defaultdict(int)
        self.failed = defaultdict(int)
        self.seconds = defaultdict(float)
        self.failures = []
        self.missing = set()

    def add(self, suite, name, passed, output, seconds):
        good, bad = count_inner(output, passed)
        self.entries[suite] += 1
        self.passed[suite] += good
        self.failed[suite] += bad
        self.seconds[suite] += seconds
        if bad:
            self.failures.append(f"{suite}: {name}")
        self.missing.update(_MISSING.findall(output))

    def fail(self, suite, reason):
        self.failed[suite] += 1
        self.failures.append(f"{suite}: {reason}")

    def print(self):
        print(f"\n{'suite':<16}{'programs':>9}{'passed':>9}{'failed':>9}{'seconds':>9}")
        for suite in list(dict.fromkeys([*self.entries, *self.failed])):
            print(
                f"{suite:<16}{self.entries[suite]:>9}{self.passed[suite]:>9}{self.failed[suite]:>9}"
                f"{self.seconds[suite]:>9.0f}"
            )


def run_ctest(build, suites, prefix, tally, env, only=None, before=()):
    """Everything, or the entries that carry one of the labels in `only`. `before`: words of a
    command that runs ctest."""
    report = f"{build}/ctest.xml"
    if os.path.exists(report):
        os.unlink(report)
    command = [
        *before,
        "ctest",
        "--test-dir",
        build,
        "-j2",
        "--output-on-failure",
        "--output-junit",
        report,
        "--test-output-size-passed",
        "8000000",
        "--test-output-size-failed",
        "8000000",
    ]
    if only:
        command += ["-L", f"^({'|'.join(only)})$"]
    if LONG not in suites:
        command += ["-LE", f"^{LONG}$"]
    subprocess.run(command, env={**os.environ, **env}, check=False)
    if os.path.exists(report):
        read_report(report, suites, prefix, tally)
    for suite in suites:
        if not tally.passed[prefix + suite] + tally.failed[prefix + suite]:
            tally.fail(prefix + suite, "the suite ran no test")


def read_report(path, suites, prefix, tally):
    for case in xml.parse(path).getroot().iter("testcase"):
        name = case.get("name")
        suite = name.split(".")[0]
        output = case.findtext("system-out") or ""
        passed = case.get("status") == "run" and case.find("failure") is None
        tally.add(
            prefix + (suite if suite in suites else "other"),
            name,
            passed,
            output,
            float(case.get("time") or 0),
        )


def build(preset, tally, *targets):
    started = time.monotonic()
    print(f"\n=== build {preset}", flush=True)
    if subprocess.run([f"{ROOT}/scripts/build", preset, *targets], check=False).returncode:
        tally.fail("build", f"preset {preset} does not build")
        return False
    print(f"=== build {preset}: {time.monotonic() - started:.0f} s", flush=True)
    return True


def run_tsan(tally):
    """Its weft-proxy runs below the release build's weftd."""
    if not build("release", tally, "weftd", "weftctl", "weft-sockets"):
        return
    if not build("tsan", tally, "threaded"):
        return
    before = []
    with open("/proc/sys/vm/mmap_rnd_bits", encoding="ascii") as file:
        bits = int(file.read())
    if bits > TSAN_BITS:
        print(f"tsan: vm.mmap_rnd_bits is {bits}, above {TSAN_BITS}: run under setarch -R")
        before = ["setarch", "-R"]
    print("\n=== what has threads under TSan", flush=True)
    run_ctest(f"{ROOT}/build/tsan", TSAN_SUITES, "tsan ", tally, TSAN_ENV, ["threads"], before)


def check_leftovers(tally):
    found = leftovers()
    tally.entries["leftovers"] += 1
    if not found:
        tally.passed["leftovers"] += 1
    for line in found:
        tally.fail("leftovers", line)
    cleanup_stale()


def report_features(tally):
    listed = read_features()
    for name in sorted(tally.missing):
        if name in listed:
            print(f"not run on this kernel: {name}: {listed[name]}")
        else:
            tally.fail(
                "features",
                f"kernel feature {name} is missing and not in " "tests/kernel-features.txt",
            )


def parse_arguments():
    parser = argparse.ArgumentParser(prog="scripts/test")
    parser.add_argument("--long", action="store_true")
    parser.add_argument("--asan", action="store_true")
    parser.add_argument("--tsan", action="store_true")
    parser.add_argument("suites", nargs="*", metavar="suite")
    chosen = parser.parse_args()
    if chosen.tsan and chosen.suites:
        parser.error("--tsan is a suite of its own")
    for suite in chosen.suites:
        if suite not in SUITES:
            parser.error(f"no suite \"{suite}\"; there are: {' '.join(SUITES)}")
    return chosen


def main():
    chosen = parse_arguments()
    tally = Tally()
    started = time.monotonic()
    cleanup_stale()
    env = {"WEFT_LONG": "1"} if chosen.long else {}
    everything = not (chosen.suites or chosen.asan or chosen.tsan)
    if not (chosen.asan or chosen.tsan) and build("release", tally):
        suites = chosen.suites or SUITES + [LONG] * chosen.long
        run_ctest(f"{ROOT}/build", suites, "", tally, env, chosen.suites)
    asan = [suite for suite in ASAN_SUITES if suite in (chosen.suites or SUITES)]
    if (chosen.asan or everything) and build("asan", tally):
        print("\n=== the same under ASan+UBSan", flush=True)
        only = [suite for suite in asan if suite != "e2e"] + ["smoke"] * ("e2e" in asan)
        run_ctest(f"{ROOT}/build/asan", asan, "asan ", tally, {**env, **ASAN_ENV}, only)
    if chosen.tsan or everything:
        run_tsan(tally)
    check_leftovers(tally)
    report_features(tally)
    tally.print()
    for failure in tally.failures:
        print(f"FAILED {failure}")
    passed, failed = sum(tally.passed.values()), sum(tally.failed.values())
    print(f"{time.monotonic() - started:.0f} s")
    print(f"{passed} passed, {failed} failed")
    return 1 if failed or not passed else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except LabError as error:
        sys.exit(f"test: {error}")
    except KeyboardInterrupt:
        sys.exit(130)
