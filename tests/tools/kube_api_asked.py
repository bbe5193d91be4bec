"""The replaying API server, asked by http.client."""

import http.client
import json
import os
import ssl
import sys
import unittest

sys.path.insert(0, os.path.abspath(f"{os.path.dirname(__file__)}/../../scripts/lib"))

from weftlab.kube_api import (  # noqa: E402
    KubeApi,
    endpoint_slice,
    namespace,
    node,
    pod,
    service,
)

__all__ = [
    "GUARD",
    "SERVICES",
    "SLICES",
    "ApiTest",
    "endpoint_slice",
    "event",
    "namespace",
    "node",
    "pod",
    "service",
    "web",
]

SERVICES = "/api/v1/services"
SLICES = "/apis/discovery.k8s.io/v1/endpointslices"
GUARD = 30


class Client:
    def __init__(self, api, token="weft-token-1", context=None):
        if api.tls:
            context = context or ssl.create_default_context(cafile=api.authority.ca)
            self.http = http.client.HTTPSConnection(
                "127.0.0.1", api.port, timeout=GUARD, context=context
            )
        else:
            self.http = http.client.HTTPConnection("127.0.0.1", api.port, timeout=GUARD)
        self.headers = {"Authorization": f"Bearer {token}"} if token else {}

    def raw(self, path):
        self.http.request("GET", path, headers=self.headers)
        return self.http.getresponse()

    def get(self, path, status=200):
        answer = self.raw(path)
        body = json.loads(answer.read())
        if answer.status != status:
            raise AssertionError(f"{path}: {answer.status}, not {status}: {body}")
        return body

    def list(self, path=SERVICES, query=""):
        return self.get(f"{path}?{query}")

    def watch(self, version, path=SERVICES, query=""):
        answer = self.raw(f"{path}?watch=1&resourceVersion={version}&{query}")
        if answer.status != 200:
            raise AssertionError(f"{answer.status}: {answer.read()}")
        return answer

    def close(self):
        self.http.close()


def event(stream):
    return json.loads(stream.readline())


def web(name="web", address="10.96.0.10", **more):
    return service(f"shop/{name}", [address], [80], **more)


class ApiTest(unittest.TestCase):
    OPTIONS = {}

    def setUp(self):
        self.api = KubeApi(**self.OPTIONS).start()
        self.addCleanup(self.api.close)
        self.client = self.connect()

    def connect(self, **more):
        client = Client(self.api, **more)
        self.addCleanup(client.close)
        return client

    def version(self, path=SERVICES):
        return self.client.list(path)["metadata"]["resourceVersion"]
