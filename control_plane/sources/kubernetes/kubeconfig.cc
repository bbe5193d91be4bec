#include "control_plane/sources/kubernetes/kubeconfig.h"

#include <absl/strings/escaping.h>
#include <absl/strings/match.h>
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "mesh/base/fd.h"
#include "mesh/base/text.h"
#include "mesh/manifest/text_reader.h"
#include "mesh/model/address.h"

namespace weft::sources::kubernetes {
namespace {

using manifest::Type;
using manifest::Value;

constexpr std::size_t kMaxFileBytes = 8u << 20;
constexpr long long kTickNanoseconds = 100'000'000;  // longer than any kernel's: HZ is 100 or more
constexpr char kExecGroup[] = "client.authentication.k8s.io/";
// In a cluster's extensions, what a plugin is told as `config`.
constexpr char kExecExtension[] = "client.authentication.k8s.io/exec";

long long nanoseconds(const timespec& time) { return time.tv_sec * 1'000'000'000ll + time.tv_nsec; }

FileState state_of(const struct stat& info) {
  timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  const auto age = nanoseconds(now) - nanoseconds(info.st_mtim);
  return {info.st_dev, info.st_ino, info.st_size, info.st_mtim, age > kTickNanoseconds};
}

absl::Status unreadable(const std::string& path, int error) {
  if (error == ENOENT || error == ENOTDIR) return absl::NotFoundError(path + ": does not exist");
  return absl::UnavailableError(path + ": cannot be read: " + std::strerror(error));
}

bool is_host_name(std::string_view text) {
  constexpr std::string_view kAllowed =
      "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._";
  return !text.empty() && text.size() <= 253 &&
         text.find_first_not_of(kAllowed) == std::string_view::npos;
}

bool is_ipv6(std::string_view text) {
  return text.find(':') != std::string_view::npos && model::Address::parse(text);
}

bool take_prefix(std::string_view& text, std::string_view prefix) {
  if (!absl::StartsWithIgnoreCase(base::to_absl(text), base::to_absl(prefix))) return false;
  text.remove_prefix(prefix.size());
  return true;
}

// "host", "host:port", "[v6]:port". Why it cannot be read, or "".
std::string set_authority(std::string_view authority, Access& access) {
  std::string_view port;
  bool has_port = false;
  if (authority.starts_with('[')) {
    const auto end = authority.find(']');
    if (end == std::string_view::npos) return "has a [ without its ]";
    const auto host = authority.substr(1, end - 1);
    if (!is_ipv6(host)) return "has something between [ and ] that is not an IPv6 address";
    access.host = host;
    port = authority.substr(end + 1);
    if (!port.empty() && !port.starts_with(':')) return "has something between ] and the port";
    has_port = !port.empty();
  } else {
    const auto colon = authority.find(':');
    access.host = authority.substr(0, colon);
    if (access.host.empty()) return "has no host";
    if (is_ipv6(authority)) return "has an IPv6 address without [ and ] around it";
    if (!is_host_name(access.host)) return "has a host that is neither a name nor an address";
    has_port = colon != std::string_view::npos;
    if (has_port) port = authority.substr(colon);
  }
  access.port = access.tls ? 443 : 80;
  if (!has_port || port == ":") return "";
  const auto number = base::parse_number<std::uint16_t>(port.substr(1));
  if (!number || *number == 0) return "has a port that is not a number from 1 to 65535";
  access.port = *number;
  return "";
}

// Why the server's URL cannot be read, or "".
std::string set_server(std::string_view url, Access& access) {
  if (take_prefix(url, "https://")) {
    access.tls = true;
  } else if (take_prefix(url, "http://")) {
    access.tls = false;
  } else {
    return url.find("://") == std::string_view::npos ? "has no scheme: write https:// in front"
                                                     : "has a scheme other than https and http";
  }
  const auto slash = std::min(url.find_first_of("/?#"), url.size());
  const auto authority = url.substr(0, slash);
  auto path = url.substr(slash);
  // Before anything quotes it: a password may stand there.
  if (authority.find('@') != std::string_view::npos)
    return "holds a user name: that belongs in the users";
  if (path.find_first_of("?#") != std::string_view::npos) return "has a query or a fragment";
  const auto is_visible = [](unsigned char c) { return c > 0x20 && c < 0x7f; };
  if (!std::all_of(path.begin(), path.end(), is_visible))
    return "has a path with a character that must be percent-encoded";
  while (path.ends_with('/')) path.remove_suffix(1);
  access.path_prefix = path;
  return set_authority(authority, access);
}

nlohmann::json to_json(Value value) {
  nlohmann::json json;
  switch (value.type()) {
    case Type::kNull:
      break;
    case Type::kBool:
      return value.text() == "true";
    case Type::kNumber:
      json = nlohmann::json::parse(value.text(), nullptr, false);
      // 0x1f and .5 are YAML's alone.
      return json.is_number() ? json : nlohmann::json(std::string(value.text()));
    case Type::kString:
      return std::string(value.text());
    case Type::kSequence:
      json = nlohmann::json::array();
      for (const Value item : value) json.push_back(to_json(item));
      break;
    case Type::kMapping:
      json = nlohmann::json::object();
      for (const Value field : value) json[std::string(field.key())] = to_json(field);
      break;
  }
  return json;
}

std::string to_text(const nlohmann::json& json) {
  return json.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

// The first thing that is wrong is kept and everything after it reads as absent, so that the code
// runs straight on.
class Reader {
 public:
  explicit Reader(const std::string& path)
      : path_(path), directory_(std::filesystem::path(path).parent_path()) {
    access_.origin = path;
  }

  absl::StatusOr<Access> read(Value root) {
    if (!root.present()) return at({}, "is empty");
    if (root.type() != Type::kMapping)
      return at(root, "is no kubeconfig: that is a mapping with clusters, users and contexts");
    if (const auto kind = text(root, "kind"); !kind.empty() && kind != "Config")
      return at(root["kind"], "is no kubeconfig: its kind is " + manifest::quoted(kind));
    const auto name = text(root, "current-context");
    if (name.empty()) fail(root, "has no current-context");
    const Value context = named(root, "contexts", "context", name);
    const auto cluster_name = text(context, "cluster");
    if (cluster_name.empty())
      fail(context, "context " + manifest::quoted(name) + " names no cluster");
    const auto user_name = text(context, "user");
    if (user_name.empty()) fail(context, "context " + manifest::quoted(name) + " names no user");
    const Value cluster = named(root, "clusters", "cluster", cluster_name);
    read_cluster(cluster, "cluster " + manifest::quoted(cluster_name));
    read_user(named(root, "users", "user", user_name), "user " + manifest::quoted(user_name),
              cluster);
    if (!status_.ok()) return status_;
    return std::move(access_);
  }

  absl::Status at(Value where, const std::string& what) const { return at(where.line(), what); }
  absl::Status at(int line, const std::string& what) const {
    const std::string place = line > 0 ? " line " + std::to_string(line) : "";
    return absl::InvalidArgumentError("kubeconfig " + path_ + place + ": " + what);
  }

 private:
  void fail(Value where, const std::string& what) {
    if (status_.ok()) status_ = at(where, what);
  }

  std::string text_of(Value value, std::string_view name) {
    if (!value.present()) return {};
    if (value.type() == Type::kString) return std::string(value.text());
    const bool scalar = value.type() == Type::kNumber || value.type() == Type::kBool;
    fail(value, std::string(name) + " must be a string, not " + manifest::to_text(value.type()) +
                    (scalar ? ": put it in quotes" : ""));
    return {};
  }
  std::string text(Value object, std::string_view name) { return text_of(object[name], name); }

  bool truth(Value object, std::string_view name) {
    const Value value = object[name];
    if (value.present() && value.type() != Type::kBool)
      fail(value, std::string(name) + " must be true or false");
    return value.type() == Type::kBool && value.text() == "true";
  }

  void refuse(Value object, const std::string& who, std::string_view name) {
    const Value value = object[name];
    const bool set = value.type() == Type::kString ? !value.text().empty() : value.present();
    if (set) fail(value, who + " has " + std::string(name) + ", which weft does not support");
  }

  // contexts: [{name: NAME, context: {...}}], and so on.
  Value named(Value root, std::string_view list, std::string_view field, const std::string& name) {
    if (!status_.ok()) return {};
    if (root[list].present() && root[list].type() != Type::kSequence)
      fail(root[list], std::string(list) + " must be a list");
    Value found;
    int count = 0;
    for (const Value entry : root[list]) {
      if (text(entry, "name") != name) continue;
      if (++count > 1)
        fail(entry,
             "there is a second " + std::string(field) + " of the name " + manifest::quoted(name));
      found = entry[field];
    }
    if (count == 0)
      fail(root[list],
           "there is no " + std::string(field) + " of the name " + manifest::quoted(name));
    if (found.present() && found.type() != Type::kMapping)
      fail(found, std::string(field) + " " + manifest::quoted(name) + " must be a mapping");
    return status_.ok() ? found : Value();
  }

  std::string path_of(const std::string& file) const {
    return file.empty() ? file : (directory_ / file).string();  // an absolute one stays
  }

  std::string contents(Value where, const std::string& what, const std::string& file) {
    auto reading = read_small_file(file);
    if (reading.ok()) return std::move(reading->text);
    fail(where, what + " " + base::message_of(reading.status()));
    return {};
  }

  // NAME-data in base64, or the file NAME.
  void material(Value object, const std::string& name, Material kind, std::string& pem,
                std::string& file) {
    const auto data = text(object, name + "-data");
    file = path_of(text(object, name));
    const Value where = object[data.empty() ? name : name + "-data"];
    if (!data.empty() && !file.empty())
      fail(where, "both " + name + " and " + name + "-data are there: keep one");
    if (!data.empty() && !absl::Base64Unescape(base::to_absl(data), &pem))
      fail(where, name + "-data is not base64");
    if (!file.empty() && status_.ok()) pem = contents(where, name, file);
    if (pem.empty() && data.empty() && file.empty()) return;
    if (const auto status = check_pem(pem, kind); !status.ok())
      fail(where,
           (file.empty() ? name + "-data" : name + " " + file) + " " + base::message_of(status));
  }

  void read_cluster(Value cluster, const std::string& who) {
    refuse(cluster, who, "proxy-url");
    const auto server = text(cluster, "server");
    if (server.empty()) fail(cluster, who + " has no server");
    if (const auto why = set_server(server, access_); !why.empty())
      fail(cluster["server"], who + ": its server " + why);
    access_.server_name = text(cluster, "tls-server-name");
    if (!access_.server_name.empty() && !is_host_name(access_.server_name) &&
        !is_ipv6(access_.server_name))
      fail(cluster["tls-server-name"], who + ": tls-server-name is not a host name");
    access_.insecure = truth(cluster, "insecure-skip-tls-verify");
    material(cluster, "certificate-authority", Material::kCertificate, access_.ca_pem,
             access_.ca_file);
    if (access_.insecure && !access_.ca_pem.empty())
      fail(cluster["insecure-skip-tls-verify"],
           who + " has insecure-skip-tls-verify and a certificate-authority: keep one");
  }

  void read_user(Value user, const std::string& who, Value cluster) {
    for (const auto name : {"as", "as-uid", "as-groups", "as-user-extra", "auth-provider"})
      refuse(user, who, name);
    read_token(user, who);
    access_.basic_user = text(user, "username");
    access_.basic_password = text(user, "password");
    if (access_.basic_user.find(':') != std::string::npos)
      fail(user["username"], who + ": a username cannot hold a colon");
    const bool basic = !access_.basic_user.empty() || !access_.basic_password.empty();
    if (basic && !access_.token.empty())
      fail(user, who + " has both a token and a password: keep one");
    material(user, "client-certificate", Material::kCertificate, access_.client_cert_pem,
             access_.client_cert_file);
    material(user, "client-key", Material::kPrivateKey, access_.client_key_pem,
             access_.client_key_file);
    if (access_.client_cert_pem.empty() != access_.client_key_pem.empty())
      fail(user,
           who + (access_.client_key_pem.empty() ? " has a client-certificate, no client-key"
                                                 : " has a client-key, no client-certificate"));
    // As in client-go: what the user has of its own comes first, the plugin is not run.
    if (!basic && access_.token.empty() && access_.client_cert_pem.empty())
      read_exec(user["exec"], who, cluster);
  }

  void read_token(Value user, const std::string& who) {
    const auto given = text(user, "token");
    if (!given.empty()) set_token(user["token"], who + ": its token", given);
    access_.token_file = path_of(text(user, "tokenFile"));
    if (access_.token_file.empty() || !status_.ok()) return;
    const auto reading = read_small_file(access_.token_file);
    // With a token beside it a file may come later: credentials.h goes on asking.
    if (!reading.ok() && !given.empty()) return;
    if (!reading.ok())
      return fail(user["tokenFile"], who + ": tokenFile " + base::message_of(reading.status()));
    set_token(user["tokenFile"], who + ": tokenFile " + access_.token_file, reading->text);
  }

  void set_token(Value where, const std::string& what, const std::string& given) {
    auto token = clean_token(given);
    if (!token.ok()) return fail(where, what + " " + base::message_of(token.status()));
    access_.token = *std::move(token);
  }

  void read_exec(Value exec, const std::string& who, Value cluster) {
    if (!exec.present()) return;
    if (exec.type() != Type::kMapping) return fail(exec, who + ": exec must be a mapping");
    ExecPlugin plugin;
    plugin.command = text(exec, "command");
    if (plugin.command.empty()) fail(exec, who + ": exec has no command");
    // A bare word is looked up in PATH.
    if (plugin.command.find('/') != std::string::npos) plugin.command = path_of(plugin.command);
    plugin.api_version = text(exec, "apiVersion");
    if (plugin.api_version != std::string(kExecGroup) + "v1" &&
        plugin.api_version != std::string(kExecGroup) + "v1beta1")
      fail(exec["apiVersion"].present() ? exec["apiVersion"] : exec,
           who + ": exec must have the apiVersion " + kExecGroup + "v1 or " + kExecGroup +
               "v1beta1");
    if (text(exec, "interactiveMode") == "Always")
      fail(exec["interactiveMode"],
           who + ": exec has interactiveMode Always, but an agent has no terminal");
    read_command_line(exec, who, plugin);
    if (truth(exec, "provideClusterInfo")) plugin.cluster_json = describe(cluster);
    access_.exec = std::move(plugin);
  }

  void read_command_line(Value exec, const std::string& who, ExecPlugin& plugin) {
    for (const auto name : {"args", "env"})
      if (exec[name].present() && exec[name].type() != Type::kSequence)
        fail(exec[name], who + ": exec's " + name + " must be a list");
    for (const Value argument : exec["args"])
      plugin.args.push_back(text_of(argument, "an item of args"));
    for (const Value variable : exec["env"]) {
      auto name = text(variable, "name");
      if (name.empty() || name.find('=') != std::string::npos)
        fail(variable, who + ": exec's env has an item without a usable name");
      plugin.env.emplace_back(std::move(name), text(variable, "value"));
    }
  }

  // The Cluster of ExecCredential's spec: a kubeconfig's fields, the authorities always as data.
  std::string describe(Value cluster) {
    nlohmann::json json = {{"server", text(cluster, "server")}, {"config", nullptr}};
    if (!access_.server_name.empty()) json["tls-server-name"] = access_.server_name;
    if (access_.insecure) json["insecure-skip-tls-verify"] = true;
    if (!access_.ca_pem.empty())
      json["certificate-authority-data"] = absl::Base64Escape(base::to_absl(access_.ca_pem));
    for (const Value entry : cluster["extensions"])
      if (entry["name"].text() == kExecExtension) json["config"] = to_json(entry["extension"]);
    return to_text(json);
  }

  const std::string& path_;
  const std::filesystem::path directory_;
  Access access_;
  absl::Status status_;
};

}  // namespace

bool FileState::proves_unchanged(const struct stat& info) const {
  return settled && device == info.st_dev && inode == info.st_ino && size == info.st_size &&
         nanoseconds(modified) == nanoseconds(info.st_mtim);
}

absl::StatusOr<FileText> read_small_file(const std::string& path) {
  // O_NONBLOCK: a FIFO must not hold us up before it is seen to be one.
  const base::Fd fd(open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  struct stat info;
  if (!fd || fstat(fd.get(), &info)) return unreadable(path, errno);
  if (!S_ISREG(info.st_mode)) return absl::InvalidArgumentError(path + ": is not a file");
  FileText file{state_of(info), {}};
  char buffer[16384];
  while (true) {
    const ssize_t got = ::read(fd.get(), buffer, sizeof buffer);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return unreadable(path, errno);
    if (got == 0) return file;
    file.text.append(buffer, static_cast<std::size_t>(got));
    if (file.text.size() > kMaxFileBytes)
      return absl::InvalidArgumentError(path + ": is over 8 MB");
  }
}

absl::Status check_pem(std::string_view text, Material material) {
  if (text.find_first_not_of(" \t\r\n") == std::string_view::npos)
    return absl::InvalidArgumentError("is empty");
  const bool key = material == Material::kPrivateKey;
  const std::string_view begin = key ? "PRIVATE KEY-----" : "-----BEGIN CERTIFICATE-----";
  const std::string_view end = key ? "PRIVATE KEY-----" : "-----END CERTIFICATE-----";
  const auto first = text.find(begin);
  if (first == std::string_view::npos)
    return absl::InvalidArgumentError(std::string("holds no ") +
                                      (key ? "private key" : "certificate") + " in PEM");
  // The last block counts: a file that is being written breaks off in it.
  const auto last_begin = text.rfind("-----BEGIN ");
  if (last_begin == std::string_view::npos || text.find("-----END ", last_begin) == text.npos ||
      text.find(end, first + begin.size()) == std::string_view::npos)
    return absl::InvalidArgumentError("breaks off before the end of its PEM");
  // A TLS library would ask a terminal.
  if (key && (text.find("BEGIN ENCRYPTED") != text.npos ||
              text.find("Proc-Type: 4,ENCRYPTED") != text.npos))
    return absl::InvalidArgumentError(
        "is encrypted, and an agent cannot be asked for the pass phrase");
  return absl::OkStatus();
}

absl::StatusOr<std::string> clean_token(std::string_view text) {
  constexpr std::string_view kSpace = " \t\r\n";
  const auto begin = text.find_first_not_of(kSpace);
  if (begin == std::string_view::npos) return absl::InvalidArgumentError("is empty");
  const auto end = text.find_last_not_of(kSpace) + 1;
  const auto token = text.substr(begin, end - begin);
  const auto is_visible = [](unsigned char c) { return c > 0x20 && c < 0x7f; };
  if (!std::all_of(token.begin(), token.end(), is_visible))
    return absl::InvalidArgumentError("holds a character that cannot be in a token");
  return std::string(token);
}

absl::StatusOr<Access> read_kubeconfig(const std::string& path) {
  const auto file = read_small_file(path);
  if (!file.ok())
    return absl::Status(file.status().code(), "kubeconfig " + base::message_of(file.status()));
  Reader reader(path);
  absl::StatusOr<Access> access = reader.at(Value(), "is empty");
  bool found = false;
  const auto stop = manifest::read_yaml(file->text, [&](const manifest::Document& document) {
    if (!document.root.present() && document.error.empty()) return;
    if (found)
      access = reader.at(document.line, "has a second document");
    else
      access = document.error.empty() ? reader.read(document.root)
                                      : reader.at(document.error_line, document.error);
    found = true;
  });
  if (!stop.error.empty()) return reader.at(stop.line, stop.error);
  return access;
}

absl::StatusOr<Access> in_cluster(const std::string& directory) {
  Access access;
  access.origin = "in-cluster service account";
  const char* const host = std::getenv("KUBERNETES_SERVICE_HOST");
  const char* const port = std::getenv("KUBERNETES_SERVICE_PORT");
  if (!host || !*host || !port || !*port)
    return absl::FailedPreconditionError(
        access.origin +
        ": KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT are not set, so "
        "this is no pod; outside of one name a kubeconfig: kubernetes:FILE");
  const auto failed = [&](const std::string& why) {
    return absl::InvalidArgumentError(access.origin + ": " + why);
  };
  if (!is_host_name(host) && !is_ipv6(host))
    return failed("KUBERNETES_SERVICE_HOST is neither a name nor an address");
  access.host = host;
  const auto number = base::parse_number<std::uint16_t>(port);
  if (!number || *number == 0)
    return failed("KUBERNETES_SERVICE_PORT is not a number from 1 to 65535");
  access.port = *number;

  access.token_file = directory + "/token";
  const auto token_text = read_small_file(access.token_file);
  if (!token_text.ok())
    return failed(base::message_of(token_text.status()) +
                  "; is automountServiceAccountToken false?");
  auto token = clean_token(token_text->text);
  if (!token.ok()) return failed(access.token_file + " " + base::message_of(token.status()));
  access.token = *std::move(token);

  access.ca_file = directory + "/ca.crt";
  auto authorities = read_small_file(access.ca_file);
  if (!authorities.ok()) return failed(base::message_of(authorities.status()));
  if (const auto status = check_pem(authorities->text, Material::kCertificate); !status.ok())
    return failed(access.ca_file + " " + base::message_of(status));
  access.ca_pem = std::move(authorities->text);
  return access;
}

}  // namespace weft::sources::kubernetes
