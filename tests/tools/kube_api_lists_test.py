#!/usr/bin/python3
"""The replaying API server keeps to the API where it lists: compared with what the documentation
says (kubernetes.io, "API concepts")."""

import gzip
import json
import unittest

import kube_api_asked
from kube_api_asked import SERVICES, SLICES, endpoint_slice, event, namespace, node, pod, web


class Lists(kube_api_asked.ApiTest):
    def test_items_of_a_typed_list_carry_no_kind_and_the_list_does(self):
        self.api.put(web())
        found = self.client.list()
        self.assertEqual((found["kind"], found["apiVersion"]), ("ServiceList", "v1"))
        self.assertEqual(len(found["items"]), 1)
        self.assertNotIn("kind", found["items"][0])
        self.assertNotIn("apiVersion", found["items"][0])
        metadata = found["items"][0]["metadata"]
        self.assertEqual(metadata["resourceVersion"], found["metadata"]["resourceVersion"])
        self.assertTrue(metadata["uid"] and metadata["creationTimestamp"])

    def test_every_resource_has_its_path_and_kind(self):
        self.api.put(
            web(),
            endpoint_slice("shop/web", ["10.244.0.1"], [8080]),
            pod("shop/a", ["10.244.0.1"], "n1"),
            node("n1"),
            namespace("shop"),
        )
        for path, kind in (
            (SERVICES, "ServiceList"),
            (SLICES, "EndpointSliceList"),
            ("/api/v1/pods", "PodList"),
            ("/api/v1/nodes", "NodeList"),
            ("/api/v1/namespaces", "NamespaceList"),
            ("/api/v1/namespaces/shop/services", "ServiceList"),
            ("/apis/discovery.k8s.io/v1/namespaces/shop/endpointslices", "EndpointSliceList"),
        ):
            found = self.client.list(path)
            self.assertEqual((found["kind"], len(found["items"])), (kind, 1), path)
        self.assertEqual(self.client.get("/api/v1/namespaces/shop")["kind"], "Namespace")
        self.assertEqual(self.client.get("/api/v1/nodes/n1")["metadata"]["name"], "n1")
        self.assertEqual(
            self.client.get("/api/v1/namespaces/shop/services/web")["spec"]["clusterIP"],
            "10.96.0.10",
        )
        self.assertEqual(self.client.list("/api/v1/namespaces/other/services")["items"], [])
        self.assertEqual(self.client.get("/api/v1/nodes/n2", 404)["reason"], "NotFound")
        self.assertEqual(self.client.get("/api/v1/gizmos", 404)["kind"], "Status")

    def test_pages_stay_at_the_version_of_the_first(self):
        for i in range(10):
            self.api.put(web(f"s{i}", f"10.96.0.{i + 1}"))
        first = self.client.list(query="limit=4")
        self.assertEqual(first["metadata"]["remainingItemCount"], 6)
        self.api.delete("Service", "shop", "s5")
        self.api.put(web("s6", "10.96.1.1"), web("s55", "10.96.1.2"))
        names, version = [i["metadata"]["name"] for i in first["items"]], first["metadata"]
        page = first
        while token := page["metadata"].get("continue"):
            page = self.client.list(query=f"limit=4&continue={token}")
            self.assertEqual(page["metadata"]["resourceVersion"], version["resourceVersion"])
            names += [i["metadata"]["name"] for i in page["items"]]
        self.assertEqual(names, [f"s{i}" for i in range(10)])
        self.assertEqual((self.api.lists["services"], self.api.pages["services"]), (1, 3))

    def test_a_continue_token_expires_and_offers_an_inconsistent_rest(self):
        for i in range(6):
            self.api.put(web(f"s{i}", f"10.96.0.{i + 1}"))
        for expire in (self.api.compact, self.api.expire_continue):
            token = self.client.list(query="limit=4")["metadata"]["continue"]
            self.api.put(web("s0", f"10.96.1.{self.api.store.revision % 250}"))
            expire()
            gone = self.client.get(f"{SERVICES}?limit=4&continue={token}", 410)
            self.assertEqual((gone["reason"], gone["code"]), ("Expired", 410))
            rest = self.client.list(query=f"continue={gone['metadata']['continue']}")
            self.assertEqual([i["metadata"]["name"] for i in rest["items"]], ["s4", "s5"])
        self.assertEqual(self.client.get(f"{SERVICES}?continue=rubbish", 400)["code"], 400)

    def test_versions_unset_0_exact_and_of_the_future(self):
        old = self.api.put(web())
        self.api.store.freeze(True)
        self.api.put(web("later", "10.96.0.11"))
        self.assertEqual(len(self.client.list()["items"]), 2)
        self.assertEqual(len(self.client.list(query="resourceVersion=0&limit=1")["items"]), 1)
        exact = self.client.list(query=f"resourceVersion={old}&resourceVersionMatch=Exact")
        self.assertEqual(
            (len(exact["items"]), exact["metadata"]["resourceVersion"]), (1, str(old))
        )
        newer = self.client.list(query=f"resourceVersion={old}&resourceVersionMatch=NotOlderThan")
        self.assertEqual(len(newer["items"]), 2)
        future = self.client.get(f"{SERVICES}?resourceVersion=99999", 504)
        self.assertIn("Too large resource version", future["message"])
        self.assertEqual(future["details"]["causes"][0]["reason"], "ResourceVersionTooLarge")
        self.api.compact()
        query = f"resourceVersion={old}&resourceVersionMatch=Exact"
        self.assertEqual(self.client.get(f"{SERVICES}?{query}", 410)["reason"], "Expired")

    def test_selectors(self):
        self.api.put(
            pod("shop/a", ["10.244.0.1"], "n1", labels={"app": "web"}),
            pod("shop/b", ["10.244.0.2"], "n2", labels={"app": "db", "tier": "x"}),
        )

        def names(query):
            return [i["metadata"]["name"] for i in self.client.list("/api/v1/pods", query)["items"]]

        self.assertEqual(names("fieldSelector=spec.nodeName%3Dn1"), ["a"])
        self.assertEqual(names("fieldSelector=spec.nodeName!%3Dn1"), ["b"])
        self.assertEqual(names("labelSelector=app%3Ddb,tier"), ["b"])
        self.assertEqual(names("labelSelector=app!%3Ddb"), ["a"])
        self.assertEqual(names("labelSelector=!tier"), ["a"])
        self.client.get("/api/v1/pods?fieldSelector=spec.nonsense%3D1", 400)

    def test_metadata_alone_in_the_form_that_fits_the_request(self):
        form = "application/json;as=PartialObjectMetadata%s;g=meta.k8s.io;v=v1"
        self.api.put(pod("shop/a", ["10.244.0.1"], "n1", labels={"version": "v1"}))
        self.client.headers["Accept"] = form % "List"
        found = self.client.list("/api/v1/pods")
        self.assertEqual(found["kind"], "PartialObjectMetadataList")
        item = found["items"][0]
        self.assertEqual(set(item), {"kind", "apiVersion", "metadata"})
        self.assertEqual(
            (item["kind"], item["apiVersion"]), ("PartialObjectMetadata", "meta.k8s.io/v1")
        )
        self.assertEqual(item["metadata"]["labels"], {"version": "v1"})
        version = found["metadata"]["resourceVersion"]
        self.client.get(f"/api/v1/pods?watch=1&resourceVersion={version}", 406)
        self.client.headers["Accept"] = form % ""
        self.client.get("/api/v1/pods", 406)
        stream = self.client.watch(version, "/api/v1/pods", "allowWatchBookmarks=1")
        self.api.put(pod("shop/a", ["10.244.0.1"], "n1", labels={"version": "v2"}))
        changed = event(stream)["object"]
        self.assertEqual(set(changed), {"kind", "apiVersion", "metadata"})
        self.assertEqual(changed["metadata"]["labels"], {"version": "v2"})
        self.api.bookmark()
        self.assertEqual(event(stream)["object"]["kind"], "PartialObjectMetadata")

    def test_custom_resources_are_there_where_they_are_installed(self):
        path = "/apis/networking.istio.io/v1/virtualservices"
        self.client.get(path, 404)
        self.api.missing_groups.clear()
        self.assertEqual(self.client.list(path)["kind"], "VirtualServiceList")

    def test_a_large_list_is_compressed_for_who_takes_it(self):
        for i in range(300):
            self.api.put(web(f"s{i}", f"10.96.{i // 200}.{i % 200}"))
        self.client.headers["Accept-Encoding"] = "gzip"
        answer = self.client.raw(SERVICES)
        self.assertEqual(answer.headers["Content-Encoding"], "gzip")
        self.assertEqual(len(json.loads(gzip.decompress(answer.read()))["items"]), 300)


if __name__ == "__main__":
    unittest.main(verbosity=2)
