#!/usr/bin/python3
"""Faults of input and of the machine: named in one line, and nobody else suffers."""

import json
import os
import shutil

from harness import PORT, NodeTest, main, manifests, wait_until, weftlab


class Capacity(NodeTest):
    FLAGS = ["--max-endpoints", "64", "--max-services", "16"]

    @classmethod
    def prepare(cls):
        cls.write_service("test/web", ["10.96.0.10"], ["a", "b", "c"])
        cls.write_service("test/ballast", ["10.96.0.9"], [f"10.99.0.{i + 1}" for i in range(40)])

    def status(self):
        return json.dumps(self.weftd.ctl("status"))

    def writes(self):
        return self.weftd.metrics().sum("weft_map_writes_total")

    def test_a_service_with_too_many_endpoints_is_refused_by_map_number_and_flag(self):
        self.weftd.wait_service("test/web", 3)
        self.write_service("test/huge", ["10.96.0.11"], [f"10.98.0.{i + 1}" for i in range(200)])
        wait_until(lambda: "test/huge" in self.status(), what="status names the refused service")
        status = self.status()
        self.assertIn("weft_endpoints", status)
        self.assertIn("--max-endpoints", status)
        self.assert_in_turn(self.names("10.96.0.10", 9), ["a", "b", "c"])
        self.assertIn(self.ask("10.96.0.11")["error"], ("EHOSTUNREACH", "ENETUNREACH"))
        self.mesh.remove("test-huge.yaml")
        wait_until(lambda: "test/huge" not in self.status(), what="status forgets it")
        self.weftd.ctl("audit")

    def test_a_service_that_grows_too_large_keeps_its_old_endpoints(self):
        self.serve_service("test/grows", ["10.96.0.12"], ["a", "b"])
        self.write_service(
            "test/grows", ["10.96.0.12"], ["c"] + [f"10.97.0.{i + 1}" for i in range(200)]
        )
        wait_until(lambda: "test/grows" in self.status(), what="status names the refused change")
        self.assert_in_turn(self.names("10.96.0.12", 6), ["a", "b"])
        self.serve_service("test/grows", ["10.96.0.12"], ["c"])
        self.assertEqual(self.ask("10.96.0.12")["name"], "c")

    def test_too_many_services_are_refused_by_flag(self):
        for i in range(30):
            self.write_service(f"test/extra{i:02}", [f"10.96.7.{i + 1}"], [])
        wait_until(lambda: "--max-services" in self.status(), what="status names the flag")
        self.assert_in_turn(self.names("10.96.0.10", 9), ["a", "b", "c"])
        for i in range(30):
            self.mesh.remove(f"test-extra{i:02}.yaml")
        wait_until(lambda: "--max-services" not in self.status(), what="status forgets it")


class Conflicts(NodeTest):
    @classmethod
    def prepare(cls):
        cls.write_ballast()

    def test_of_two_services_with_one_address_the_older_serves_and_both_are_named(self):
        self.write_service("test/younger", ["10.96.0.20"], ["b"], created="2026-02-01T00:00:00Z")
        self.weftd.wait_service("test/younger", 1)
        self.write_service("test/older", ["10.96.0.20"], ["a"], created="2026-01-01T00:00:00Z")
        wait_until(lambda: self.ask("10.96.0.20")["name"] == "a", what="the older service answers")
        self.wait_status("test/younger", "test/older", "10.96.0.20")
        checked = self.weftd.ctl_raw("check", self.mesh.path)
        self.assertEqual(checked.returncode, 1)
        self.assertIn("10.96.0.20", checked.stdout + checked.stderr)

    def test_the_same_object_twice_keeps_the_older_and_names_both_files(self):
        for file, pod, created in (
            ("twin-1.yaml", "a", "2026-01-02T00:00:00Z"),
            ("twin-2.yaml", "b", "2026-01-01T00:00:00Z"),
        ):
            self.mesh.write(
                file,
                manifests.service(
                    "test/twin",
                    ["10.96.0.21" if pod == "a" else "10.96.0.22"],
                    [manifests.service_port(80, PORT)],
                    created=created,
                ),
            )
        self.mesh.write(
            "twin-slice.yaml", manifests.endpoint_slice("test/twin", [self.node["c"].v4], [PORT])
        )
        wait_until(
            lambda: self.ask("10.96.0.22")["name"] == "c", what="the older object is in force"
        )
        # New addresses come before old ones go.
        wait_until(
            lambda: self.ask("10.96.0.21")["error"] in ("EHOSTUNREACH", "ENETUNREACH"),
            what="the younger object's address is nobody's",
        )
        self.wait_status("twin-1.yaml", "twin-2.yaml")

    def test_an_address_of_the_wrong_family_is_rejected_by_name(self):
        self.mesh.write(
            "family.yaml",
            manifests.service("test/family", ["10.96.0.23"], [manifests.service_port(80, PORT)]),
            manifests.endpoint_slice("test/family", ["fd00::1"], [PORT], family="IPv4"),
        )
        wait_until(
            lambda: "fd00::1" in json.dumps(self.weftd.ctl("status")),
            what="status names the address",
        )


