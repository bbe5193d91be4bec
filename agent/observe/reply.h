// The frame of an answer on the admin socket, for the files that make answers; nobody else needs
// JSON.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <utility>

#include "agent/observe/admin_protocol.h"

namespace weft::observe {

inline std::string line_of(const nlohmann::json& reply) {
  // Messages quote files, and files hold any bytes: what is not UTF-8 is replaced.
  return reply.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) + "\n";
}

inline std::string ok_reply(nlohmann::json result) {
  return line_of({{"version", kAdminVersion}, {"ok", true}, {"result", std::move(result)}});
}

inline std::string file_of(const model::Origin& origin) { return origin.file ? *origin.file : ""; }

}  // namespace weft::observe
