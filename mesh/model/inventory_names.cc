// What names of ServiceEntries mean to rules and routes. Apart from inventory.cc because Services
// have none.
#include "mesh/model/inventory.h"
#include "mesh/model/precedence.h"

namespace weft::model {
namespace {

const Inventory::ById kNone;

template <class Index>
const Inventory::ById& find_in(const Index& index, const ServiceKey& key) {
  const auto at = index.find(key);
  return at == index.end() ? kNone : at->second;
}

}  // namespace

void Inventory::change_names(const ServiceKey& key, const EntryPart& entry, bool present) {
  for (const auto& host : entry.hosts) {
    const auto name = name_key(host, key.namespace_name);
    auto& keys = entries_[name];
    if (present)
      keys.insert(key);
    else
      keys.erase(key);
    if (keys.empty()) entries_.erase(name);
    const auto meant = keys_of(host, key.namespace_name);  // by those who mean a Service, too
    dirty_.insert(meant.begin(), meant.end());
  }
}

// An entry and its names are dirty together: rules and routes stand under either.
void Inventory::mark_named() {
  if (entries_.empty()) return;
  std::vector<ServiceKey> open(dirty_.begin(), dirty_.end());
  const auto mark = [&](const ServiceKey& key) {
    if (dirty_.insert(key).second) open.push_back(key);
  };
  while (!open.empty()) {
    const auto key = std::move(open.back());
    open.pop_back();
    const auto* object = service(key);
    if (object && object->entry)
      for (const auto& host : object->entry->hosts) mark(name_key(host, key.namespace_name));
    if (const auto named = entries_.find(key); named != entries_.end())
      for (const auto& entry : named->second) mark(entry);
  }
}

std::string Inventory::title_of(const ServiceKey& key) const {
  const auto* object = service(key);
  return (object && object->entry ? "ServiceEntry " : "Service ") + key.to_text();
}

// The namespace's own before the oldest.
const ServiceObject* Inventory::entry_named(const std::string& host,
                                            const std::string& namespace_name) const {
  const auto named = entries_.find(name_key(host, namespace_name));
  if (named == entries_.end()) return nullptr;
  const auto rank = [&](const ServiceObject& entry) {
    return std::pair(entry.meta.namespace_name != namespace_name, age_of(entry.meta));
  };
  const ServiceObject* best = nullptr;
  for (const auto& key : named->second) {
    const auto* entry = service(key);
    if (is_exported(entry->entry->export_to, key.namespace_name, namespace_name) &&
        (!best || rank(*entry) < rank(*best)))
      best = entry;
  }
  return best;
}

std::optional<ServiceKey> Inventory::resolve(const std::string& host,
                                             const std::string& namespace_name) const {
  auto key = host_to_key(host, namespace_name);
  if (entries_.empty() || (key && services_.contains(*key))) return key;
  const auto* entry = entry_named(host, namespace_name);
  return entry ? key_of(*entry) : key;
}

bool Inventory::is_host_of(const ServiceKey& key, const std::string& host,
                           const std::string& namespace_name) const {
  if (host_to_key(host, namespace_name) == key) return true;
  const auto named = entries_.find(name_key(host, namespace_name));
  if (named == entries_.end() || !named->second.contains(key)) return false;
  return is_exported(service(key)->entry->export_to, key.namespace_name, namespace_name);
}

// Nearly all services have their own key only. Whom an entry is not exported to has no say in it.
Inventory::ById Inventory::under_all_keys(const Index& index, const ServiceKey& key) const {
  ById found = find_in(index, key);
  const auto* object = entries_.empty() ? nullptr : service(key);
  if (!object || !object->entry) return found;
  for (const auto& host : object->entry->hosts) {
    const auto& named = find_in(index, name_key(host, key.namespace_name));
    found.insert(named.begin(), named.end());
  }
  std::erase_if(found, [&](const auto& by_id) {
    const auto& from = meta_of(*by_id.second).namespace_name;
    return !is_exported(object->entry->export_to, key.namespace_name, from);
  });
  return found;
}

Inventory::ById Inventory::rules_for(const ServiceKey& key) const {
  return under_all_keys(rules_, key);
}

Inventory::ById Inventory::routes_of(const ServiceKey& key) const {
  return under_all_keys(routes_of_, key);
}

Inventory::ById Inventory::routes_to(const ServiceKey& key) const {
  return under_all_keys(routes_to_, key);
}

}  // namespace weft::model
