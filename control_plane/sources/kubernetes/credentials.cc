#include "control_plane/sources/kubernetes/credentials.h"

#include <absl/strings/escaping.h>
#include <absl/time/time.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <nlohmann/json.hpp>
#include <utility>
#include <vector>

#include "mesh/base/fd.h"
#include "mesh/base/text.h"
#include "mesh/manifest/text_reader.h"

namespace weft::sources::kubernetes {
namespace {

using namespace std::chrono_literals;
using manifest::cleaned;
using manifest::Type;
using manifest::Value;

constexpr auto kLookInterval = 1s;
constexpr auto kPluginMargin = 1min;
constexpr std::size_t kMaxOutput = 1u << 20;
constexpr std::size_t kKeptErrors = 4096;
constexpr std::size_t kMaxComplaint = 200;

// --- files ---

// Sees a file only where it may be another than the one that was taken last: one that was not taken
// is seen again by every look.
class Candidate {
 public:
  Candidate(const std::string& path, const FileState& seen, bool anyway) : path_(path) {
    struct stat info;
    if (path.empty() || (!anyway && !stat(path.c_str(), &info) && seen.proves_unchanged(info)))
      return;
    looked_ = true;
    file_ = read_small_file(path);
  }

  bool looked() const { return looked_; }
  const absl::StatusOr<FileText>& file() const { return file_; }
  absl::Status wrong(const absl::Status& why) const {
    return absl::InvalidArgumentError(path_ + " " + base::message_of(why));
  }

 private:
  const std::string& path_;
  bool looked_ = false;
  absl::StatusOr<FileText> file_ = FileText();
};

// --- the plugin's process ---

struct Child {
  pid_t pid = -1;
  base::Fd out, err, exit;  // exit: a pidfd
};

class SpawnSettings {
 public:
  SpawnSettings() {
    posix_spawn_file_actions_init(&files_);
    posix_spawnattr_init(&attributes_);
  }
  ~SpawnSettings() {
    posix_spawn_file_actions_destroy(&files_);
    posix_spawnattr_destroy(&attributes_);
  }
  SpawnSettings(const SpawnSettings&) = delete;

  // An own process group, so that what a plugin started ends with it; no signal blocked or ignored
  // as ours are; no descriptor of ours, whoever forgot O_CLOEXEC.
  int prepare(int out, int err) {
    sigset_t none, all;
    sigemptyset(&none);
    sigfillset(&all);
    constexpr short kFlags = POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF;
    for (const int error : {posix_spawnattr_setflags(&attributes_, kFlags),
                            posix_spawnattr_setpgroup(&attributes_, 0),
                            posix_spawnattr_setsigmask(&attributes_, &none),
                            posix_spawnattr_setsigdefault(&attributes_, &all),
                            posix_spawn_file_actions_addopen(&files_, 0, "/dev/null", O_RDONLY, 0),
                            posix_spawn_file_actions_adddup2(&files_, out, 1),
                            posix_spawn_file_actions_adddup2(&files_, err, 2),
                            posix_spawn_file_actions_addclosefrom_np(&files_, 3)})
      if (error) return error;
    return 0;
  }

  const posix_spawn_file_actions_t* files() const { return &files_; }
  const posix_spawnattr_t* attributes() const { return &attributes_; }

