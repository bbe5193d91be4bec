#!/usr/bin/python3
"""The chart: rendered by real helms, decoded strictly, and its flags those of weftd."""

import json
import re
import subprocess
import sys
import unittest

import tools
import yaml
from chart import KUBERNETES, NAMESPACE, VALUES, arguments, helm, helms, pod_spec, render, template
from chart import weftd
from container import CAPABILITIES
from harness import main

def read(path):
    with open(path, encoding="utf-8") as file:
        return file.read()


def decode(text):
    """(exit status, lines, complaint) of the strict decoder."""
    done = subprocess.run(
        [tools.strict()], input=text, capture_output=True, text=True, timeout=60, check=False
    )
    return done.returncode, done.stdout.splitlines(), done.stderr


class Rendering(unittest.TestCase):
    def test_every_values_file_renders_under_every_helm_and_decodes_strictly(self):
        for name, path in helms():
            for values in VALUES:
                for version in KUBERNETES:
                    with self.subTest(helm=name, values=values, kubernetes=version):
                        done = template(path, [values], version=version)
                        self.assertEqual(done.returncode, 0, done.stderr)
                        code, lines, complaint = decode(done.stdout)
                        self.assertEqual(code, 0, complaint)
                        documents = [d for d in yaml.safe_load_all(done.stdout) if d]
                        self.assertEqual(len(lines), len(documents))
                        self.assertTrue(any("DaemonSet" in line for line in lines), lines)

    def test_every_values_file_passes_lint(self):
        for name, path in helms():
            for values in VALUES:
                with self.subTest(helm=name, values=values):
                    file = f"{tools.HERE}/values/{values}.yaml"
                    version = ["--kube-version", KUBERNETES[-1]]
                    done = helm(path, "lint", "--strict", tools.CHART, "-f", file, *version)
                    self.assertEqual(done.returncode, 0, done.stdout + done.stderr)

    def test_all_helms_render_the_same_objects(self):
        (_, first), *others = helms()
        for values in VALUES:
            wanted = list(yaml.safe_load_all(template(first, [values]).stdout))
            for name, path in others:
                with self.subTest(helm=name, values=values):
                    found = list(yaml.safe_load_all(template(path, [values]).stdout))
                    self.assertEqual(found, wanted)

    def test_a_misspelt_value_is_refused_at_every_level(self):
        for path in ("weftdd.zone", "weftd.maxEndpoint", "image.registry", "resources.limit.cpu"):
            for name, tool in helms():
                with self.subTest(path=path, helm=name):
                    done = template(tool, [], "--set-string", f"{path}=1")
                    self.assertNotEqual(done.returncode, 0)
                    self.assertRegex(done.stderr, r"additional properties|not allowed")

    def test_a_value_of_the_wrong_kind_is_refused(self):
        for setting in (
            "weftd.maxEndpoints=many",
            "weftd.source=null",
            "weftd.cgroup=/sys/fs/cgroup",
            "weftd.holdEmpty=soon",
            "weftd.metrics=15020",
            "podDisruptionBudget.minAvailable=10%",
        ):
            with self.subTest(setting=setting):
                self.assertNotEqual(template(tools.helm4(), [], "--set", setting).returncode, 0)

    def test_the_notes_say_what_to_do_next_and_how_to_take_it_off_again(self):
        words = ["install", "weft", tools.CHART, "--namespace", NAMESPACE, "--dry-run=client"]
        done = helm(tools.helm4(), *words)
        self.assertEqual(done.returncode, 0, done.stderr)
        notes = done.stdout.partition("NOTES:")[2]
        for text in ("rollout status daemonset/weft", "weft.mesh/enrol", "weftd.uninstall=true"):
            self.assertIn(text, notes)
        notes = helm(tools.helm4(), *words, "--set", "weftd.uninstall=true").stdout
        self.assertIn("helm -n weft-system uninstall weft", notes)

    def test_an_older_kubernetes_than_maxSurge_needs_is_refused(self):
        self.assertNotEqual(template(tools.helm4(), [], version="1.24.0").returncode, 0)


