// One resource of an API server, listed and then watched: the client's side of the protocol without
// a socket. Whoever holds the connection asks target() what to GET, feeds what comes back, and is
// told how long to wait before asking again.
//
// Rules (Kubernetes API concepts, "Efficient detection of changes"):
//   - lists come in pages of `limit`, quorum reads each: a list never goes back in time.
//   - a watch begins where the list ended, follows bookmarks, and goes on from the last version
//   seen
//     when its stream ends, however that happens.
//   - 410, as a status or inside a stream, means history is gone: list again. What was known stays
//     in force until the new list is whole; what it lacks is gone then, and what it has with the
//     same bytes is no change.
//   - every failure waits longer than the one before, with jitter, up to 15 s, or as long as
//     Retry-After says.
#pragma once

#include <absl/container/flat_hash_map.h>

#include <chrono>
#include <cstdint>
#include <functional>
#include <optional>
#include <random>
#include <string>
#include <string_view>
#include <vector>

#include "control_plane/sources/kubernetes/answer.h"

namespace weft::sources::kubernetes {

struct Resource {
  std::string group;     // "discovery.k8s.io"; empty: the core group
  std::string version;   // "v1"
  std::string plural;    // "endpointslices"
  std::string kind;      // "EndpointSlice"
  std::string selector;  // "fieldSelector=spec.nodeName%3Dn1", encoded; empty: all objects
  // A custom resource: a cluster that does not have it (404) has none of its objects.
  bool optional = false;
  bool metadata_only = false;  // asked for in the form that has nothing else

  std::string api_version() const { return group.empty() ? version : group + "/" + version; }
  // What its objects say they are, or leave to the list they come in.
  std::string item_kind() const { return metadata_only ? "PartialObjectMetadata" : kind; }
  std::string item_version() const { return metadata_only ? "meta.k8s.io/v1" : api_version(); }
  std::string path() const {
    return (group.empty() ? "/api/" : "/apis/" + group + "/") + version + "/" + plural;
  }
};

inline constexpr std::size_t kMaxAnswerBytes = 64u << 20;  // of a page
inline constexpr std::size_t kMaxEventBytes = 16u << 20;   // etcd takes 1.5 MB an object

class ListWatch {
 public:
  struct Sink {
    // The object of that name has these bytes now.
    std::function<void(const std::string& name, std::string_view json)> object;
    std::function<void(const std::string& name)> gone;
  };
  struct Ending {
    std::chrono::milliseconds delay{};  // before the next request
    std::string error;                  // what went wrong, for people; empty: nothing
    bool unauthorized = false;          // the credentials were refused
  };

  ListWatch(Resource resource, Sink sink, std::uint64_t seed);

  // Path and query of the next request.
  std::string target();
  // What it says it accepts.
  std::string accept() const;
  bool watching() const { return watching_; }

  // The answer's header is here. `retry_after` in seconds where the server said so.
  void begin(int status, std::optional<int> retry_after);
  // Bytes of its body. False: what comes is no good, hang up.
  bool feed(std::string_view bytes);
  // The answer is over: whole, or for that reason (never empty then), after that long.
  Ending end(const std::string& broken, std::chrono::milliseconds lasted);

  // A first whole list was read.
  bool listed() const { return lists_ > 0; }
  // In the middle of an event: it must not take for ever.
  bool mid_event() const { return watching_ && ok() && !body_.empty(); }
  std::uint64_t lists() const { return lists_; }
  std::uint64_t events() const { return events_; }
  std::uint64_t failures() const { return failures_; }
  std::uint64_t nameless() const { return nameless_; }
  std::size_t known() const { return known_.size(); }

 private:
  struct Known {
    std::uint64_t hash = 0;
    std::uint32_t seen = 0;  // number of the list it was in last
  };

  bool ok() const { return status_ == 200; }
  void take(const RawObject& object);
  void take_lines();
  bool take_event(std::string_view line);
  void relist();
  std::string end_list();
  void lose_unseen();
  std::string refusal() const;
  std::chrono::milliseconds backoff();

  Resource resource_;
  Sink sink_;
  std::mt19937_64 random_;

  bool watching_ = false;
  std::string resource_version_;  // the watch goes on from here
  std::string next_page_;
  std::uint32_t list_number_ = 1;
  absl::flat_hash_map<std::string, Known> known_;

  int status_ = 0;
  std::optional<int> retry_after_;
  std::string body_;         // of a page or an error whole; of a watch the line that is incomplete
  std::size_t scanned_ = 0;  // of it, without a line's end
  std::string trouble_;
  bool expired_ = false;   // the server has forgotten that version
  bool progress_ = false;  // this answer brought something
  int failed_in_a_row_ = 0, expired_in_a_row_ = 0;
  std::uint64_t lists_ = 0, events_ = 0, failures_ = 0, nameless_ = 0;
};

}  // namespace weft::sources::kubernetes
