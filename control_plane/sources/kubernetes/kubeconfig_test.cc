#include "control_plane/sources/kubernetes/kubeconfig.h"

#include <absl/strings/escaping.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "mesh/base/text.h"

namespace weft::sources::kubernetes {
namespace {

const std::string kCertificate = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n";
const std::string kKey = "-----BEGIN EC PRIVATE KEY-----\nMHcC\n-----END EC PRIVATE KEY-----\n";

std::string base64(const std::string& text) { return absl::Base64Escape(base::to_absl(text)); }

class KubeconfigTest : public testing::Test {
 protected:
  KubeconfigTest() {
    std::string pattern = std::filesystem::temp_directory_path() / "weft-kubeconfig-XXXXXX";
    box_ = mkdtemp(pattern.data());
  }
  ~KubeconfigTest() override { std::filesystem::remove_all(box_); }

  std::string write(const std::string& name, const std::string& text) {
    std::ofstream(box_ + "/" + name) << text;
    return box_ + "/" + name;
  }

  absl::StatusOr<Access> read(const std::string& text) {
    return read_kubeconfig(write("config", text));
  }
  // A kubeconfig of one cluster and one user, each a YAML flow mapping.
  absl::StatusOr<Access> read_pair(const std::string& cluster, const std::string& user) {
    return read(
        "apiVersion: v1\nkind: Config\ncurrent-context: here\n"
        "contexts: [{name: here, context: {cluster: c, user: u, namespace: n}}]\n"
        "clusters: [{name: c, cluster: " +
        cluster + "}]\nusers: [{name: u, user: " + user + "}]\n");
  }
  absl::StatusOr<Access> read_server(const std::string& server) {
    return read_pair("{server: \"" + server + "\"}", "{}");
  }
  absl::StatusOr<Access> read_user(const std::string& user) {
    return read_pair("{server: 'https://h'}", user);
  }