class StrictDecoder(unittest.TestCase):
    GOOD = "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\nspec: {hostNetwork: true}\n"

    def test_it_takes_what_is_right(self):
        self.assertEqual(decode(self.GOOD)[:2], (0, ["v1/Pod a"]))

    def test_it_refuses_unknown_repeated_and_miscased_fields_and_unknown_kinds(self):
        for wrong in (
            self.GOOD.replace("hostNetwork", "hostNetwrk"),
            self.GOOD.replace("hostNetwork", "hostnetwork"),
            self.GOOD.replace("true}", "true, hostNetwork: true}"),
            self.GOOD.replace("true", '"yes"'),
            self.GOOD.replace("kind: Pod", "kind: Pot"),
            self.GOOD.replace("name: a", "namespace: a"),
        ):
            with self.subTest(wrong=wrong):
                self.assertEqual(decode(wrong)[0], 1)


class Schema(unittest.TestCase):
    def setUp(self):
        self.schema = json.loads(read(f"{tools.CHART}/values.schema.json"))

    def objects(self, at, path="values"):
        """(path, schema) of every schema of an object."""
        if isinstance(at, dict):
            if at.get("type") == "object" or isinstance(at.get("properties"), dict):
                yield path, at
            for key, value in at.items():
                yield from self.objects(value, f"{path}.{key}")
        elif isinstance(at, list):
            for value in at:
                yield from self.objects(value, path)

    def test_no_object_takes_keys_it_does_not_name(self):
        found = list(self.objects(self.schema))
        self.assertGreater(len(found), 15)
        for path, schema in found:
            self.assertIs(schema.get("additionalProperties"), False, path)

    def test_values_yaml_shows_every_key_of_the_schema_and_no_other(self):
        values = yaml.safe_load(read(f"{tools.CHART}/values.yaml"))
        named = set(self.schema["properties"]) - {"global"}  # helm's own
        self.assertEqual(set(values), named)
        for key, schema in self.schema["properties"].items():
            if "properties" in schema and values.get(key):
                shown = set(schema["properties"])
                if key != "resources":  # of these only what is set is shown
                    self.assertEqual(set(values[key]), shown, key)


class Flags(unittest.TestCase):
    """Every flag of weftd is a value of the same name, and the other way round."""

    @staticmethod
    def flag_of(key):
        return "--" + re.sub(r"[A-Z]", lambda found: "-" + found[0].lower(), key)

    def test_the_keys_of_weftd_are_the_flags_that_its_help_names(self):
        text = weftd("--help").stdout
        flags = set(re.findall(r"^  (?:-\w,)?(--[a-z][a-z-]*)", text, re.M))
        self.assertIn("--cgroup", flags)
        flags -= {"--help", "--version"}  # they end weftd at once
        values = yaml.safe_load(read(f"{tools.CHART}/values.yaml"))["weftd"]
        self.assertEqual({self.flag_of(key) for key in values}, flags)

    def test_every_value_comes_out_as_its_flag(self):
        rendered = arguments(render("every-flag"))
        self.assertEqual(
            rendered,
            [
                "--allow-empty",
                "--bpffs=/sys/fs/bpf/weft-two",
                "--bypass=off",
                "--cgroup=/host/sys/fs/cgroup/kubepods",
                "--devices=eth0",
                "--devices=eth1",
                "--enforce-unsupported=refuse",
                "--enrol=labelled",
                "--exclude-namespaces=kube-system",
                "--exclude-namespaces=quiet",
                "--hold-empty=1m",
                "--log-format=text",
                "--max-connections=1048577",
                "--max-endpoints=16777216",
                "--max-services=1048576",
                "--metrics=[::]:15021",
                "--node-name=the-node",
                "--proxy=external:/usr/bin/its-own --config x",
                "--proxy-cgroup=/host/sys/fs/cgroup/kubepods/l7",
                "--proxy-user=1000",
                "--region=region-1",
                "--run-dir=/run/weft-two",
                "--source=kubernetes:/etc/weft/kubeconfig/kubeconfig",
                "--source=dir:/etc/weft/mesh",
                "--source-timeout=20s",
                "--state-dir=/var/lib/weft-two",
                "--subzone=subzone-1",
                "--take-over",
                "--zone=zone-1",
                "--config=/etc/weft/config/config.yaml",
                "--source=dir:/etc/weft/more",
            ],
        )
        values = yaml.safe_load(read(f"{tools.CHART}/values.yaml"))["weftd"]
        said = {argument.partition("=")[0] for argument in rendered}
        self.assertEqual({self.flag_of(key) for key in values} - said, {"--uninstall"})

    def test_a_value_that_is_not_given_leaves_its_flag_out(self):
        said = [argument.partition("=")[0] for argument in arguments(render("defaults"))]
        self.assertNotIn("--max-endpoints", said)
        self.assertNotIn("--zone", said)
        self.assertNotIn("--allow-empty", said)

    def test_the_config_file_is_text_that_arrives_unchanged(self):
        objects = render("every-flag")
        wanted = yaml.safe_load(read(f"{tools.HERE}/values/every-flag.yaml"))["weftd"]["config"]
        self.assertEqual(objects["ConfigMap"]["data"]["config.yaml"], wanted)
        self.assertNotIn("ConfigMap", render("defaults"))

    def test_weftd_accepts_the_arguments_of_every_values_file(self):
        for values in VALUES:
            if values == "uninstall":
                continue
            with self.subTest(values=values):
                given = [
                    argument
                    for argument in arguments(render(values))
                    # No such cgroup: it ends before it touches the kernel. The rest are files of
                    # the pod, and what this build says it does not have.
                    if not argument.startswith(
                        ("--cgroup=", "--config=", "--devices=", "--proxy-cgroup=")
                    )
                ]
                done = weftd(*given, "--cgroup=/nonexistent")
                self.assertEqual(done.returncode, 1, done.stderr)  # 2 would be: wrong usage
                self.assertIn("/nonexistent", done.stderr)


