#include "agent/app/options.h"

#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <filesystem>
#include <sstream>

#include "agent/app/config_file.h"
#include "agent/observe/http_server.h"
#include "control_plane/sources/registry.h"
#include "mesh/base/duration.h"
#include "mesh/base/text.h"

namespace weft::app {
namespace {

std::string host_name() {
  char name[256] = {};
  return gethostname(name, sizeof name - 1) ? "localhost" : name;
}

// CLI11 reads configuration through this; ours is YAML.
class YamlConfig : public CLI::Config {
 public:
  explicit YamlConfig(const CLI::App& app) : app_(app) {}
  std::string to_config(const CLI::App*, bool, bool, std::string) const override { return ""; }
  std::vector<CLI::ConfigItem> from_config(std::istream& input) const override {
    std::ostringstream text;
    text << input.rdbuf();
    auto entries = parse_config(text.str());
    const std::string file = "--config " + app_.get_config_ptr()->as<std::string>();
    if (!entries.ok()) throw CLI::ConversionError(file + ": " + base::message_of(entries.status()));
    std::vector<CLI::ConfigItem> result;
    for (auto& entry : *entries) {
      if (!app_.get_option_no_throw("--" + entry.key))
        throw CLI::ConversionError(file + ": line " + std::to_string(entry.line) +
                                   ": there is no flag --" + entry.key);
      if (entry.values.empty()) continue;  // an empty list: nothing is said
      CLI::ConfigItem item;
      item.name = entry.key;
      item.inputs = std::move(entry.values);
      result.push_back(std::move(item));
    }
    return result;
  }

