// What weft has to say about somebody's manifest: where it is, how bad it is, and in which words.
#pragma once

#include <compare>
#include <cstdint>
#include <memory>
#include <string>

namespace weft::model {

struct Origin {
  std::shared_ptr<const std::string> file;  // null: not from a file
  int line = 0;                             // 1-based; 0: the file as a whole

  std::string to_text() const;  // "mesh/web.yaml:12"
  bool operator==(const Origin& other) const { return to_text() == other.to_text(); }
};

enum class Severity : std::uint8_t {
  kInfo,         // passed over on purpose (a Deployment): info log only
  kWarning,      // loaded, but something in it has no effect or is unwise
  kNotEnforced,  // a policy that this build cannot enforce: `check` exits 1, status and a metric
                 // name it
  kRejected,     // the document has no effect; its last good version stays: `check` exits 1
};
const char* to_text(Severity severity);  // "info", "warning", "not_enforced", "rejected"

struct Notice {
  Severity severity = Severity::kInfo;
  Origin origin;
  std::string object;   // "Service shop/web"; empty where it could not be read
  std::string message;  // what, why, what to do

  std::string to_text() const;  // "mesh/web.yaml:12: rejected: Service shop/web: port 70000 ..."
  bool operator==(const Notice&) const = default;
};

}  // namespace weft::model
