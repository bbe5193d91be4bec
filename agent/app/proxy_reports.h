// What the node's proxies counted, as one: each process counts from nothing, and what those that
// are gone had counted stays in the sums, so that counters never go back while weftd lives.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <set>

#include "agent/observe/proxy_report.h"
#include "agent/proxy/generation.h"

namespace weft::app {

class ProxyReports {
 public:
  // The newest word of a generation; its numbers are sums since its start.
  void take(std::uint32_t generation, const weft::v1::Report& report);
  // All others are no more: their last word stands. Gauges go with who told them.
  void keep(const std::set<std::uint32_t>& living);
  std::shared_ptr<observe::ProxyReport> total() const;

 private:
  std::map<std::uint32_t, observe::ProxyReport> living_;
  observe::ProxyReport gone_;
};

}  // namespace weft::app