 private:
  const CLI::App& app_;
};

// CLI11 knows durations only with units of its own choosing; ours are Kubernetes'.
CLI::Option* add_duration(CLI::App& app, const std::string& name, std::chrono::milliseconds& value,
                          const std::string& help) {
  return app
      .add_option_function<std::string>(
          name,
          [&value, name](const std::string& text) {
            const auto duration = base::parse_duration(text);
            if (!duration)
              throw CLI::ValidationError(
                  name, "\"" + text + "\" is not a duration: write 500ms, 30s, 2m or 1h");
            value = *duration;
          },
          help + " [" + std::to_string(value.count() / 1000) + "s]")
      ->type_name("DURATION");
}

void define(CLI::App& app, Options& o) {
  app.set_version_flag("--version", std::string("weftd " WEFT_VERSION));
  app.config_formatter(std::make_shared<YamlConfig>(app));
  app.set_config(
         "--config", "",
         "YAML file whose keys are these flags without dashes. The command line wins: --source "
         "there replaces the file's whole list")
      ->type_name("FILE");
  app.allow_config_extras(CLI::config_extras_mode::error);

  app.add_option("--source", o.sources,
                 "Where the mesh is described; repeatable. dir:PATH reads every *.yaml, *.yml and "
                 "*.json below PATH and follows changes; kubernetes: lists and watches the API "
                 "with the pod's service account, kubernetes:KUBECONFIG with that file's current "
                 "context")
      ->type_name("URI")
      ->group("Sources");
  add_duration(app, "--source-timeout", o.source_timeout,
               "Start serving with what is there when a source has not become ready for this long")
      ->group("Sources");
  app.add_flag("--allow-empty", o.allow_empty,
               "Apply at once when more than half of all endpoints vanish together; else that is "
               "held back")
      ->group("Sources");
  add_duration(app, "--hold-empty", o.hold_empty,
               "How long such a removal is held back before it is believed")
      ->group("Sources");
  app.add_option(
         "--enforce-unsupported", o.enforce_unsupported,
         "What to do with a policy that this build cannot enforce: warn, or refuse to start")
      ->check(CLI::IsMember({"warn", "refuse"}))
      ->capture_default_str()
      ->group("Sources");

  app.add_option("--node-name", o.node_name, "This node's name [the host name]")->group("Node");
  app.add_option("--zone", o.zone,
                 "Zone of this node: near endpoints are those of it, where a service prefers them")
      ->group("Node");
  app.add_option("--region", o.region, "Region of this node: the next nearest after the zone")
      ->group("Node");
  app.add_option("--subzone", o.subzone,
                 "Subzone of this node, of its zone: localityLbSetting takes it for the nearest")
      ->group("Node");
  app.add_option("--cgroup", o.cgroup,
                 "cgroup v2 directory whose processes are served, with all below it. Required; "
                 "there is no default, "
                 "so that nothing is served by accident")
      ->type_name("PATH")
      ->group("Kernel");
  app.add_option("--enrol", o.enrol,
                 "Who is served below --cgroup: all, or only labelled: pods of namespaces with the "
                 "label weft.mesh/enrol=true, or with that label themselves [labelled with a "
                 "kubernetes: source, else all]")
      ->check(CLI::IsMember({"all", "labelled"}))
      ->group("Node");
  app.add_option("--exclude-namespaces", o.exclude_namespaces,
                 "Namespaces whose pods are enrolled only by their own label")
      ->delimiter(',')
      ->type_name("NAME,...")
      ->capture_default_str()
      ->group("Node");
  app.add_option("--bpffs", o.bpffs, "Directory on a bpf file system for pinned programs and maps")
      ->type_name("DIR")
      ->capture_default_str()
      ->group("Kernel");
  app.add_option("--max-services", o.max_services,
                 "Room for that many service ports (each family counts)")
      ->check(CLI::Range(16, 1 << 20))
      ->capture_default_str()
      ->group("Kernel");
  app.add_option("--max-endpoints", o.max_endpoints,
                 "Room for that many endpoints (each service port counts)")
      ->check(CLI::Range(16, 1 << 24))
      ->capture_default_str()
      ->group("Kernel");
  app.add_option("--max-connections", o.max_connections,
                 "Room for that many clients with session affinity")
      ->check(CLI::Range(16, 1 << 24))
      ->capture_default_str()
      ->group("Kernel");

  app.add_option(
         "--proxy", o.proxy,
         "L7 proxy of this node, for services with HTTP rules: the path of weft-proxy, off, "
         "or external:COMMAND, a third party's, which sh runs with the listening sockets as "
         "descriptors 3 and up (docs/proxy.md) [weft-proxy beside weftd; where there is "
         "none: off]")
      ->type_name("PATH|off|external:COMMAND")
      ->group("Proxy");
  app.add_option("--proxy-cgroup", o.proxy_cgroup,
                 "cgroup v2 directory of the proxy's processes alone, below --cgroup; made where "
                 "it is missing [weft-proxy below --cgroup]")
      ->type_name("PATH")
      ->group("Proxy");
  app.add_option("--proxy-user", o.proxy_user, "User and group that the proxy runs as, by number")
      ->check(CLI::Range(1u, 4294967294u))
      ->type_name("UID")
      ->capture_default_str()
      ->group("Proxy");
  app.add_option("--bypass", o.bypass,
                 "Bytes between two sockets of this node skip TCP/IP: auto, where each end is "
                 "weft-proxy or its annotation weft.mesh/bypass says on; on, everywhere but "
                 "where one says off; off. Some readers see a difference (docs/bypass.md)")
      ->check(CLI::IsMember({"auto", "on", "off"}))
      ->capture_default_str()
      ->group("Bypass");
  app.add_option("--devices", o.devices, "Devices for the packet path; this build has none")
      ->delimiter(',')
      ->type_name("NAME,...")
      ->group("Not in this build yet");

  app.add_option("--run-dir", o.run_dir, "Directory of the admin socket and the lock")
      ->type_name("DIR")
      ->capture_default_str()
      ->group("Operation");
  app.add_option("--state-dir", o.state_dir,
                 "Directory for state that outlives a reboot; this build keeps none")
      ->type_name("DIR")
      ->capture_default_str()
      ->group("Operation");
  app.add_option("--metrics", o.metrics, "Address of /metrics, /healthz and /readyz")
      ->type_name("ADDR:PORT")
      ->capture_default_str()
      ->group("Operation");
  app.add_option("--log-format", o.log_format, "text (key=value) or json")
      ->check(CLI::IsMember({"text", "json"}))
      ->capture_default_str()
      ->group("Operation");
  app.add_flag("--take-over", o.take_over,
               "Take the node over from the weftd that runs with this --run-dir; else a second one "
               "is refused. Whoever was started with it and is taken over stands by until SIGTERM, "
               "and takes back where the other dies")
      ->group("Operation");
  app.add_flag("--uninstall", o.uninstall,
               "Detach everything, remove pins and run directory, and exit. Services are then no "
               "longer served")
      ->group("Operation");

  app.footer(
      "Example: serve every process below a cgroup from manifests in mesh/\n"
      "  weftd --source dir:mesh --cgroup /sys/fs/cgroup/my.slice\n\n"
      "SIGTERM leaves the data path pinned: connections go on being balanced, and the next start "
      "takes\n"
      "it over without a gap. To remove it: weftd --uninstall. To look at it: weftctl --help.");
}

std::string complaint_about_proxy(const Options& options) {
  const auto& proxy = options.proxy;
  if (proxy != "off" && !proxy.starts_with("/") && !proxy.starts_with("external:"))
    return "--proxy " + proxy + ": give off, an absolute path, or external:COMMAND";
  if (proxy == "external:") return "--proxy external: needs a command behind the colon";
  // What serves the cgroup must see the proxy's sockets, too; and all that runs in the proxy's is
  // taken for the proxy, which weftd ends.
  if (!options.proxy_cgroup.starts_with(options.cgroup + "/"))
    return "--proxy-cgroup " + options.proxy_cgroup + " must lie below --cgroup";
  return "";
}

std::string complaint(const Options& options) {
  if (options.uninstall) return "";
  if (options.cgroup.empty())
    return "--cgroup is required: which processes are to be served? Give a cgroup v2 directory";
  if (options.sources.empty())
    return "--source is required: where is the mesh described? For example dir:mesh";
  for (const auto& source : options.sources) {
    if (auto text = sources::complaint_about(source); !text.empty()) return text;
  }
  if (const auto status = observe::HttpServer::check_address(options.metrics); !status.ok())
    return base::message_of(status);
  if (!options.devices.empty()) return "--devices: this build has no packet path";
  return complaint_about_proxy(options);
}

// Beside this very program, wherever that is.
std::string default_proxy() {
  std::error_code error;
  const auto self = std::filesystem::read_symlink("/proc/self/exe", error);
  const auto path = self.parent_path() / "weft-proxy";
  return !error && std::filesystem::exists(path, error) ? path.string() : "off";
}

void fill_in(Options& options) {
  if (options.node_name.empty()) options.node_name = host_name();
  if (options.enrol.empty())
    options.enrol = std::any_of(options.sources.begin(), options.sources.end(),
                                [](const auto& uri) { return uri.starts_with("kubernetes:"); })
                        ? "labelled"
                        : "all";
  if (options.proxy.empty()) options.proxy = default_proxy();
  while (options.cgroup.size() > 1 && options.cgroup.back() == '/') options.cgroup.pop_back();
  if (options.proxy_cgroup.empty() && !options.cgroup.empty())
    options.proxy_cgroup = options.cgroup + "/weft-proxy";
}

}  // namespace

Parsed parse_options(int argc, const char* const* argv) {
  Parsed parsed;
  CLI::App app{
      "weftd, the node agent of weft: loads eBPF programs that turn a service address into a "
      "healthy\n"
      "endpoint inside connect(), keeps their maps equal to the mesh, and serves metrics.",
      "weftd"};
  define(app, parsed.options);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    std::ostringstream out, err;
    const int code = app.exit(error, out, err);
    parsed.ended = true;
    parsed.end = {code == 0 ? 0 : 2, code == 0 ? out.str() : "weftd: " + err.str()};
    return parsed;
  }
  fill_in(parsed.options);
  if (const auto text = complaint(parsed.options); !text.empty()) {
    parsed.ended = true;
    parsed.end = {2, "weftd: " + text + "\nRun weftd --help for all flags.\n"};
  }
  return parsed;
}

}  // namespace weft::app
