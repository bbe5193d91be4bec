// What weftd answers to others: pages over HTTP (metrics, health) and the admin socket, each on a
// thread of its own, from snapshots and the mapped arrays.
#pragma once

#include <memory>

#include "agent/app/admin.h"
#include "agent/app/options.h"
#include "agent/observe/admin_server.h"
#include "agent/observe/exporter.h"
#include "agent/observe/health.h"
#include "agent/observe/http_server.h"
#include "agent/observe/snapshot.h"
#include "mesh/base/fd.h"

namespace weft::app {

class Servers {
 public:
  // References outlive this.
  Servers(const Options& options, const observe::Board& board, const observe::Heartbeat& heartbeat,
          const kernel::Maps& maps);

  // Both listen when it returns. `listener`: of /metrics, from a predecessor; taken where it is
  // there.
  absl::Status start(base::Fd& listener, AdminParts parts);
  int listener() const { return http_->listener(); }

 private:
  const Options& options_;
  const observe::Board& board_;
  const observe::Heartbeat& heartbeat_;
  observe::Exporter exporter_;
  std::unique_ptr<observe::HttpServer> http_;
  std::unique_ptr<observe::AdminServer> admin_;
};

}  // namespace weft::app
