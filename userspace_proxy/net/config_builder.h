// Messages of weftd -> Config. Keeps what it was told, so that a message names only what changed;
// what did not change keeps its pointer. Of the control thread.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <tuple>
#include <vector>

#include "mesh/wire/service.h"
#include "userspace_proxy/net/config.h"
#include "userspace_proxy/net/kernel_tables.h"

namespace weft::net {

class ConfigBuilder {
 public:
  // `column`: of weft_endpoint_state::requests, this process's. Without tables every endpoint has
  // words of its own.
  ConfigBuilder(std::optional<KernelTables> tables, std::uint32_t column)
      : tables_(std::move(tables)), column_(column) {}

  // What cannot be used is named in `rejected`, and what was there of it before stays.
  ConfigPtr apply(const weft::v1::Config& message, std::vector<std::string>& rejected);

 private:
  using EndpointKey =
      std::tuple<std::string, model::Address, std::uint16_t>;  // cluster without subset

  absl::StatusOr<ServicePtr> read(const weft::v1::Service& message);
  absl::StatusOr<ClusterPtr> read(const weft::v1::Cluster& message);
  SharesPtr shares_of(const std::string& cluster, const wire::Endpoint& endpoint,
                      const weft_policy& own_policy, std::uint32_t service);
  std::shared_ptr<ClusterCounts> counts_of(const std::string& cluster);

  std::shared_ptr<const model::Workload> known(const model::WorkloadRef& workload);

  const std::optional<KernelTables> tables_;
  const std::uint32_t column_;
  std::map<std::string, ServicePtr> services_;  // "ns/name:port"
  std::map<std::string, ClusterPtr> clusters_;
  std::map<std::string, std::shared_ptr<const model::HttpCluster>> names_;
  std::map<std::string, std::weak_ptr<ClusterCounts>> counts_;
  std::map<const weft_service_state*, std::weak_ptr<std::atomic<std::uint32_t>>> waiting_;
  std::map<EndpointKey, std::weak_ptr<Shares>> shares_;
  // The same pointer for as long as anybody has it: what is counted is counted by it.
  std::map<model::Workload, std::weak_ptr<const model::Workload>> workloads_;
};

}  // namespace weft::net