  std::string box_;
};

void expect_refused(const absl::StatusOr<Access>& access, const std::string& why) {
  ASSERT_FALSE(access.ok()) << "not refused; expected: " << why;
  EXPECT_NE(base::message_of(access.status()).find(why), std::string::npos)
      << access.status().message() << "\nlacks: " << why;
}

TEST_F(KubeconfigTest, ReadsWhatKubeadmWrites) {
  const auto access = read(
      "apiVersion: v1\nkind: Config\npreferences: {}\n"
      "clusters:\n- cluster:\n    certificate-authority-data: " +
      base64(kCertificate) +
      "\n    server: https://192.0.2.10:6443\n  name: kubernetes\n"
      "contexts:\n"
      "- context: {cluster: other, user: other}\n  name: other\n"
      "- context:\n    cluster: kubernetes\n    user: admin\n  name: here\n"
      "current-context: here\n"
      "users:\n- name: admin\n  user:\n    client-certificate-data: " +
      base64(kCertificate) + "\n    client-key-data: " + base64(kKey) + "\n");
  ASSERT_TRUE(access.ok()) << access.status();
  Access expected;
  expected.host = "192.0.2.10";
  expected.port = 6443;
  expected.ca_pem = kCertificate;
  expected.client_cert_pem = kCertificate;
  expected.client_key_pem = kKey;
  expected.origin = box_ + "/config";
  EXPECT_EQ(*access, expected);
}

TEST_F(KubeconfigTest, ReadsJson) {
  const auto access = read(
      R"({"kind":"Config","current-context":"a","contexts":[{"name":"a","context":)"
      R"({"cluster":"c","user":"u"}}],"clusters":[{"name":"c","cluster":{"server":"https://h"}}],)"
      R"("users":[{"name":"u","user":{"token":"t"}}]})");
  ASSERT_TRUE(access.ok()) << access.status();
  EXPECT_EQ(access->host, "h");
  EXPECT_EQ(access->token, "t");
}

TEST_F(KubeconfigTest, FilesAreRelativeToTheKubeconfig) {
  std::filesystem::create_directory(box_ + "/pki");
  write("pki/ca.crt", kCertificate);
  const auto certificate = write("admin.crt", kCertificate);
  write("admin.key", kKey);
  const auto access =
      read_pair("{server: 'https://h', certificate-authority: pki/ca.crt}",
                "{client-certificate: '" + certificate + "', client-key: ./admin.key}");
  ASSERT_TRUE(access.ok()) << access.status();
  EXPECT_EQ(access->ca_pem, kCertificate);
  EXPECT_EQ(access->ca_file, box_ + "/pki/ca.crt");
  EXPECT_EQ(access->client_cert_file, certificate);
  EXPECT_EQ(access->client_key_pem, kKey);
  EXPECT_EQ(access->client_key_file, box_ + "/./admin.key");
}

struct Server {
  const char* url;
  bool tls;
  const char* host;
  int port;
  const char* path_prefix;
};

TEST_F(KubeconfigTest, ReadsServerUrls) {
  for (const Server& server : std::initializer_list<Server>{
           {"https://api.example.org", true, "api.example.org", 443, ""},
           {"https://api.example.org:6443", true, "api.example.org", 6443, ""},
           {"https://api.example.org:", true, "api.example.org", 443, ""},
           {"HTTPS://Api:65535/", true, "Api", 65535, ""},
           {"http://127.0.0.1:8080", false, "127.0.0.1", 8080, ""},
           {"http://proxy", false, "proxy", 80, ""},
           {"https://[2001:db8::1]:6443", true, "2001:db8::1", 6443, ""},
           {"https://[::1]", true, "::1", 443, ""},
           {"https://rancher/k8s/clusters/c-1/", true, "rancher", 443, "/k8s/clusters/c-1"},
           {"https://h:1//", true, "h", 1, ""},
           {"https://h/a%20b", true, "h", 443, "/a%20b"}}) {
    SCOPED_TRACE(server.url);
    const auto access = read_server(server.url);
    ASSERT_TRUE(access.ok()) << access.status();
    EXPECT_EQ(access->tls, server.tls);
    EXPECT_EQ(access->host, server.host);
    EXPECT_EQ(access->port, server.port);
    EXPECT_EQ(access->path_prefix, server.path_prefix);
  }
}

TEST_F(KubeconfigTest, RefusesServerUrls) {
  for (const auto& [url, why] : std::initializer_list<std::pair<const char*, const char*>>{
           {"", "cluster \"c\" has no server"},
           {"192.0.2.1:6443", "has no scheme: write https:// in front"},
           {"api.example.org", "has no scheme"},
           {"unix:///run/api", "has a scheme other than https and http"},
           {"https://", "has no host"},
           {"https://:6443", "has no host"},
           {"https://h:0", "has a port"},
           {"https://h:65536", "has a port"},
           {"https://h:6443x", "has a port"},
           {"https://h:-1", "has a port"},
           {"https://h:1:2", "has a port"},
           {"https://2001:db8::1", "has an IPv6 address without [ and ]"},
           {"https://[2001:db8::1", "has a [ without its ]"},
           {"https://[fe80::1%25eth0]", "not an IPv6 address"},
           {"https://[192.0.2.1]", "not an IPv6 address"},
           {"https://[::1]6443", "between ] and the port"},
           {"https://a b", "neither a name nor an address"},
           {"https://h\\r\\nX: y", "neither a name nor an address"},
           {"https://h/a b", "percent-encoded"},
           {"https://h/?a=b", "has a query or a fragment"},
           {"https://h?a=b", "has a query or a fragment"},
           {"https://h/#a", "has a query or a fragment"},
           {"https://me:hunter2@h", "holds a user name"}}) {
    SCOPED_TRACE(url);
    const auto access = read_server(url);
    expect_refused(access, why);
    EXPECT_EQ(base::message_of(access.status()).find("hunter2"), std::string::npos);
  }
}

TEST_F(KubeconfigTest, RefusesClusters) {
  write("empty", "");
  for (const auto& [cluster, why] : std::initializer_list<std::pair<std::string, const char*>>{
           {"{}", "line 5: cluster \"c\" has no server"},
           {"[]", "cluster \"c\" must be a mapping"},
           {"{server: 1}", "server must be a string, not a number: put it in quotes"},
           {"{server: 'https://h', proxy-url: 'http://p'}",
            "cluster \"c\" has proxy-url, which weft does not support"},
           {"{server: 'https://h', tls-server-name: 'a b'}", "tls-server-name is not a host name"},
           {"{server: 'https://h', insecure-skip-tls-verify: 'true'}", "must be true or false"},
           {"{server: 'https://h', certificate-authority-data: '%%%'}",
            "certificate-authority-data is not base64"},
           {"{server: 'https://h', certificate-authority-data: 'Z2FyYmFnZQ=='}",
            "certificate-authority-data holds no certificate in PEM"},
           {"{server: 'https://h', certificate-authority: none.crt}", "none.crt: does not exist"},
           {"{server: 'https://h', certificate-authority: .}", "is not a file"},
           {"{server: 'https://h', certificate-authority: empty}", "empty is empty"},
           {"{server: 'https://h', certificate-authority: a, certificate-authority-data: b}",
            "both certificate-authority and certificate-authority-data"},
           {"{server: 'https://h', insecure-skip-tls-verify: true, certificate-authority-data: " +
                base64(kCertificate) + "}",
            "insecure-skip-tls-verify and a certificate-authority"}}) {
    SCOPED_TRACE(cluster);
    expect_refused(read_pair(cluster, "{}"), why);
  }
}

TEST_F(KubeconfigTest, ReadsWhatAClusterSaysOfTls) {
  auto access = read_pair(
      "{server: 'https://h', insecure-skip-tls-verify: true, tls-server-name: api}", "{}");
  ASSERT_TRUE(access.ok()) << access.status();
  EXPECT_TRUE(access->insecure);
  EXPECT_EQ(access->server_name, "api");
  access = read_pair("{server: 'https://h', proxy-url: '', extensions: [{name: x}]}", "{}");
  ASSERT_TRUE(access.ok()) << access.status();
  EXPECT_EQ(access->ca_pem, "");
}

TEST_F(KubeconfigTest, ReadsUsers) {
  auto access = read_user("{}");
  ASSERT_TRUE(access.ok()) << access.status();
  EXPECT_EQ(access->token, "");
  access = read_user("{token: \"abc\\n\"}");
  ASSERT_TRUE(access.ok()) << access.status();
  EXPECT_EQ(access->token, "abc");
  access = read_user("{username: me, password: 'p:w'}");
  ASSERT_TRUE(access.ok()) << access.status();
  EXPECT_EQ(access->basic_user, "me");
  EXPECT_EQ(access->basic_password, "p:w");
}

TEST_F(KubeconfigTest, ATokenFileWinsOverTheTokenBesideIt) {
  write("token", "from-file\n");
  auto access = read_user("{token: inline, tokenFile: token}");
  ASSERT_TRUE(access.ok()) << access.status();
  EXPECT_EQ(access->token, "from-file");
  EXPECT_EQ(access->token_file, box_ + "/token");
  // It may come later.
  access = read_user("{token: inline, tokenFile: none}");
  ASSERT_TRUE(access.ok()) << access.status();
  EXPECT_EQ(access->token, "inline");
  EXPECT_EQ(access->token_file, box_ + "/none");
  expect_refused(read_user("{tokenFile: none}"), "none: does not exist");
}

TEST_F(KubeconfigTest, RefusesUsers) {
  write("blank", "\n");
  write("damaged", "two words\n");
  write("key", kKey);
  write("cut", "-----BEGIN CERTIFICATE-----\nMIIB\n");
  write("cut2", kCertificate + "-----BEGIN CERTIFICATE-----\nMIIB\n");
  write("encrypted",
        "-----BEGIN ENCRYPTED PRIVATE KEY-----\nMI\n-----END ENCRYPTED PRIVATE KEY-----\n");
  const auto certificate = "client-certificate-data: " + base64(kCertificate);
  for (const auto& [user, why] : std::initializer_list<std::pair<std::string, const char*>>{
           {"3", "user \"u\" must be a mapping"},
           {"{token: 12}", "token must be a string, not a number: put it in quotes"},
           {"{token: [a]}", "token must be a string, not a list"},
           {"{token: \"a\\r\\nHost: b\"}", "holds a character that cannot be in a token"},
           {"{token: ' '}", "its token is empty"},
           {"{tokenFile: blank}", "blank is empty"},
           {"{tokenFile: damaged}", "damaged holds a character that cannot be in a token"},
           {"{token: a, username: b, password: c}", "both a token and a password"},
           {"{username: 'a:b', password: c}", "a username cannot hold a colon"},
           {"{as: root}", "user \"u\" has as, which weft does not support"},
           {"{as-groups: [a]}", "has as-groups, which"},
           {"{as-uid: '1'}", "has as-uid, which"},
           {"{as-user-extra: {a: [b]}}", "has as-user-extra, which"},
           {"{auth-provider: {name: gcp}}", "has auth-provider, which"},
           {"{" + certificate + "}", "has a client-certificate, no client-key"},
           {"{client-key: key}", "has a client-key, no client-certificate"},
           {"{client-key: cut, " + certificate + "}", "cut holds no private key in PEM"},
           {"{client-key: encrypted, " + certificate + "}", "is encrypted"},
           {"{client-certificate: cut, client-key: key}", "cut breaks off before the end"},
           {"{client-certificate: cut2, client-key: key}", "cut2 breaks off before the end"},
           {"{client-certificate: key, client-key: key}", "key holds no certificate in PEM"}}) {
    SCOPED_TRACE(user);
    expect_refused(read_user(user), why);
  }
}

TEST_F(KubeconfigTest, ReadsAnExecPlugin) {
  const auto access = read_pair(
      "{server: 'https://h:1', certificate-authority-data: " + base64(kCertificate) +
          ", extensions: [{name: client.authentication.k8s.io/exec, extension: "
          "{audience: a, n: 3, hex: 0x1f, on: true, list: [x, ~]}}]}",
      "{exec: {apiVersion: client.authentication.k8s.io/v1, command: ./bin/plugin, args: [get, "
      "'1'], env: [{name: A, value: b}], interactiveMode: IfAvailable, provideClusterInfo: true, "
      "installHint: none}}");
  ASSERT_TRUE(access.ok()) << access.status();
  ASSERT_TRUE(access->exec);
  EXPECT_EQ(access->exec->command, box_ + "/./bin/plugin");
  EXPECT_EQ(access->exec->args, (std::vector<std::string>{"get", "1"}));
  EXPECT_EQ(access->exec->env, (std::vector<std::pair<std::string, std::string>>{{"A", "b"}}));
  EXPECT_EQ(access->exec->api_version, "client.authentication.k8s.io/v1");
  const nlohmann::json config = {
      {"audience", "a"}, {"n", 3}, {"hex", "0x1f"}, {"on", true}, {"list", {"x", nullptr}}};
  const nlohmann::json expected = {{"server", "https://h:1"},
                                   {"certificate-authority-data", base64(kCertificate)},
                                   {"config", config}};
  EXPECT_EQ(nlohmann::json::parse(access->exec->cluster_json), expected);
}

TEST_F(KubeconfigTest, ACommandWithoutASlashIsLookedUpInPath) {
  const auto access =
      read_user("{exec: {apiVersion: client.authentication.k8s.io/v1beta1, command: aws}}");
  ASSERT_TRUE(access.ok()) << access.status();
  EXPECT_EQ(access->exec->command, "aws");
  EXPECT_EQ(access->exec->cluster_json, "");
}

TEST_F(KubeconfigTest, WhatAUserHasComesBeforeItsPlugin) {
  const auto access =
      read_user("{token: t, exec: {apiVersion: client.authentication.k8s.io/v1, command: aws}}");
  ASSERT_TRUE(access.ok()) << access.status();
  EXPECT_EQ(access->token, "t");
  EXPECT_FALSE(access->exec);
}

TEST_F(KubeconfigTest, RefusesExecPlugins) {
  const std::string begin = "{exec: {command: x, apiVersion: client.authentication.k8s.io/v1, ";
  for (const auto& [user, why] : std::initializer_list<std::pair<std::string, const char*>>{
           {"{exec: x}", "exec must be a mapping"},
           {"{exec: {apiVersion: client.authentication.k8s.io/v1}}", "exec has no command"},
           {"{exec: {command: x}}", "exec must have the apiVersion"},
           {"{exec: {command: x, apiVersion: client.authentication.k8s.io/v1alpha1}}",
            "exec must have the apiVersion"},
           {begin + "interactiveMode: Always}}", "an agent has no terminal"},
           {begin + "args: x}}", "exec's args must be a list"},
           {begin + "args: [1]}}", "an item of args must be a string"},
           {begin + "env: {a: b}}}", "exec's env must be a list"},
           {begin + "env: [{value: b}]}}", "an item without a usable name"},
           {begin + "env: [{name: a=b, value: c}]}}", "an item without a usable name"}}) {
    SCOPED_TRACE(user);
    expect_refused(read_user(user), why);
  }
}

TEST_F(KubeconfigTest, RefusesFiles) {
  const std::string context = "contexts: [{name: a, context: {cluster: c, user: u}}]\n";
  const std::string cluster = "clusters: [{name: c, cluster: {server: 'https://h'}}]\n";
  const std::string user = "users: [{name: u, user: {}}]\n";
  const std::string all = context + cluster + user;
  for (const auto& [text, why] : std::initializer_list<std::pair<std::string, const char*>>{
           {"", "config: is empty"},
           {"# nothing\n---\n", "config: is empty"},
           {"a: [b\n", "is not valid YAML"},
           {"{\"a\": ", "is not valid YAML"},
           {"just text", "line 1: is no kubeconfig"},
           {"- a\n", "line 1: is no kubeconfig"},
           {std::string("a\0b", 3), "has a NUL byte"},
           {"kind: Service\n", "line 1: is no kubeconfig: its kind is \"Service\""},
           {all, "has no current-context"},
           {"current-context: ''\n" + all, "has no current-context"},
           {"current-context: 7\n" + all, "current-context must be a string"},
           {"current-context: b\n" + all, "line 2: there is no context of the name \"b\""},
           {"current-context: a\n", "there is no context of the name \"a\""},
           {"current-context: a\n" + context + user, "there is no cluster of the name \"c\""},
           {"current-context: a\n" + context + cluster, "there is no user of the name \"u\""},
           {"current-context: a\n" + context + cluster + "users: [{name: v}]\n",
            "line 4: there is no user of the name \"u\""},
           {"current-context: a\n" + context + user + "clusters: {c: d}\n",
            "clusters must be a list"},
           {"current-context: a\n" + context + cluster + "users: [{name: u}, {name: u}]\n",
            "there is a second user of the name \"u\""},
           {"current-context: a\ncontexts: [{name: a, context: {user: u}}]\n" + cluster + user,
            "context \"a\" names no cluster"},
           {"current-context: a\ncontexts: [{name: a, context: {cluster: c}}]\n" + cluster + user,
            "context \"a\" names no user"},
           {"current-context: a\ncurrent-context: a\n" + all, "line 2: has the key"},
           {"x: &a b\ncurrent-context: a\n" + all, "has an anchor"},
           {"current-context: a\n" + all + "---\na: b\n", "has a second document"}}) {
    SCOPED_TRACE(text);
    expect_refused(read(text), why);
  }
}

TEST_F(KubeconfigTest, RefusesWhatIsNoFile) {
  expect_refused(read_kubeconfig(box_ + "/none"), "kubeconfig " + box_ + "/none: does not exist");
  expect_refused(read_kubeconfig(box_), "is not a file");
  expect_refused(read_kubeconfig(""), "does not exist");
  mkfifo((box_ + "/fifo").c_str(), 0600);
  expect_refused(read_kubeconfig(box_ + "/fifo"), "is not a file");
  std::filesystem::create_symlink("loop", box_ + "/loop");
  expect_refused(read_kubeconfig(box_ + "/loop"), "cannot be read: ");
  std::filesystem::resize_file(write("large", ""), (8u << 20) + 1);
  expect_refused(read_kubeconfig(box_ + "/large"), "is over 8 MB");
}

class InClusterTest : public KubeconfigTest {
 protected:
  InClusterTest() { pod("10.96.0.1", "443"); }
  ~InClusterTest() override { pod(nullptr, nullptr); }

