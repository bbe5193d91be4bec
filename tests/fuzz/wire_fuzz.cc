// Any bytes as what a proxy reads from its socket: cut into pieces, put together, parsed, checked.
// The first byte is the size of the pieces. A message is tried as HttpRoutes, as Service and as
// Cluster; what from_wire() takes must come back the same, and its rules are compiled and matched.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <string_view>
#include <vector>

#include <google/protobuf/stubs/logging.h>

#include "mesh/wire/frame.h"
#include "mesh/wire/http.h"
#include "mesh/wire/service.h"
#include "userspace_proxy/routes/table.h"

namespace {

using namespace weft;

void require(bool holds, const char* what) {
  if (holds) return;
  std::fprintf(stderr, "does not hold: %s\n", what);
  std::abort();
}

std::vector<std::string> messages_of(std::string_view bytes, std::size_t piece) {
  wire::FrameReader reader;
  std::vector<std::string> messages;
  for (std::size_t at = 0; at < bytes.size(); at += piece) {
    reader.append(bytes.substr(at, piece));
    for (;;) {
      const auto message = reader.next();
      if (!message.ok()) return messages;
      if (!*message) break;
      messages.emplace_back(**message);
    }
    require(reader.missing() > 0, "without a whole message some bytes are missing");
  }
  return messages;
}

void check_action(const routes::Table& table, routes::Match match) {
  const auto& rule = table.routes().rules[match.rule];
  const auto edited = [&](const std::optional<model::PathEdit>& edit) {
    if (edit)
      require(table.edited_path(*edit, match, "/a").starts_with('/'), "a path begins with a slash");
  };
  if (const auto* redirect = std::get_if<model::Redirect>(&rule.action)) edited(redirect->path);
  const auto* forward = std::get_if<model::Forward>(&rule.action);
  if (!forward) return;
  edited(forward->path);
  const auto chosen = routes::Table::destination(*forward, 12345);
  if (chosen == routes::kNone) return;
  edited(forward->destinations[chosen].path);
  require(forward->destinations[chosen].cluster < table.routes().clusters.size(),
          "a destination is there");
}

void check_routes(const model::HttpRoutes& taken) {
  const auto table = routes::Table::compile(taken);
  if (!table.ok()) return;
  http::Fields fields;
  fields.add("x-user", "a", http::Known::kOther);
  const auto match = (*table)->match({"GET", "web", "/a", "v=1", &fields, nullptr});
  if (match.rule != routes::kNone) check_action(**table, match);
}

template <class Message>
auto there_and_back(const std::string& bytes) {
  Message message;
  using Value = std::decay_t<decltype(*wire::from_wire(message))>;
  std::optional<Value> taken;
  if (!message.ParseFromString(bytes)) return taken;
  auto read = wire::from_wire(message);
  if (!read.ok()) {
    require(!read.status().message().empty(), "a refusal says why");
    return taken;
  }
  const auto again = wire::from_wire(wire::to_wire(*read));
  require(again.ok() && *again == *read, "what was taken comes back the same");
  taken = *std::move(read);
  return taken;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  // A line on stderr for every broken text would be most of what a run does.
  [[maybe_unused]] static const auto before = google::protobuf::SetLogHandler(nullptr);
  if (size == 0) return 0;
  const std::string_view bytes(reinterpret_cast<const char*>(data) + 1, size - 1);
  const auto messages = messages_of(bytes, std::max<std::size_t>(data[0], 1));
  require(messages == messages_of(bytes, std::max<std::size_t>(bytes.size(), 1)),
          "messages do not depend on how they were cut");
  for (const auto& message : messages) {
    if (const auto taken = there_and_back<v1::HttpRoutes>(message)) check_routes(*taken);
    there_and_back<v1::Service>(message);
    there_and_back<v1::Cluster>(message);
  }
  return 0;
}