 private:
  posix_spawn_file_actions_t files_;
  posix_spawnattr_t attributes_;
};

std::vector<char*> pointers(std::vector<std::string>& texts) {
  std::vector<char*> all;
  for (auto& text : texts) all.push_back(text.data());
  all.push_back(nullptr);
  return all;
}

// Ours, with the plugin's in place of those of the same name.
std::vector<std::string> environment(const ExecPlugin& plugin, const std::string& info) {
  auto added = plugin.env;
  added.emplace_back("KUBERNETES_EXEC_INFO", info);
  std::vector<std::string> all;
  for (char** at = environ; at && *at; ++at) {
    const std::string_view variable(*at);
    const auto same = [&](const auto& pair) {
      return pair.first == variable.substr(0, variable.find('='));
    };
    if (std::none_of(added.begin(), added.end(), same)) all.emplace_back(variable);
  }
  for (std::size_t at = 0; at < added.size(); ++at) {
    const auto same = [&](const auto& pair) { return pair.first == added[at].first; };
    // The last of a name counts.
    if (std::none_of(added.begin() + static_cast<std::ptrdiff_t>(at) + 1, added.end(), same))
      all.push_back(added[at].first + "=" + added[at].second);
  }
  return all;
}

// Blocking at the child's end alone: that is another open file.
int open_pipe(base::Fd& ours, base::Fd& theirs) {
  int ends[2];
  if (pipe2(ends, O_CLOEXEC)) return errno;
  ours = base::Fd(ends[0]);
  theirs = base::Fd(ends[1]);
  return fcntl(ours.get(), F_SETFL, O_NONBLOCK) ? errno : 0;
}

void end_group(pid_t leader) {
  // Not reaped yet, so the number is still theirs.
  kill(-leader, SIGKILL);
}

// 0 or an errno.
int start(const ExecPlugin& plugin, const std::string& info, Child& child) {
  base::Fd out, err;
  if (const int error = open_pipe(child.out, out)) return error;
  if (const int error = open_pipe(child.err, err)) return error;
  SpawnSettings settings;
  if (const int error = settings.prepare(out.get(), err.get())) return error;
  std::vector<std::string> arguments{plugin.command};
  arguments.insert(arguments.end(), plugin.args.begin(), plugin.args.end());
  auto variables = environment(plugin, info);
  if (const int error =
          posix_spawnp(&child.pid, plugin.command.c_str(), settings.files(), settings.attributes(),
                       pointers(arguments).data(), pointers(variables).data()))
    return error;
  child.exit = base::Fd(static_cast<int>(syscall(SYS_pidfd_open, child.pid, 0)));
  if (child.exit) return 0;
  const int error = errno;
  end_group(child.pid);
  waitpid(child.pid, nullptr, 0);
  return error;
}

struct Output {
  std::string out;
  std::string err;      // its end
  int status = 0;       // of waitpid
  std::string stopped;  // why it has no status; empty: it ended by itself
};

// Whether more may come.
bool take(base::Fd& from, std::string& into, std::size_t most) {
  char buffer[16384];
  while (into.size() <= most) {
    const ssize_t got = read(from.get(), buffer, sizeof buffer);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return errno == EAGAIN;
    if (got == 0) return false;
    into.append(buffer, static_cast<std::size_t>(got));
  }
  return true;
}

// Only their end is kept.
void take_errors(Child& child, std::string& into) {
  if (!take(child.err, into, kMaxOutput)) child.err = base::Fd();
  if (into.size() > kKeptErrors) into.erase(0, into.size() - kKeptErrors);
}

// Reads until the process ends, not until its pipes do: a daemon that it left behind may hold them.
Output collect(Child& child, std::chrono::milliseconds limit) {
  using Clock = std::chrono::steady_clock;
  const auto deadline = Clock::now() + limit;
  Output output;
  for (bool ended = false; !ended && output.stopped.empty();) {
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(deadline - Clock::now());
    std::array<pollfd, 3> polled{{{child.out.get(), POLLIN, 0},
                                  {child.err.get(), POLLIN, 0},
                                  {child.exit.get(), POLLIN, 0}}};
    const int ready =
        left > 0ms ? poll(polled.data(), polled.size(), static_cast<int>(left.count())) : 0;
    if (ready < 0 && errno == EINTR) continue;
    if (ready <= 0) {
      output.stopped = "did not end within " + std::to_string(limit.count()) + " ms and was killed";
      break;
    }
    ended = polled[2].revents != 0;
    if (child.out && !take(child.out, output.out, kMaxOutput)) child.out = base::Fd();
    if (child.err) take_errors(child, output.err);
    if (output.out.size() > kMaxOutput) output.stopped = "printed more than 1 MB and was killed";
  }
  if (!output.stopped.empty()) end_group(child.pid);
  while (waitpid(child.pid, &output.status, 0) < 0) {
    if (errno == EINTR) continue;
    if (output.stopped.empty())
      output.stopped =
          "left no status";  // somebody else waits for our children, or ignores SIGCHLD
    break;
  }
  return output;
}

std::string last_line(std::string_view text) {
  const auto end = text.find_last_not_of(" \t\r\n");
  if (end == std::string_view::npos) return "";
  text = text.substr(0, end + 1);
  return ": " + cleaned(text.substr(text.find_last_of("\r\n") + 1), kMaxComplaint);
}

absl::StatusOr<std::string> run(const ExecPlugin& plugin, const std::string& info,
                                std::chrono::milliseconds limit) {
  Child child;
  if (const int error = start(plugin, info, child))
    return absl::UnavailableError(std::string("cannot be started: ") + std::strerror(error));
  const Output output = collect(child, limit);
  if (!output.stopped.empty())
    return absl::UnavailableError(output.stopped + last_line(output.err));
  if (WIFSIGNALED(output.status))
    return absl::UnavailableError("was killed by signal " +
                                  std::to_string(WTERMSIG(output.status)) + last_line(output.err));
  if (WEXITSTATUS(output.status) != 0)
    return absl::UnavailableError(
        "ended with status " + std::to_string(WEXITSTATUS(output.status)) + last_line(output.err));
  return output.out;
}

// --- what it printed ---

struct Given {
  std::string token, certificate_pem, key_pem;
  std::optional<Credentials::Time> expires;
};

// The first thing that is wrong is kept. No message quotes what was printed: it may be a secret.
class AnswerReader {
 public:
  explicit AnswerReader(const std::string& api_version) : api_version_(api_version) {}

