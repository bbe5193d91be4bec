#include "agent/app/options.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>
#include <fstream>
#include <initializer_list>

#include "agent/app/config_file.h"

namespace weft::app {
namespace {

using std::chrono::milliseconds;

Parsed parsed(std::vector<const char*> arguments) {
  arguments.insert(arguments.begin(), "weftd");
  return parse_options(static_cast<int>(arguments.size()), arguments.data());
}

// Good by itself; the test adds what it is about.
Parsed with(std::vector<const char*> arguments) {
  arguments.insert(arguments.begin(), {"--cgroup", "/sys/fs/cgroup/x", "--source", "dir:mesh"});
  return parsed(std::move(arguments));
}

class ConfigFile {
 public:
  explicit ConfigFile(const std::string& text) {
    const int fd = mkstemp(path_);
    EXPECT_GE(fd, 0);
    close(fd);
    std::ofstream(path_) << text;
  }
  ~ConfigFile() { unlink(path_); }
  ConfigFile(const ConfigFile&) = delete;
  ConfigFile& operator=(const ConfigFile&) = delete;
  const char* path() const { return path_; }

 private:
  char path_[32] = "/tmp/weft-options-XXXXXX";
};

TEST(Options, ADurationIsRefusedWithWhatIsExpected) {
  const auto result = parsed({"--cgroup", "/x", "--source", "dir:x", "--hold-empty", "1d"});
  EXPECT_EQ(result.end.exit_code, 2);
  EXPECT_NE(result.end.text.find("\"1d\" is not a duration: write 500ms, 30s, 2m or 1h"),
            std::string::npos)
      << result.end.text;
}

TEST(Options, TheProxyIsAPathOffOrACommand) {
  for (const auto* good : {"off", "/usr/bin/weft-proxy", "external:haproxy -f /etc/haproxy.cfg"})
    EXPECT_EQ(with({"--proxy", good}).options.proxy, good);
  for (const auto* bad : {"on", "weft-proxy", "external:"})
    EXPECT_EQ(with({"--proxy", bad}).end.exit_code, 2) << bad;
}

TEST(Options, ThereIsNoProxyWhereNoneLiesBesideTheProgram) {
  EXPECT_EQ(with({}).options.proxy, "off");  // the test's own directory has none
}

TEST(Options, TheProxyHasACgroupOfItsOwnBelowWhatIsServed) {
  EXPECT_EQ(with({}).options.proxy_cgroup, "/sys/fs/cgroup/x/weft-proxy");
  EXPECT_EQ(with({"--proxy-cgroup", "/sys/fs/cgroup/x/p"}).options.proxy_cgroup,
            "/sys/fs/cgroup/x/p");
  for (const auto* bad : {"/sys/fs/cgroup/x", "/sys/fs/cgroup/xy", "/sys/fs/cgroup"})
    EXPECT_EQ(with({"--proxy-cgroup", bad}).end.exit_code, 2) << bad;
}

TEST(Options, TheProxyIsNeverRoot) {
  EXPECT_EQ(with({}).options.proxy_user, 65534u);
  EXPECT_EQ(with({"--proxy-user", "1000"}).options.proxy_user, 1000u);
  EXPECT_EQ(with({"--proxy-user", "0"}).end.exit_code, 2);
}

TEST(Options, NeedACgroupAndASource) {
  auto result = parsed({"--source", "dir:mesh"});
  EXPECT_TRUE(result.ended);
  EXPECT_EQ(result.end.exit_code, 2);
  EXPECT_NE(result.end.text.find("--cgroup is required"), std::string::npos) << result.end.text;
  result = parsed({"--cgroup", "/x"});
  EXPECT_EQ(result.end.exit_code, 2);
  EXPECT_NE(result.end.text.find("--source is required"), std::string::npos) << result.end.text;
}

TEST(Options, UninstallNeedsNeither) {
  const auto result = parsed({"--uninstall"});
  EXPECT_FALSE(result.ended) << result.end.text;
  EXPECT_TRUE(result.options.uninstall);
}

TEST(Options, HaveTheDocumentedDefaults) {
  const auto result = with({});
  ASSERT_FALSE(result.ended) << result.end.text;
  EXPECT_EQ(result.options.bpffs, "/sys/fs/bpf/weft");
  EXPECT_EQ(result.options.run_dir, "/run/weft");
  EXPECT_EQ(result.options.state_dir, "/var/lib/weft");
  EXPECT_EQ(result.options.metrics, "0.0.0.0:15020");
  EXPECT_EQ(result.options.log_format, "text");
  EXPECT_EQ(result.options.hold_empty, milliseconds(30'000));
  EXPECT_EQ(result.options.source_timeout, milliseconds(10'000));
  EXPECT_FALSE(result.options.allow_empty);
  EXPECT_FALSE(result.options.node_name.empty());
}

TEST(Options, SourcesMayBeRepeated) {
  const auto result = with({"--source", "dir:more"});
  ASSERT_FALSE(result.ended) << result.end.text;
  EXPECT_EQ(result.options.sources, (std::vector<std::string>{"dir:mesh", "dir:more"}));
}

TEST(Options, SourcesThatThisBuildCannotReadAreRefused) {
  for (const char* source : {"xds://host:15012", "dir:", "mesh", "kubernetes"}) {
    const auto result = with({"--source", source});
    EXPECT_EQ(result.end.exit_code, 2) << source;
    EXPECT_NE(result.end.text.find("--source " + std::string(source) + " is not known"),
              std::string::npos)
        << result.end.text;
  }
}

TEST(Options, WrongUseIsExitCodeTwoAndNamesTheFlag) {
  for (const auto& arguments :
       std::initializer_list<std::vector<const char*>>{{"--no-such-flag"},
                                                       {"--log-format", "xml"},
                                                       {"--hold-empty", "soon"},
                                                       {"--max-services", "3"},
                                                       {"--max-endpoints", "lots"},
                                                       {"--bypass", "sometimes"},
                                                       {"--enforce-unsupported", "maybe"}}) {
    const auto result = with(arguments);
    EXPECT_TRUE(result.ended) << arguments[0];
    EXPECT_EQ(result.end.exit_code, 2) << arguments[0];
    EXPECT_TRUE(result.end.text.starts_with("weftd: ")) << result.end.text;
    EXPECT_NE(result.end.text.find(arguments[0]), std::string::npos) << result.end.text;
  }
}

TEST(Options, HelpAndVersionEndWell) {
  const auto help = parsed({"--help"});
  EXPECT_TRUE(help.ended);
  EXPECT_EQ(help.end.exit_code, 0);
  for (const char* flag :
       {"--source", "--cgroup", "--bpffs", "--run-dir", "--metrics", "--uninstall", "--config"})
    EXPECT_NE(help.end.text.find(flag), std::string::npos) << flag;
  const auto version = parsed({"--version"});
  EXPECT_EQ(version.end.exit_code, 0);
  EXPECT_EQ(version.end.text, "weftd " WEFT_VERSION "\n");
}

TEST(Config, HoldsFlagsWithoutTheirDashes) {
  const ConfigFile file(R"(# a node
source: [dir:one, dir:two]
cgroup: /sys/fs/cgroup/x
zone: "a"
hold-empty: 5s
max-services: 64
allow-empty: true
log-format: json
)");
  const auto result = parsed({"--config", file.path()});
  ASSERT_FALSE(result.ended) << result.end.text;
  EXPECT_EQ(result.options.sources, (std::vector<std::string>{"dir:one", "dir:two"}));
  EXPECT_EQ(result.options.cgroup, "/sys/fs/cgroup/x");
  EXPECT_EQ(result.options.zone, "a");
  EXPECT_EQ(result.options.hold_empty, milliseconds(5'000));
  EXPECT_EQ(result.options.max_services, 64u);
  EXPECT_TRUE(result.options.allow_empty);
  EXPECT_EQ(result.options.log_format, "json");
}

TEST(Config, TheCommandLineWins) {
  const ConfigFile file("zone: a\nregion: r\nsubzone: s\n");
  const auto result = with({"--config", file.path(), "--zone", "b"});
  ASSERT_FALSE(result.ended) << result.end.text;
  EXPECT_EQ(result.options.zone, "b");
  EXPECT_EQ(result.options.region, "r");
  EXPECT_EQ(result.options.subzone, "s");
}

TEST(Config, AnUnknownKeyIsRefusedByName) {
  const ConfigFile file("zone: a\nzoen: b\n");
  const auto result = with({"--config", file.path()});
  EXPECT_EQ(result.end.exit_code, 2);
  EXPECT_NE(result.end.text.find("zoen"), std::string::npos) << result.end.text;
}

TEST(Config, AnUnknownKeyHasItsFileAndLine) {
  const ConfigFile file("zone: a\nzoen: b\n");
  const auto text = with({"--config", file.path()}).end.text;
  EXPECT_NE(text.find(std::string(file.path()) + ": line 2: there is no flag --zoen"),
            std::string::npos)
      << text;
}

TEST(Config, AnEmptyListSaysNothing) {
  const ConfigFile file("devices: []\n");
  EXPECT_FALSE(with({"--config", file.path()}).ended);
}

TEST(Options, AnAddressThatIsNoneIsRefusedBeforeAnythingStarts) {
  const auto result = with({"--metrics", "nonsense"});
  EXPECT_EQ(result.end.exit_code, 2);
  EXPECT_NE(result.end.text.find("--metrics nonsense"), std::string::npos) << result.end.text;
}

TEST(Config, WrongValuesAreRefusedAsOnTheCommandLine) {
  for (const char* text :
       {"log-format: xml\n", "hold-empty: soon\n", "max-services: 3\n", "allow-empty: perhaps\n"}) {
    const ConfigFile file(text);
    EXPECT_EQ(with({"--config", file.path()}).end.exit_code, 2) << text;
  }
}

TEST(Config, AFileThatIsNotThereIsAnError) {
  const auto result = with({"--config", "/nonexistent/weft.yaml"});
  EXPECT_EQ(result.end.exit_code, 2);
  EXPECT_NE(result.end.text.find("/nonexistent/weft.yaml"), std::string::npos) << result.end.text;
}

TEST(Config, AFileThatIsWrongIsAnErrorWithItsLine) {
  const ConfigFile file("zone: a\nzone: b\n");
  const auto result = with({"--config", file.path()});
  EXPECT_EQ(result.end.exit_code, 2);
  EXPECT_NE(result.end.text.find("line 2: the key \"zone\" is there twice"), std::string::npos)
      << result.end.text;
}

std::string error_of(const std::string& text) {
  const auto entries = parse_config(text);
  return entries.ok() ? "" : std::string(entries.status().message());
}

TEST(ConfigFileReader, ReadsScalarsAndListsInTheirOrderWithLines) {
  const auto entries = parse_config("a: 1\n\nb: [x, \"y z\"]\nc:\n- d\n");
  ASSERT_TRUE(entries.ok());
  ASSERT_EQ(entries->size(), 3u);
  EXPECT_EQ((*entries)[0].key, "a");
  EXPECT_EQ((*entries)[0].values, (std::vector<std::string>{"1"}));
  EXPECT_EQ((*entries)[1].line, 3);
  EXPECT_EQ((*entries)[1].values, (std::vector<std::string>{"x", "y z"}));
  EXPECT_EQ((*entries)[2].values, (std::vector<std::string>{"d"}));
}

TEST(ConfigFileReader, AnEmptyFileHoldsNothing) {
  for (const char* text : {"", "# comment\n", "---\n", "{}\n"}) {
    const auto entries = parse_config(text);
    ASSERT_TRUE(entries.ok()) << text;
    EXPECT_TRUE(entries->empty());
  }
}

TEST(ConfigFileReader, RefusesWhatIsNoMappingOfPlainValues) {
  EXPECT_EQ(error_of("- a\n"), "line 1: expected a mapping of flag names to values");
  EXPECT_EQ(error_of("word\n"), "line 1: expected a mapping of flag names to values");
  EXPECT_EQ(error_of("a: 1\nb: {c: d}\n"), "line 2: \"b\" must be a value or a list of values");
  EXPECT_EQ(error_of("a: [[b]]\n"), "line 1: \"a\" may hold plain values only");
  EXPECT_EQ(error_of("? [a]\n: b\n"), "line 1: a key must be a flag's name");
  EXPECT_EQ(error_of("a: 1\n---\nb: 2\n"), "line 2: a second document");
  EXPECT_EQ(error_of("a: 1\n\"a\": 2\n"), "line 2: the key \"a\" is there twice");
}

TEST(ConfigFileReader, RefusesAliasesAndBrokenYaml) {
  EXPECT_NE(error_of("a: &x 1\nb: *x\n"), "");
  EXPECT_NE(error_of("a: [1\n"), "");
  EXPECT_NE(error_of("a: 1\n\tb: 2\n"), "");
  EXPECT_NE(error_of(std::string("a: 1\nb\0: 2\n", 11)), "");
}

}  // namespace
}  // namespace weft::app
