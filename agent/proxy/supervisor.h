// Keeps a proxy running: starts it, starts it again when it dies or stalls, replaces it without a
// gap when asked or when its binary is another one.
//
// What stays open when a generation goes is the supervisor's owner's: the listening sockets and
// maps are his, every generation gets copies. So connections that arrive while nobody accepts wait
// for the next one, and those that come once `up(false)` was called follow the proxy-down rule.
#pragma once

#include <absl/status/status.h>

#include <functional>
#include <list>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "agent/proxy/generation.h"

namespace weft::proxy {

struct Program {
  std::vector<std::string> argv;  // "--generation N" is added for a weft-proxy
  std::vector<std::string> environment;
  bool external = false;  // a third party's: no channel, serving once it runs, ended by SIGTERM
  uid_t user = 65534;
  std::string cgroup;  // cgroup v2 directory that is there
};

class Supervisor {
 public:
  static constexpr std::uint32_t kColumns = 4;  // WEFT_PROXY_GENERATIONS: may live at once

  // All on the io_context's thread.
  struct Hooks {
    // Descriptors from 4 up for a new generation (3 is the channel); of an external one from 3 up,
    // and its environment's share. Theirs until it is started.
    struct Gifts {
      std::vector<base::Fd> descriptors;
      std::vector<std::string> environment;
    };
    std::function<absl::StatusOr<Gifts>(std::uint32_t number)> gifts;
    // It runs: tell it everything there is, and serve_after() what.
    std::function<void(Generation&)> welcome;
    // Which one serves, or null; called on changes only, begins as none.
    std::function<void(const Generation*)> up;
    std::function<void(std::uint32_t column)> clear;  // its generation is no more
    std::function<void(Generation&, const weft::v1::FromProxy&)> said;
    std::function<void()> changed;  // anything that status shows
  };

  Supervisor(boost::asio::io_context& io, Program program, const Timing& timing, Hooks hooks);
  Supervisor(const Supervisor&) = delete;
  Supervisor& operator=(const Supervisor&) = delete;

  // What earlier weftds have left in the cgroup goes on until the first generation serves.
  void start();
  // A new generation beside the one that serves, which drains when the new one serves.
  void reload(const std::string& why);
  void reload_if_changed();  // the program's file is another one than was started
  void drain_all();          // no new one is started, either: --proxy off

  // All that live, the oldest first.
  const std::list<std::unique_ptr<Generation>>& generations() const { return generations_; }
  // The one that serves; null where none does.
  const Generation* serving() const;
  const std::string& error() const { return error_; }  // why the last one could not be started
  std::uint64_t restarts() const { return restarts_; }
  std::uint64_t cut() const { return cut_; }  // connections that draining ones ended with

 private:
  void adopt_what_is_left();
  void start_generation();
  absl::Status try_to_start();
  std::uint32_t next_number();
  void need_a_column();
  Launch launch_of(std::uint32_t number, const Hooks::Gifts& gifts, int channel) const;
  void on_serving(Generation& generation);
  void on_ended(Generation& generation, const std::string& how);
  void start_again();
  void note_up();
  Generation::Events events();

  boost::asio::io_context& io_;
  Program program_;
  const Timing timing_;
  Hooks hooks_;
  std::list<std::unique_ptr<Generation>> generations_;
  std::uint32_t last_number_ = 0;
  std::optional<std::uint32_t> up_;  // the number of the one that was told to serve
  bool stopped_ = false;
  bool crowded_ = false;  // waits for a column
  bool starting_again_ = false;
  std::chrono::milliseconds delay_{0};
  std::string error_, started_file_;
  std::uint64_t restarts_ = 0, cut_ = 0;
  boost::asio::steady_timer restart_timer_;
  std::shared_ptr<int> alive_ = std::make_shared<int>();
};

}  // namespace weft::proxy
