#!/usr/bin/python3
"""nginx, redis and PostgreSQL with their own clients, all of whose bytes may take the bypass."""

import glob
import os
import re
import shutil
import socket
import subprocess

from harness import NodeTest, main, wait_until, weftlab

NOBODY = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]

NGINX = """
daemon off; master_process off; pid {dir}/nginx.pid; error_log {dir}/nginx.log crit;
events {{ }}
http {{
  access_log off; keepalive_requests 1000000;
  client_body_temp_path {dir}/t1; proxy_temp_path {dir}/t2; fastcgi_temp_path {dir}/t3;
  uwsgi_temp_path {dir}/t4; scgi_temp_path {dir}/t5;
  server {{ listen {at}; root {dir}/www; }}
}}
"""


def program(name):
    path = shutil.which(name)
    if not path:
        raise weftlab.LabError(f"{name} is missing: scripts/setup --long installs it")
    return path


def daemon(channel, command, address, port, log):
    """A job: runs it until it is stopped, says when it accepts."""
    with open(log, "wb") as file:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=file, stderr=file)

    def accepts():
        if process.poll() is not None:
            raise RuntimeError(f"{command[0]} ended with {process.returncode}, see {log}")
        with socket.socket() as probe:
            return probe.connect_ex((address, port)) == 0

    wait_until(accepts, 60, f"{command[0]} accepts")
    channel.send("up")
    channel.wait_for_stop()
    process.terminate()
    process.wait()


def output(command):
    """In the pod: what it prints; it must succeed."""
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    if done.returncode:
        raise RuntimeError(f"{command}: {done.returncode}: {done.stderr[-2000:]}")
    return done.stdout + done.stderr


class Applications(NodeTest):
    PODS = ["client", "server"]
    BACKENDS = []
    FLAGS = ["--bypass", "on", "--proxy", "off"]

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.server = cls.node["server"]
        cls.folder = f"{cls.node.dir}/apps"
        os.makedirs(f"{cls.folder}/www")
        wait_until(lambda: cls.weftd.ctl("status")["bypass"]["mode"] == "on", 60, "the bypass is on")

    def serve(self, command, port):
        log = f"{self.folder}/{os.path.basename(command[0])}-{port}.out"
        job = self.server.start(daemon, command, self.server.v4, port, log)
        job.receive(guard_seconds=60)
        self.addCleanup(job.stop)

    def bypassed(self):
        return self.weftd.metrics().sum("weft_bypass_bytes_total")

    def run_client(self, *command):
        return self.client.run(output, [str(word) for word in command], guard_seconds=150)

    def test_nginx_and_wrk(self):
        body = os.urandom(1000).hex()[:1000]
        with open(f"{self.folder}/www/1k", "w", encoding="ascii") as file:
            file.write(body)
        with open(f"{self.folder}/www/1m", "w", encoding="ascii") as file:
            file.write(body * 1000)
        os.chmod(self.folder, 0o755)
        at = f"{self.server.v4}:8000"
        config = f"{self.folder}/nginx.conf"
        with open(config, "w", encoding="ascii") as file:
            file.write(NGINX.format(dir=self.folder, at=at))
        self.serve([program("nginx"), "-c", config], 8000)
        before = self.bypassed()
        for path, size in (("1k", 1000), ("1m", 1000000)):
            # By default it counts as an error what takes two seconds.
            words = ["-t1", "-c16", "-d1s", "--timeout", "60s"]
            said = self.run_client("wrk", *words, f"http://{at}/{path}")
            requests = int(re.search(r"(\d+) requests in", said).group(1))
            self.assertGreater(requests, 0, said)
            self.assertNotIn("Socket errors", said)
            self.assertNotIn("Non-2xx", said)
            fetched = self.run_client("curl", "-sS", "--fail", f"http://{at}/{path}")
            self.assertEqual(len(fetched), size)
        self.assertGreater(self.bypassed(), before)

    def test_redis_and_its_benchmark(self):
        words = ["--bind", self.server.v4, "--port", "6379", "--protected-mode", "no", "--save", ""]
        self.serve([program("redis-server"), *words, "--dir", self.folder], 6379)
        before = self.bypassed()
        at = ["-h", self.server.v4, "-p", "6379"]
        for extra in ([], ["-P", "16"], ["-d", "20000"]):
            said = self.run_client(
                program("redis-benchmark"), *at, "-q", "-n", 5000, "-c", 20, "-t", "set,get,lpush,lrange_100",
                *extra,
            )
            self.assertEqual(said.count("requests per second"), 5, said)
        value = os.urandom(2000).hex()
        self.assertEqual(self.run_client("redis-cli", *at, "set", "k", value).strip(), "OK")
        self.assertEqual(self.run_client("redis-cli", *at, "get", "k").strip(), value)
        self.assertGreater(self.bypassed(), before)

    def test_postgresql_and_pgbench(self):
        # Debian keeps a version's programs together, and not in PATH.
        found = sorted(glob.glob("/usr/lib/postgresql/*/bin/pgbench"))
        self.assertTrue(found, "postgresql is missing: scripts/setup --long installs it")
        tools = os.path.dirname(found[-1])
        data = f"{self.folder}/pg"
        os.makedirs(data)
        os.chown(data, 65534, 65534)
        for folder in (self.node.dir, self.folder):
            os.chmod(folder, 0o755)
        self.server.run(
            output, [*NOBODY, f"{tools}/initdb", "-D", data, "-A", "trust", "-U", "pg", "--no-sync"]
        )
        with open(f"{data}/pg_hba.conf", "a", encoding="ascii") as file:
            file.write("host all all samenet trust\n")
        options = f"-c listen_addresses={self.server.v4} -c unix_socket_directories={data} -c fsync=off"
        self.serve([*NOBODY, f"{tools}/postgres", "-D", data, *options.split()], 5432)
        before = self.bypassed()
        at = ["-h", self.server.v4, "-U", "pg"]
        self.run_client(f"{tools}/pgbench", *at, "-i", "-q", "-s", 2, "postgres")
        said = self.run_client(f"{tools}/pgbench", *at, "-c", 8, "-j", 2, "-t", 200, "postgres")
        self.assertIn("1600/1600", said)
        self.assertNotRegex(said, r"failed transactions: [1-9]")
        query = "select (select sum(abalance) from pgbench_accounts) = (select sum(delta) from pgbench_history)"
        self.assertEqual(self.run_client(f"{tools}/psql", *at, "-Atc", query, "postgres").strip(), "t")
        rows = self.run_client(f"{tools}/psql", *at, "-Atc", "select aid from pgbench_accounts", "postgres")
        self.assertEqual(len(rows.split()), 200000)  # a long answer, whole
        self.assertGreater(self.bypassed(), before)


if __name__ == "__main__":
    main()
