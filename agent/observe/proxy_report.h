// What the node's proxies counted, as weftd exposes it: names and labels are the proxy's, and the
// table of families says which of them people were promised.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

namespace weft::observe {

using ProxyLabels = std::vector<std::pair<std::string, std::string>>;

struct ProxySeries {
  std::string name;
  ProxyLabels labels;
  double value = 0;

  bool operator==(const ProxySeries&) const = default;
};

struct ProxyHistogram {
  std::string name;
  ProxyLabels labels;
  std::vector<double> bounds;
  std::vector<std::uint64_t> buckets;  // one more than bounds; each its own, not added up
  double sum = 0;

  bool operator==(const ProxyHistogram&) const = default;
};

struct ProxyReport {
  std::vector<ProxySeries> counters, gauges;
  std::vector<ProxyHistogram> histograms;

  bool operator==(const ProxyReport&) const = default;
};

}  // namespace weft::observe
