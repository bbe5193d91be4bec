#include "agent/app/servers.h"

#include <utility>

namespace weft::app {

using observe::Clock;

Servers::Servers(const Options& options, const observe::Board& board,
                 const observe::Heartbeat& heartbeat, const kernel::Maps& maps)
    : options_(options),
      board_(board),
      heartbeat_(heartbeat),
      exporter_(board, maps, kernel::Pins{options.bpffs}) {}

absl::Status Servers::start(base::Fd& listener, AdminParts parts) {
  observe::HttpOptions http_options;
  http_options.address = options_.metrics;
  http_options.listener = listener.release();
  observe::HttpHandlers pages;
  pages.metrics = [this] { return exporter_.exposition(Clock::now()); };
  pages.unhealthy = [this] { return observe::why_unhealthy(heartbeat_, Clock::now()); };
  pages.not_ready = [this] { return observe::why_not_ready(*board_.read()); };
  auto http = observe::HttpServer::start(http_options, std::move(pages));
  if (!http.ok()) return http.status();
  http_ = *std::move(http);
  observe::AdminOptions admin_options;
  admin_options.run_dir = options_.run_dir;
  auto admin = observe::AdminServer::start(admin_options, board_, admin_handlers(std::move(parts)));
  if (!admin.ok()) return admin.status();
  admin_ = *std::move(admin);
  return absl::OkStatus();
}

}  // namespace weft::app
