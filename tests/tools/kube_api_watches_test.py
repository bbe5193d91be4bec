#!/usr/bin/python3
"""The replaying API server keeps to the API where it watches: compared with what the documentation
says (kubernetes.io, "API concepts")."""

import json
import unittest

import kube_api_asked
from kube_api_asked import GUARD, SERVICES, event, pod, web


class Watches(kube_api_asked.ApiTest):
    def test_events_in_order_from_a_version_on(self):
        self.api.put(web())
        stream = self.client.watch(self.version())
        self.api.put(web("b", "10.96.0.11"))
        self.api.put(web("b", "10.96.0.12"))
        self.api.put(web("b", "10.96.0.12"))  # no change: no event
        gone = self.api.delete("Service", "shop", "b")
        found = [event(stream) for _ in range(3)]
        self.assertEqual([e["type"] for e in found], ["ADDED", "MODIFIED", "DELETED"])
        self.assertEqual(found[0]["object"]["kind"], "Service")
        self.assertEqual(found[2]["object"]["metadata"]["resourceVersion"], str(gone))
        self.assertEqual(found[2]["object"]["spec"]["clusterIP"], "10.96.0.12")
        self.assertIsNotNone(self.api.sent_ns(gone))

    def test_a_watch_replays_what_it_missed_and_without_a_version_starts_with_all(self):
        start = self.version()
        self.api.put(web())
        self.api.put(web("b", "10.96.0.11"))
        stream = self.client.watch(start)
        self.assertEqual([event(stream)["type"] for _ in range(2)], ["ADDED", "ADDED"])
        for version in ("", "0"):
            stream = self.connect().watch(version)
            names = [event(stream)["object"]["metadata"]["name"] for _ in range(2)]
            self.assertEqual(names, ["b", "web"])

    def test_what_leaves_the_selection_is_deleted_for_its_watchers(self):
        self.api.put(pod("shop/a", ["10.244.0.1"], "n1"), pod("shop/b", ["10.244.0.2"], "n2"))
        stream = self.client.watch(
            self.version("/api/v1/pods"), "/api/v1/pods", "fieldSelector=spec.nodeName%3Dn1"
        )
        self.api.put(pod("shop/b", ["10.244.0.2"], "n2", ready=False))  # not ours: no event
        self.api.put(pod("shop/a", ["10.244.0.1"], "n2"))
        last = self.api.put(pod("shop/b", ["10.244.0.2"], "n1"))
        left, came = event(stream), event(stream)
        self.assertEqual((left["type"], left["object"]["metadata"]["name"]), ("DELETED", "a"))
        self.assertEqual(left["object"]["spec"]["nodeName"], "n1")
        self.assertEqual((came["type"], came["object"]["metadata"]["name"]), ("ADDED", "b"))
        self.assertEqual(came["object"]["metadata"]["resourceVersion"], str(last))

    def test_bookmarks_go_to_who_allows_them_and_carry_the_newest_version(self):
        version = self.version()
        plain = self.connect().watch(version, query="timeoutSeconds=1")
        stream = self.client.watch(version, query="allowWatchBookmarks=true")
        moved = self.api.store.touch()
        self.api.bookmark("Service")
        found = event(stream)
        self.assertEqual((found["type"], found["object"]["kind"]), ("BOOKMARK", "Service"))
        self.assertEqual(found["object"]["metadata"]["resourceVersion"], str(moved))
        self.assertEqual(plain.read(), b"")

    def test_a_stream_ends_properly_at_its_timeout_and_the_connection_stays(self):
        stream = self.client.watch(self.version(), query="timeoutSeconds=1&allowWatchBookmarks=1")
        self.assertEqual([json.loads(x)["type"] for x in stream.read().splitlines()], ["BOOKMARK"])
        accepted = self.api.accepted
        self.client.list()
        self.assertEqual(self.api.accepted, accepted)

    def test_compacted_history_is_told_as_status_or_in_the_stream(self):
        version = self.version()
        self.api.put(web())
        self.api.compact()
        gone = self.client.get(f"{SERVICES}?watch=1&resourceVersion={version}", 410)
        self.assertEqual((gone["reason"], gone["code"]), ("Expired", 410))
        self.api.gone = "event"
        stream = self.client.watch(version)
        found = event(stream)
        self.assertEqual((found["type"], found["object"]["code"]), ("ERROR", 410))
        self.assertEqual(stream.read(), b"")
        # From the compacted version itself nothing is missing.
        self.client.watch(self.version(), query="timeoutSeconds=1").read()

    def test_a_bounded_history_compacts_itself(self):
        self.api.store._history_size = 5
        version = self.version()
        for i in range(7):
            self.api.put(web("x", f"10.96.0.{i}"))
        self.client.get(f"{SERVICES}?watch=1&resourceVersion={version}", 410)
        stream = self.client.watch(int(version) + 2)
        self.assertEqual(event(stream)["object"]["spec"]["clusterIP"], "10.96.0.2")

    def test_a_watch_from_a_version_to_come_is_silent_until_then(self):
        stream = self.client.watch(int(self.version()) + 2)
        versions = [self.api.put(web("x", f"10.96.0.{i}")) for i in range(3)]
        found = event(stream)["object"]["metadata"]["resourceVersion"]
        self.assertEqual(found, str(versions[2]))

    def test_send_initial_events_is_refused_or_streams_the_list(self):
        self.api.put(web())
        query = "sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true"
        path = f"{SERVICES}?watch=1&{query}"
        self.assertEqual(self.client.get(path, 422)["reason"], "Invalid")
        self.api.watch_list = True
        stream = self.client.raw(path)
        self.assertEqual(event(stream)["type"], "ADDED")
        end = event(stream)
        self.assertEqual(end["type"], "BOOKMARK")
        self.assertEqual(
            end["object"]["metadata"]["annotations"], {"k8s.io/initial-events-end": "true"}
        )

    def test_wait_watchers_sees_streams_come_and_go(self):
        self.client.watch(self.version())
        self.api.wait_watchers(1, "Service", GUARD)
        self.client.close()
        self.api.wait(lambda: self.api.watchers() == 0, "the stream is closed", GUARD)


if __name__ == "__main__":
    unittest.main(verbosity=2)
