#!/usr/bin/python3
"""What people and controllers do to manifests, and when connect() sees it."""

import json
import os

from harness import PORT, NodeTest, client, main, manifests, wait_until

UNREACHABLE = ("EHOSTUNREACH", "ENETUNREACH")


class Changes(NodeTest):
    @classmethod
    def prepare(cls):
        cls.write_ballast()

    def backends(self, **ready):
        """Slice endpoints for a, b, c; keywords change the conditions of one."""
        return [
            manifests.endpoint(self.node[name].v4, **ready.get(name, {"ready": True}))
            for name in self.BACKENDS
        ]

    def assert_answers(self, address, expected, port=80):
        self.assert_in_turn(self.names(address, 3 * len(expected), port), list(expected))

    def test_an_endpoint_leaves_when_not_ready_and_comes_back(self):
        self.serve_service("test/flip", ["10.96.0.1"], self.backends())
        self.assert_answers("10.96.0.1", "abc")
        self.serve_service("test/flip", ["10.96.0.1"], self.backends(b={"ready": False}))
        self.assert_answers("10.96.0.1", "ac")
        self.serve_service("test/flip", ["10.96.0.1"], self.backends())
        self.assert_answers("10.96.0.1", "abc")

    def test_the_last_endpoint_leaving_turns_answers_into_refusals(self):
        self.serve_service("test/last", ["10.96.0.2"], ["a"])
        self.assert_answers("10.96.0.2", "a")
        self.serve_service(
            "test/last",
            ["10.96.0.2"],
            [manifests.endpoint(self.node["a"].v4, ready=False, serving=False)],
        )
        self.assertEqual(self.ask("10.96.0.2")["error"], "ECONNREFUSED")
        self.serve_service("test/last", ["10.96.0.2"], ["b"])
        self.assert_answers("10.96.0.2", "b")

    def test_an_open_connection_outlives_its_endpoint_leaving(self):
        self.serve_service("test/open", ["10.96.0.3"], ["a", "b"])
        job = self.client.start(client.keep_open, "10.96.0.3", 80)
        name = job.receive()
        endpoints = [
            manifests.endpoint(self.node[n].v4, ready=n != name, serving=n != name) for n in "ab"
        ]
        self.serve_service("test/open", ["10.96.0.3"], endpoints)
        self.assert_answers("10.96.0.3", "ab".replace(name, ""))
        self.assertEqual(job.stop(), name)

    def test_a_draining_endpoint_gets_nothing_new_while_others_are_ready(self):
        draining = {"ready": False, "serving": True, "terminating": True}
        self.serve_service("test/drain", ["10.96.0.4"], self.backends(a=draining))
        self.assert_answers("10.96.0.4", "bc")
        shown = self.weftd.endpoints("test/drain")[f"{self.node['a'].v4}:{PORT}"]
        self.assertEqual(shown["state"], "draining")

    def test_draining_endpoints_serve_where_none_is_ready(self):
        draining = {"ready": False, "serving": True, "terminating": True}
        gone = {"ready": False, "serving": False, "terminating": True}
        self.serve_service(
            "test/all-drain", ["10.96.0.5"], self.backends(a=draining, b=gone, c=draining)
        )
        wait_until(
            lambda: "test/all-drain"
            in {f"{s['namespace']}/{s['name']}" for s in self.weftd.ctl("service", "list")}
        )
        self.assert_answers("10.96.0.5", "ac")

    def test_nil_conditions_mean_ready(self):
        endpoint = manifests.endpoint(self.node["a"].v4, ready=None)
        self.write_service("test/nil", ["10.96.0.6"], [endpoint])
        self.weftd.wait_service("test/nil", 1)
        self.assert_answers("10.96.0.6", "a")

    def test_publish_not_ready_addresses_takes_everybody(self):
        self.write_service(
            "test/publish", ["10.96.0.7"], self.backends(b={"ready": False}), publish_not_ready=True
        )
        self.weftd.wait_service("test/publish", 3)
        self.assert_answers("10.96.0.7", "abc")

    def test_two_slices_are_joined_and_their_duplicates_counted_once(self):
        first = manifests.endpoint_slice(
            "test/join", [self.node["a"].v4, self.node["b"].v4], [PORT], suffix="1"
        )
        second = manifests.endpoint_slice(
            "test/join", [self.node["b"].v4, self.node["c"].v4], [PORT], suffix="2"
        )
        self.mesh.write(
            "join.yaml",
            manifests.service("test/join", ["10.96.0.8"], [manifests.service_port(80, PORT)]),
        )
        self.mesh.write("join-1.yaml", first)
        self.mesh.write("join-2.yaml", second)
        self.weftd.wait_service("test/join", 3)
        self.assert_answers("10.96.0.8", "abc")
        self.mesh.remove("join-2.yaml")
        self.weftd.wait_service("test/join", 2)
        self.assert_answers("10.96.0.8", "ab")

    def test_pods_stand_in_where_no_slice_names_the_service(self):
        labels = {"app": "pods"}
        self.mesh.write(
            "pods.yaml",
            manifests.service(
                "test/pods", ["10.96.0.9"], [manifests.service_port(80, "web")], selector=labels
            ),
            manifests.pod("test/p1", labels, [self.node["a"].v4], ports=[("web", PORT)]),
            manifests.pod(
                "test/p2", labels, [self.node["b"].v4], ready=False, ports=[("web", PORT)]
            ),
            manifests.pod("test/p3", {"app": "other"}, [self.node["c"].v4], ports=[("web", PORT)]),
        )
        self.weftd.wait_service("test/pods", 1)
        self.assert_answers("10.96.0.9", "a")
        self.mesh.write(
            "pods-slice.yaml",
            manifests.endpoint_slice(
                "test/pods", [self.node["c"].v4], [manifests.slice_port(PORT)]
            ),
        )
        self.weftd.wait_service("test/pods", 1)
        wait_until(
            lambda: self.ask("10.96.0.9")["name"] == "c", what="the slice is used, not the pods"
        )

    def test_a_deleted_services_address_is_untouched_again(self):
        self.serve_service("test/deleted", ["10.96.0.10"], ["a"])
        self.assert_answers("10.96.0.10", "a")
        self.mesh.remove("test-deleted.yaml")
        wait_until(
            lambda: self.client.run(client.connect_error, "10.96.0.10", 80) in UNREACHABLE,
            what="the address belongs to nobody",
        )

    def test_an_address_moves_to_another_service(self):
        self.serve_service("test/old-owner", ["10.96.0.11"], ["a"])
        self.assert_answers("10.96.0.11", "a")
        self.mesh.remove("test-old-owner.yaml")
        self.write_service("test/new-owner", ["10.96.0.11"], ["b"])
        wait_until(lambda: self.ask("10.96.0.11")["name"] == "b", what="the new owner answers")

    def test_a_symlink_swap_changes_everything_at_once(self):
        service = manifests.service(
            "test/linked", ["10.96.0.12"], [manifests.service_port(80, PORT)]
        )
        for name in ("a", "b"):
            self.mesh.swap_symlinks(
                {
                    "linked.yaml": [
                        service,
                        manifests.endpoint_slice("test/linked", [self.node[name].v4], [PORT]),
                    ]
                }
            )
            wait_until(
                lambda: self.ask("10.96.0.12")["name"] == name, what=f"{name} answers"  # noqa: B023
            )
        self.assert_answers("10.96.0.12", "b")

    def test_a_file_written_in_place_is_read_when_it_is_closed(self):
        text = manifests.to_yaml(
            manifests.service("test/inplace", ["10.96.0.13"], [manifests.service_port(80, PORT)]),
            manifests.endpoint_slice("test/inplace", [self.node["a"].v4], [PORT]),
        )
        with open(f"{self.mesh.path}/inplace.yaml", "w", encoding="utf-8") as file:
            file.write(text[: len(text) // 2])
            file.flush()
            file.write(text[len(text) // 2 :])
        self.weftd.wait_service("test/inplace", 1)
        self.assert_answers("10.96.0.13", "a")

    def test_json_and_kind_list_and_subdirectories_are_read(self):
        items = [
            manifests.service("test/json", ["10.96.0.14"], [manifests.service_port(80, PORT)]),
            manifests.endpoint_slice("test/json", [self.node["c"].v4], [PORT]),
        ]
        clean = json.loads(
            json.dumps(
                {
                    "apiVersion": "v1",
                    "kind": "List",
                    "items": [manifests._drop_none(item) for item in items],
                }
            )
        )
        os.makedirs(f"{self.mesh.path}/deeper/still", exist_ok=True)
        with open(f"{self.mesh.path}/deeper/still/list.json", "w", encoding="utf-8") as file:
            json.dump(clean, file)
        self.weftd.wait_service("test/json", 1)
        self.assert_answers("10.96.0.14", "c")

    def test_a_broken_file_keeps_its_last_good_version_and_is_named(self):
        self.serve_service("test/broken", ["10.96.0.15"], ["a", "b"])
        self.mesh.write_text(
            "test-broken.yaml", "apiVersion: v1\nkind: Service\nmetadata: {name: [\n"
        )
        wait_until(
            lambda: "test-broken.yaml" in json.dumps(self.weftd.ctl("status")),
            what="status names the broken file",
        )
        self.assert_answers("10.96.0.15", "ab")
        self.serve_service("test/after-broken", ["10.96.0.16"], ["c"])
        self.assert_answers("10.96.0.16", "c")
        self.serve_service("test/broken", ["10.96.0.15"], ["b"])
        self.assert_answers("10.96.0.15", "b")
        wait_until(
            lambda: "test-broken.yaml" not in json.dumps(self.weftd.ctl("status")),
            what="status forgets what is mended",
        )

    def test_one_bad_document_does_not_take_its_neighbours_along(self):
        bad = manifests.service(
            "test/bad-port", ["10.96.0.17"], [manifests.service_port(70000, PORT)]
        )
        good = manifests.service(
            "test/neighbour", ["10.96.0.18"], [manifests.service_port(80, PORT)]
        )
        self.mesh.write(
            "neighbours.yaml",
            bad,
            good,
            manifests.endpoint_slice("test/neighbour", [self.node["a"].v4], [PORT]),
        )
        self.weftd.wait_service("test/neighbour", 1)
        self.assert_answers("10.96.0.18", "a")
        self.wait_status("bad-port", "70000")
        self.mesh.remove("neighbours.yaml")

    def test_many_services_in_one_rename_all_arrive(self):
        objects = []
        for i in range(50):
            objects += [
                manifests.service(
                    f"test/many{i}", [f"10.96.5.{i + 1}"], [manifests.service_port(80, PORT)]
                ),
                manifests.endpoint_slice(f"test/many{i}", [self.node["abc"[i % 3]].v4], [PORT]),
            ]
        self.mesh.write("many.yaml", *objects)
        for i in range(50):
            self.weftd.wait_service(f"test/many{i}", 1)
        answers = [self.ask(f"10.96.5.{i + 1}")["name"] for i in range(50)]
        self.assertEqual(answers, ["abc"[i % 3] for i in range(50)])


class MassRemoval(NodeTest):
    """More than half of all endpoints gone at once: more often a fault than a wish."""

    START = False
    SERVICES = {f"test/s{i}": f"10.96.6.{i + 1}" for i in range(4)}

    @classmethod
    def prepare(cls):
        for where, address in cls.SERVICES.items():
            cls.write_service(where, [address], ["a", "b", "c"])

    def start_served(self, *flags):
        self.prepare()
        if self.weftd.running():
            self.weftd.stop()
        self.weftd.start(*flags)
        for where in self.SERVICES:
            self.weftd.wait_service(where, 3)

    def empty_directory(self):
        for where in self.SERVICES:
            self.mesh.remove(f"{where.replace('/', '-')}.yaml")

    def gone(self):
        return all(
            self.client.run(client.connect_error, address, 80) in UNREACHABLE
            for address in self.SERVICES.values()
        )

    def held(self):
        return "--allow-empty" in json.dumps(self.weftd.ctl("status"))

    def test_it_is_held_back_and_reported_until_it_is_confirmed_by_a_flag(self):
        self.start_served("--hold-empty", "3600s")
        self.empty_directory()
        wait_until(self.held, what="status tells of the removal that is held back")
        for address in list(self.SERVICES.values())[2:]:
            self.assert_in_turn(self.names(address, 6), ["a", "b", "c"])
        self.weftd.restart("--hold-empty", "3600s", "--allow-empty")
        wait_until(self.gone, what="the removal is confirmed by --allow-empty")

    def test_a_directory_that_empties_file_by_file_keeps_at_least_half(self):
        """Each removal alone is small; together they are what emptying the directory is."""
        self.start_served("--hold-empty", "3600s")
        left = dict(self.SERVICES)
        for name, address in self.SERVICES.items():
            self.mesh.remove(f"{name.replace('/', '-')}.yaml")
            wait_until(
                lambda: self.held()
                or self.client.run(client.connect_error, address, 80) in UNREACHABLE,
                what=f"{name} is gone or held back",
            )
            if self.held():
                break
            left.pop(name)
        self.assertGreaterEqual(len(left) * 2, len(self.SERVICES))
        for address in left.values():
            self.assert_in_turn(self.names(address, 6), ["a", "b", "c"])
        self.assertEqual(self.weftd.ctl_raw("confirm").returncode, 0)
        self.assertNotEqual(self.weftd.ctl_raw("confirm").returncode, 0, "nothing is held now")

    def test_it_happens_where_it_persists_beyond_the_stated_time(self):
        self.start_served("--hold-empty", "5s")  # long enough to be seen
        self.empty_directory()
        wait_until(self.held, what="status tells of the removal that is held back")
        wait_until(self.gone, what="the removal happens in the end")
        wait_until(lambda: not self.held(), what="and is reported no more")

    def test_a_directory_that_vanishes_takes_nothing_with_it(self):
        self.start_served("--hold-empty", "3600s")
        aside = f"{self.mesh.path}.gone"
        os.rename(self.mesh.path, aside)
        for address in self.SERVICES.values():
            self.assert_in_turn(self.names(address, 6), ["a", "b", "c"])
        os.rename(aside, self.mesh.path)
        self.write_service("test/s0", ["10.96.6.1"], ["a", "b"])
        self.weftd.wait_service("test/s0", 2)

    def test_changes_that_take_no_endpoint_apply_while_a_removal_is_held(self):
        self.start_served("--hold-empty", "3600s")
        self.empty_directory()
        wait_until(self.held, what="status tells of the removal that is held back")
        self.write_service("test/fresh", ["10.96.6.99"], ["b"])
        self.weftd.wait_service("test/fresh", 1)
        self.assertEqual(self.ask("10.96.6.99")["name"], "b")
        self.mesh.remove("test-fresh.yaml")


if __name__ == "__main__":
    main()