class Starts(NodeTest):
    """Starts that cannot work: one clear line on stderr, exit status 1, nothing attached."""

    START = False
    PODS = ["client", "a"]
    BACKENDS = ["a"]

    @classmethod
    def prepare(cls):
        cls.write_service("test/web", ["10.96.0.10"], ["a"])

    def fail_with(self, flag, value, *words, prefix=()):
        command = self.weftd.command()
        if flag:
            command[command.index(flag) + 1] = value
        done = self.weftd.run_to_end(prefix=prefix, replace=command)
        self.assertEqual(done.returncode, 1, done.stderr)
        lines = [line for line in done.stderr.splitlines() if any(word in line for word in words)]
        self.assertTrue(lines, f"no line with one of {words}: {done.stderr}")
        self.assertLess(len(done.stderr.splitlines()), 8, done.stderr)
        self.assertEqual(self.node.pinned(), [])

    def test_a_cgroup_that_does_not_exist_is_named(self):
        self.fail_with(
            "--cgroup", "/sys/fs/cgroup/nobody/made/this", "/sys/fs/cgroup/nobody/made/this"
        )

    def test_a_directory_that_is_no_cgroup_v2_is_named(self):
        self.fail_with("--cgroup", self.node.dir, self.node.dir)

    def test_a_bpffs_directory_that_is_no_bpffs_is_named(self):
        folder = f"{self.node.dir}/not-bpffs"
        os.makedirs(folder, exist_ok=True)
        self.fail_with("--bpffs", folder, folder)

    def test_a_kernel_without_btf_is_named(self):
        """A tmpfs over /sys/kernel/btf, in a mount namespace of its own."""
        hide = 'mount -t tmpfs none /sys/kernel/btf && exec "$@"'
        self.fail_with(None, None, "BTF", prefix=["unshare", "--mount", "sh", "-c", hide, "sh"])

    def test_without_root_it_says_so(self):
        public = f"/tmp/weft-lab-{os.getpid()}-weftd"
        shutil.copy(weftlab.binary("weftd"), public)
        self.addCleanup(os.unlink, public)
        command = [public, *self.weftd.command()[1:]]
        done = self.weftd.run_to_end(
            prefix=["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"], replace=command
        )
        self.assertEqual(done.returncode, 1, done.stderr)
        self.assertIn("root", done.stderr)
        self.assertLess(len(done.stderr.splitlines()), 8, done.stderr)

    def test_a_second_agent_on_one_data_path_is_refused_and_so_is_uninstalling_under_it(self):
        self.weftd.start()
        try:
            command = self.weftd.command()
            command[command.index("--run-dir") + 1] = f"{self.node.dir}/other-run"
            command[command.index("--metrics") + 1] = "127.0.0.1:15021"
            second = self.weftd.run_to_end(replace=command)
            removed = self.weftd.uninstall()
            for done in (second, removed):
                self.assertEqual(done.returncode, 1, done.stderr)
                self.assertIn(self.node.bpffs, done.stderr)
            self.assertEqual(self.weftd.ctl_raw("audit").returncode, 0)
        finally:
            self.weftd.stop()
            self.assertEqual(self.weftd.uninstall().returncode, 0)

    def test_a_flag_nobody_knows_is_a_usage_error(self):
        done = self.weftd.run_to_end("--no-such-flag")
        self.assertNotEqual(done.returncode, 0)
        self.assertIn("--no-such-flag", done.stderr)

    def test_a_source_that_does_not_exist_is_reported_and_awaited(self):
        """The directory may come later (a volume not mounted yet): that is no reason to give up."""
        missing = f"{self.node.dir}/later"
        weftd = weftlab.Weftd(self.node, sources=[f"dir:{missing}"])
        weftd.start(wait=False)
        wait_until(
            lambda: missing in weftd.log() or weftd.process.poll() is not None,
            what="the log names the directory",
        )
        self.assertIsNone(weftd.process.poll(), weftd.log_tail())
        os.rename(self.mesh.path, missing)
        weftd.wait_ready()
        weftd.wait_service("test/web", 1)
        self.assertEqual(self.ask("10.96.0.10")["name"], "a")
        os.rename(missing, self.mesh.path)
        weftd.stop()
        self.assertEqual(weftd.uninstall().returncode, 0)


