// Asks the running agent through its admin socket (agent/observe/admin_protocol.h is the language).
#pragma once

#include <absl/status/statusor.h>

#include <nlohmann/json.hpp>
#include <string>

namespace weft::cli {

// The answer's "result". Unavailable: no agent listens there. Other errors are the agent's own
// words.
absl::StatusOr<nlohmann::ordered_json> ask_agent(const std::string& run_dir,
                                                 const std::string& command,
                                                 const std::string& service = "");

// The same with further fields: {"command":"breaker","action":"open",...}.
absl::StatusOr<nlohmann::ordered_json> send_request(const std::string& run_dir,
                                                    nlohmann::ordered_json request);

}  // namespace weft::cli