class Objects(unittest.TestCase):
    """What the API types cannot tell: that the parts fit each other."""

    def test_the_pod_is_on_the_host_network_and_declares_no_port(self):
        for values in VALUES:
            spec = pod_spec(render(values))
            self.assertTrue(spec["hostNetwork"])
            self.assertEqual(spec["dnsPolicy"], "ClusterFirstWithHostNet")
            for container in spec["containers"] + spec.get("initContainers", []):
                self.assertNotIn("ports", container)

    def test_surge_needs_take_over_and_uninstalling_needs_the_old_pod_gone(self):
        for values, surge, unavailable in (
            ("defaults", 1, 0),
            ("least", 0, 1),
            ("uninstall", 0, "100%"),
        ):
            strategy = render(values)["DaemonSet"]["spec"]["updateStrategy"]
            wanted = {"maxSurge": surge, "maxUnavailable": unavailable}
            self.assertEqual(strategy, {"type": "RollingUpdate", "rollingUpdate": wanted}, values)

    def test_the_role_reads_the_nine_kinds_and_nothing_else(self):
        rules = render("defaults")["ClusterRole"]["rules"]
        found = {
            (group, resource, verb)
            for rule in rules
            for group in rule["apiGroups"]
            for resource in rule["resources"]
            for verb in rule["verbs"]
        }
        kinds = [("", kind) for kind in ("services", "pods", "nodes", "namespaces")]
        kinds.append(("discovery.k8s.io", "endpointslices"))
        istio = ("destinationrules", "virtualservices", "serviceentries")
        kinds += [("networking.istio.io", kind) for kind in istio]
        kinds.append(("gateway.networking.k8s.io", "httproutes"))
        wanted = {(*kind, verb) for kind in kinds for verb in ("list", "watch")}
        self.assertEqual(found, wanted)

    def test_the_binding_joins_the_role_to_the_account_of_the_pods(self):
        objects = render("everything")
        binding = objects["ClusterRoleBinding"]
        self.assertEqual(binding["roleRef"]["name"], objects["ClusterRole"]["metadata"]["name"])
        account = objects["ServiceAccount"]["metadata"]
        self.assertEqual(binding["subjects"][0]["name"], account["name"])
        self.assertEqual(binding["subjects"][0]["namespace"], NAMESPACE)
        self.assertEqual(pod_spec(objects)["serviceAccountName"], account["name"])

    def test_without_the_api_as_a_source_there_is_no_role_and_no_token(self):
        objects = render("directory")
        self.assertNotIn("ClusterRole", objects)
        self.assertIs(pod_spec(objects)["automountServiceAccountToken"], False)
        self.assertIs(pod_spec(render("defaults"))["automountServiceAccountToken"], True)

    def test_every_capability_has_a_sentence_and_none_is_there_besides(self):
        container = pod_spec(render("defaults"))["containers"][0]
        security = container["securityContext"]
        self.assertIs(security["privileged"], False)
        self.assertEqual(security["capabilities"]["drop"], ["ALL"])
        self.assertEqual(set(security["capabilities"]["add"]), set(CAPABILITIES))
        lines = read(f"{tools.CHART}/templates/_container.tpl").splitlines()
        for name in security["capabilities"]["add"]:
            at = next(i for i, line in enumerate(lines) if line.strip() == f"- {name}")
            self.assertTrue(lines[at - 1].strip().startswith("#"), name)

    def test_selectors_find_the_pods(self):
        objects = render("everything")
        labels = objects["DaemonSet"]["spec"]["template"]["metadata"]["labels"].items()
        for kind, path in (
            ("DaemonSet", ("spec", "selector", "matchLabels")),
            ("PodDisruptionBudget", ("spec", "selector", "matchLabels")),
            ("NetworkPolicy", ("spec", "podSelector", "matchLabels")),
            ("Service", ("spec", "selector")),
        ):
            found = objects[kind]
            for key in path:
                found = found[key]
            self.assertTrue(found, kind)
            self.assertLessEqual(found.items(), labels, kind)
        service = objects["Service"]["metadata"]["labels"].items()
        monitor = objects["ServiceMonitor"]["spec"]["selector"]["matchLabels"].items()
        self.assertLessEqual(monitor, service)

    def test_probes_scrapes_and_policy_use_the_address_that_weftd_listens_on(self):
        for values, host, port in (
            ("defaults", "127.0.0.1", 15020),
            ("every-flag", "::1", 15021),
            ("everything", "192.0.2.1", 9000),
        ):
            objects = render(values)
            container = pod_spec(objects)["containers"][0]
            for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
                get = container[probe]["httpGet"]
                self.assertEqual((get["host"], get["port"]), (host, port), values)
            if "Service" in objects:
                self.assertEqual(objects["Service"]["spec"]["ports"][0]["targetPort"], port)
                ingress = objects["NetworkPolicy"]["spec"]["ingress"][0]
                self.assertEqual(ingress["ports"][0]["port"], port)

    def test_every_mount_has_its_volume_and_every_volume_a_mount(self):
        for values in VALUES:
            spec = pod_spec(render(values))
            containers = spec["containers"] + spec.get("initContainers", [])
            mounted = {m["name"] for c in containers for m in c.get("volumeMounts", [])}
            self.assertEqual(mounted, {volume["name"] for volume in spec["volumes"]}, values)

    def test_apparmor_is_a_field_or_before_1_30_an_annotation(self):
        annotation = "container.apparmor.security.beta.kubernetes.io/weftd"
        for version in KUBERNETES:
            objects = render("defaults", version=version)
            security = pod_spec(objects)["containers"][0]["securityContext"]
            annotations = objects["DaemonSet"]["spec"]["template"]["metadata"]["annotations"]
            self.assertEqual("appArmorProfile" in security, version != "1.25.0", version)
            self.assertEqual(annotation in annotations, version == "1.25.0", version)

    def test_the_chart_is_of_the_version_that_weftd_is(self):
        chart = yaml.safe_load(read(f"{tools.CHART}/Chart.yaml"))
        self.assertEqual(weftd("--version").stdout.split(), ["weftd", chart["appVersion"]])


if __name__ == "__main__":
    try:
        tools.helm4()
        tools.strict()
    except tools.ToolMissing as error:
        sys.exit(f"{sys.argv[0]}: {error}")
    main()
