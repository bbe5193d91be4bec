// Who wins where several objects claim one thing: the oldest. One rule for all kinds, so that
// nobody has to learn several, and the words that name a winner.
#pragma once

#include <cstdint>
#include <limits>
#include <map>
#include <string>
#include <string_view>
#include <tuple>

#include "mesh/model/mesh.h"
#include "mesh/model/object.h"

namespace weft::model {

// The order of age: creationTimestamp, where nobody stated one newest; then file and line. Views
// into `meta`.
inline auto age_of(const ObjectMeta& meta) {
  return std::tuple(meta.created.value_or(std::numeric_limits<std::int64_t>::max()),
                    meta.origin.file ? std::string_view(*meta.origin.file) : std::string_view(),
                    meta.origin.line);
}

inline ServiceKey key_of(const ObjectMeta& meta) { return {meta.namespace_name, meta.name}; }

// A ServiceEntry is known by its first host.
inline ServiceKey key_of(const ServiceObject& service) {
  return {service.meta.namespace_name,
          service.entry ? service.entry->hosts.front() : service.meta.name};
}

// "Service shop/web", "ServiceEntry data/db": the object, whatever its service is called.
inline std::string title_of(const ServiceObject& service) {
  return (service.entry ? "ServiceEntry " : "Service ") + key_of(service.meta).to_text();
}

// " (mesh/web.yaml:12)", or nothing for an object that no file holds.
inline std::string in_file(const Origin& origin) {
  const auto text = origin.to_text();
  return text.empty() ? text : " (" + text + ")";
}

// Of objects of kind T; of equally old ones the first by id. Null where there is none.
template <class T>
const T* oldest_of(const std::map<std::string, std::shared_ptr<const Object>>& objects) {
  const T* oldest = nullptr;
  for (const auto& [id, object] : objects) {
    const auto& candidate = std::get<T>(*object);
    if (!oldest || age_of(candidate.meta) < age_of(oldest->meta)) oldest = &candidate;
  }
  return oldest;
}

}  // namespace weft::model