  absl::StatusOr<Given> read(Value root) {
    if (root.type() != Type::kMapping || text(root, "kind") != "ExecCredential")
      return absl::InvalidArgumentError("printed no ExecCredential");
    if (const auto version = text(root, "apiVersion"); version != api_version_)
      return absl::InvalidArgumentError("was asked for " + api_version_ + " and answered in " +
                                        manifest::quoted(version));
    const Value status = root["status"];
    if (status.type() != Type::kMapping)
      return absl::InvalidArgumentError("printed an ExecCredential without a status");
    Given given;
    if (auto token = text(status, "token"); !token.empty()) {
      auto clean = clean_token(token);
      check("token", clean.status());
      if (clean.ok()) given.token = *std::move(clean);
    }
    given.certificate_pem = pem(status, "clientCertificateData", Material::kCertificate);
    given.key_pem = pem(status, "clientKeyData", Material::kPrivateKey);
    if (given.certificate_pem.empty() != given.key_pem.empty())
      fail("gave only one of clientCertificateData and clientKeyData");
    if (given.token.empty() && given.key_pem.empty())
      fail("gave neither a token nor a client certificate");
    given.expires = expiry(status);
    if (!status_.ok()) return status_;
    return given;
  }

 private:
  void fail(const std::string& why) {
    if (status_.ok()) status_ = absl::InvalidArgumentError(why);
  }
  void check(const std::string& name, const absl::Status& status) {
    if (!status.ok()) fail("gave a " + name + " that " + base::message_of(status));
  }

  std::string text(Value object, const std::string& name) {
    const Value value = object[name];
    if (value.present() && value.type() != Type::kString)
      fail("gave a " + name + " that is no string");
    return value.type() == Type::kString ? std::string(value.text()) : std::string();
  }

  std::string pem(Value object, const std::string& name, Material material) {
    auto given = text(object, name);
    if (!given.empty()) check(name, check_pem(given, material));
    return given;
  }

  std::optional<Credentials::Time> expiry(Value status) {
    const auto given = text(status, "expirationTimestamp");
    absl::Time time;
    if (given.empty()) return std::nullopt;
    if (!absl::ParseTime(absl::RFC3339_full, base::to_absl(given), &time, nullptr)) {
      fail("gave an expirationTimestamp that is not of RFC 3339");
      return std::nullopt;
    }
    return absl::ToChronoTime(time);
  }

