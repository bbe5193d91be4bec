// What the kernel maps hold, as a value: the common currency of compile (desired), read-back
// (actual) and diff. No pointer into kernel memory, no file descriptor; equality is what `audit`
// asks for.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "abi/breaker.h"
#include "abi/endpoint.h"
#include "abi/service.h"
#include "mesh/model/mesh.h"

// Values without padding: equal bytes are equal policies.
inline bool operator==(const weft_policy& a, const weft_policy& b) {
  return __builtin_memcmp(&a, &b, sizeof a) == 0;
}

namespace weft::compile {

// One port of a service in one address family: what has a record, an index and an endpoint list.
struct PortKey {
  std::uint16_t port = 0;  // of the service, host order
  model::Protocol protocol = model::Protocol::kTcp;
  model::Family family = model::Family::kIpv4;

  auto operator<=>(const PortKey&) const = default;
};

struct PlacedEndpoint {
  std::uint32_t id = 0;
  model::Address address;
  std::uint16_t port = 0;  // host order
  model::EndpointState state = model::EndpointState::kReady;
  std::uint8_t priority = 0;
  std::uint16_t weight = 1;
  std::uint16_t zone = 0;  // label ids; 0: none
  std::uint32_t node = 0;

  bool operator==(const PlacedEndpoint&) const = default;
};

struct PlacedPort {
  PortKey key;
  std::string name;
  std::uint32_t index = 0;  // into weft_services; stable while the port is in the model
  std::vector<model::Address> frontends;        // sorted; each with key.port and key.protocol
  std::uint32_t selector = WEFT_SELECT_ROTATE;  // without the affinity flag
  std::uint32_t affinity_seconds = 0;           // 0: none, or no slots to serve from
  std::vector<PlacedEndpoint> endpoints;        // sorted by (address, port)
  std::vector<std::uint32_t> slots;             // endpoint ids in slot order; empty: refused
  // Ids that are tried when no slot admits: those of a long table that have few slots, then later
  // priorities.
  std::vector<std::uint32_t> spares;
  weft_policy policy{};           // limits and breaker
  std::uint32_t base = 0;         // of the slot range; 0 and meaningless where slots is empty
  std::uint16_t publication = 0;  // weft_record_generation
  std::uint64_t generation = 0;  // mesh generation that published the range; 0 where slots is empty

  bool operator==(const PlacedPort&) const = default;
  std::uint32_t range_length() const {
    return slots.empty()
               ? 0
               : static_cast<std::uint32_t>(WEFT_SLOT_HEADER + slots.size() + spares.size());
  }
  std::uint64_t record() const {
    return weft_record_make(base, static_cast<std::uint32_t>(slots.size()),
                            selector | (affinity_seconds ? unsigned{WEFT_SELECT_AFFINITY} : 0u),
                            publication);
  }
};

struct PlacedService {
  model::ServiceKey key;
  std::vector<PlacedPort> ports;  // sorted by key

  bool operator==(const PlacedService&) const = default;
  std::size_t endpoint_count() const;
};

struct MapState {
  model::BucketTable<PlacedService> services;
  // Zone and node names by id. Shared: a change of one endpoint does not copy thousands of node
  // names.
  std::shared_ptr<const std::map<std::uint32_t, std::string>> labels;  // never null
  std::uint64_t generation = 0;
  std::size_t endpoint_count = 0;  // of all services; kept by set()

  MapState();
  // Null erases.
  void set(const model::ServiceKey& key, std::shared_ptr<const PlacedService> service);
};

// ABI values of the parts; the one place that knows both sides.
weft_addr to_abi(const model::Address& address);
model::Address from_abi(const weft_addr& address);
weft_frontend_key frontend_key(const model::Address& address, const PortKey& port);
weft_endpoint to_abi(const PlacedEndpoint& endpoint, std::uint32_t service_index);
weft_service_info info_of(const model::ServiceKey& service, const PlacedPort& port);
// Words of the port's slot range, header first.
std::vector<std::uint64_t> range_words(const PlacedPort& port);

// Canonical text, one line an entry, for golden tests and `audit`'s differences.
std::string to_text(const MapState& state);
std::string to_text(const PlacedService& service);

}  // namespace weft::compile
