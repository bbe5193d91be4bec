// What an API server's answers look like on the wire: pages of a list, lines of a watch, Status.
// Pure. Objects are handed on as the bytes they came in; the manifest reader makes sense of them.
#pragma once

#include <absl/status/statusor.h>

#include <functional>
#include <string>
#include <string_view>

namespace weft::sources::kubernetes {

// An object, as far as the watch protocol looks into it. Views end with the call that hands it out.
struct RawObject {
  std::string
      name;  // "NAMESPACE/NAME", "NAME" without a namespace; empty: it has none that is text
  std::string resource_version;
  std::string_view json;
};

struct Page {
  std::string resource_version;
  std::string next;  // the `continue` token; empty: this was the last page
};
// Error: it is no list; objects before the damage have been handed out.
absl::StatusOr<Page> read_page(std::string_view json,
                               const std::function<void(const RawObject&)>& on_object);

// A failure in words of the server: `kind: Status`.
struct ServerStatus {
  int code = 0;
  std::string reason, message;
};
ServerStatus read_status(std::string_view json);  // zeros and empty where it is none

enum class EventType { kAdded, kModified, kDeleted, kBookmark, kError, kUnknown };
struct Event {
  EventType type = EventType::kUnknown;
  RawObject object;
  ServerStatus status;  // of kError
};
// `line` outlives the event.
absl::StatusOr<Event> read_event(std::string_view line);

}  // namespace weft::sources::kubernetes