  static void pod(const char* host, const char* port) {
    host ? setenv("KUBERNETES_SERVICE_HOST", host, 1) : unsetenv("KUBERNETES_SERVICE_HOST");
    port ? setenv("KUBERNETES_SERVICE_PORT", port, 1) : unsetenv("KUBERNETES_SERVICE_PORT");
  }
};

TEST_F(InClusterTest, ReadsTheServiceAccount) {
  write("token", "abc.def\n");
  write("ca.crt", kCertificate);
  auto access = in_cluster(box_);
  ASSERT_TRUE(access.ok()) << access.status();
  Access expected;
  expected.host = "10.96.0.1";
  expected.token = "abc.def";
  expected.token_file = box_ + "/token";
  expected.ca_pem = kCertificate;
  expected.ca_file = box_ + "/ca.crt";
  expected.origin = "in-cluster service account";
  EXPECT_EQ(*access, expected);
  pod("fd00::1", "6443");
  access = in_cluster(box_);
  ASSERT_TRUE(access.ok()) << access.status();
  EXPECT_EQ(access->host, "fd00::1");
  EXPECT_EQ(access->port, 6443);
}

TEST_F(InClusterTest, SaysWhatIsMissing) {
  expect_refused(in_cluster(box_), "token: does not exist; is automountServiceAccountToken false?");
  write("token", "");
  expect_refused(in_cluster(box_), "token is empty");
  write("token", "abc");
  expect_refused(in_cluster(box_), "ca.crt: does not exist");
  write("ca.crt", "garbage");
  expect_refused(in_cluster(box_), "ca.crt holds no certificate in PEM");
  pod("10.96.0.1", "tcp://10.96.0.1:443");
  expect_refused(in_cluster(box_), "KUBERNETES_SERVICE_PORT is not a number");
  pod("[fd00::1]", "443");
  expect_refused(in_cluster(box_), "KUBERNETES_SERVICE_HOST is neither");
  pod(nullptr, "443");
  expect_refused(in_cluster(box_), "so this is no pod");
}

}  // namespace
}  // namespace weft::sources::kubernetes