  const std::string& api_version_;
  absl::Status status_;
};

absl::StatusOr<Given> read_answer(const std::string& printed, const std::string& api_version) {
  absl::StatusOr<Given> given = absl::InvalidArgumentError("printed nothing");
  const auto stop = manifest::read_json(printed, [&](const manifest::Document& document) {
    given = document.error.empty()
                ? AnswerReader(api_version).read(document.root)
                : absl::InvalidArgumentError("printed JSON that " + document.error);
  });
  if (!stop.error.empty()) return absl::InvalidArgumentError("printed what is not JSON");
  return given;
}

std::string exec_info(const ExecPlugin& plugin) {
  nlohmann::json spec = {{"interactive", false}};
  if (!plugin.cluster_json.empty())
    spec["cluster"] = nlohmann::json::parse(plugin.cluster_json, nullptr, false);
  return nlohmann::json{
      {"apiVersion", plugin.api_version}, {"kind", "ExecCredential"}, {"spec", spec}}
      .dump();
}

}  // namespace

Credentials::Credentials(Access access, std::chrono::milliseconds plugin_limit)
    : access_(std::move(access)), plugin_limit_(plugin_limit) {}

std::string Credentials::authorization() const {
  if (!access_.token.empty()) return "Bearer " + access_.token;
  if (access_.basic_user.empty() && access_.basic_password.empty()) return "";
  const auto pair = access_.basic_user + ":" + access_.basic_password;
  return "Basic " + absl::Base64Escape(base::to_absl(pair));
}

absl::StatusOr<bool> Credentials::refresh(Time now) {
  // Before `looked_`: the clock was set back.
  if (rejected_ || !looked_ || now >= *looked_ + kLookInterval || now < *looked_) {
    looked_ = now;
    trouble_ = look(now);
    rejected_ = false;
  }
  if (std::exchange(tls_changed_, false)) return true;
  if (!trouble_.ok()) return trouble_;
  return false;
}

// Everything, whatever fails: the first failure is the one that is told.
absl::Status Credentials::look(Time now) {
  absl::Status first;
  first.Update(read_authorities());
  first.Update(read_client_certificate());
  first.Update(read_token());
  first.Update(ask_plugin(now));
  return first;
}

absl::Status Credentials::read_token() {
  const Candidate candidate(access_.token_file, token_seen_, rejected_);
  if (!candidate.looked()) return absl::OkStatus();
  const auto& file = candidate.file();
  if (!file.ok()) return file.status();
  auto token = clean_token(file->text);
  if (!token.ok()) return candidate.wrong(token.status());
  access_.token = *std::move(token);
  token_seen_ = file->state;
  return absl::OkStatus();
}

absl::Status Credentials::read_authorities() {
  const Candidate candidate(access_.ca_file, authorities_seen_, rejected_);
  if (!candidate.looked()) return absl::OkStatus();
  const auto& file = candidate.file();
  if (!file.ok()) return file.status();
  if (auto status = check_pem(file->text, Material::kCertificate); !status.ok())
    return candidate.wrong(status);
  tls_changed_ |= access_.ca_pem != file->text;
  access_.ca_pem = file->text;
  authorities_seen_ = file->state;
  return absl::OkStatus();
}

// Both or neither: a renewal that is half done is looked at again a second later.
absl::Status Credentials::read_client_certificate() {
  const Candidate certificate(access_.client_cert_file, certificate_seen_, rejected_);
  const Candidate key(access_.client_key_file, key_seen_, rejected_);
  if (!certificate.looked() && !key.looked()) return absl::OkStatus();
  for (const auto& [candidate, material] :
       {std::pair(&certificate, Material::kCertificate), std::pair(&key, Material::kPrivateKey)}) {
    if (!candidate->looked()) continue;
    if (!candidate->file().ok()) return candidate->file().status();
    if (auto status = check_pem(candidate->file()->text, material); !status.ok())
      return candidate->wrong(status);
  }
  const auto take = [this](const Candidate& candidate, std::string& pem, FileState& seen) {
    if (!candidate.looked()) return;
    tls_changed_ |= pem != candidate.file()->text;
    pem = candidate.file()->text;
    seen = candidate.file()->state;
  };
  take(certificate, access_.client_cert_pem, certificate_seen_);
  take(key, access_.client_key_pem, key_seen_);
  return absl::OkStatus();
}

absl::Status Credentials::ask_plugin(Time now) {
  if (!access_.exec || (!rejected_ && now < plugin_due_)) return absl::OkStatus();
  const auto failed = [this](const absl::Status& why) {
    return absl::UnavailableError(access_.origin + ": exec plugin " +
                                  manifest::quoted(access_.exec->command) + " " +
                                  base::message_of(why));
  };
  plugin_due_ = Time::min();
  const auto printed = run(*access_.exec, exec_info(*access_.exec), plugin_limit_);
  if (!printed.ok()) return failed(printed.status());
  auto given = read_answer(*printed, access_.exec->api_version);
  if (!given.ok()) return failed(given.status());
  access_.token = std::move(given->token);
  tls_changed_ |=
      access_.client_cert_pem != given->certificate_pem || access_.client_key_pem != given->key_pem;
  access_.client_cert_pem = std::move(given->certificate_pem);
  access_.client_key_pem = std::move(given->key_pem);
  // In force all the same: it may be our clock that is wrong, and nothing better is to be had.
  if (given->expires && *given->expires <= now)
    return failed(absl::UnavailableError(
        "gave a credential that has expired; if it has not, this node's clock is wrong"));
  plugin_due_ = Time::max();
  if (given->expires)
    plugin_due_ =
        *given->expires - std::min<Time::duration>(kPluginMargin, (*given->expires - now) / 2);
  return absl::OkStatus();
}

}  // namespace weft::sources::kubernetes