class HostileInput(NodeTest):
    @classmethod
    def prepare(cls):
        cls.write_ballast()
        cls.write_service("test/web", ["10.96.0.10"], ["a", "b", "c"])

    def reject(self, name, text):
        self.reject_in_place(name, text)
        self.mesh.remove(name)

    def reject_in_place(self, name, text):
        self.mesh.write_text(name, text)
        wait_until(
            lambda: name in json.dumps(self.weftd.ctl("status")), what=f"status names {name}"
        )
        self.assert_in_turn(self.names("10.96.0.10", 6), ["a", "b", "c"])

    def test_deep_nesting_is_rejected_by_name(self):
        self.reject("deep.yaml", "a: " + "[" * 5000 + "]" * 5000 + "\n")
        self.reject("deep.json", '{"a": ' + "[" * 5000 + "]" * 5000 + "}")

    def test_an_alias_bomb_is_rejected_by_name(self):
        rows = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
        rows += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 12)]
        self.reject("bomb.yaml", "\n".join(rows) + "\n")

    def test_a_file_of_a_gigabyte_is_rejected_by_name(self):
        aside = f"{self.node.dir}/large"
        with open(aside, "wb") as file:
            file.truncate(1 << 30)  # sparse: it costs no disk
        os.rename(aside, f"{self.mesh.path}/large.yaml")
        wait_until(
            lambda: "large.yaml" in json.dumps(self.weftd.ctl("status")),
            what="status names the large file",
        )
        self.assert_in_turn(self.names("10.96.0.10", 6), ["a", "b", "c"])
        self.mesh.remove("large.yaml")

    def test_wrong_types_and_duplicate_keys_are_rejected_by_name(self):
        self.reject("types.yaml", "apiVersion: v1\nkind: Service\nmetadata: {name: 7}\nspec: []\n")
        self.reject(
            "twice.yaml", "apiVersion: v1\nkind: Service\nkind: Service\nmetadata: {name: x}\n"
        )

    def test_binary_noise_is_rejected_by_name(self):
        self.reject("noise.yaml", "\x00\x01\x02: \x7f\n" * 100)

    def test_a_file_of_zeros_as_after_a_power_cut_keeps_its_last_good_version(self):
        self.serve_service("test/zeros", ["10.96.0.11"], ["a"])
        self.reject_in_place("test-zeros.yaml", "\x00" * 512)
        self.assertEqual(self.ask("10.96.0.11")["name"], "a")
        self.mesh.remove("test-zeros.yaml")


if __name__ == "__main__":
    main()
