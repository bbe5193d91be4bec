// Named things that change, in the order in which they did, so that any reader can be told what it
// has not heard. A thing stands in the log once, with its last change; what was removed stays as a
// name until it is forgotten.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <utility>

namespace weft::publish {

template <class Value>
class Log {
 public:
  // Null: there is none of that name, or it was removed.
  const Value* find(const std::string& name) const {
    const auto at = things_.find(name);
    return at == things_.end() || !at->second.value ? nullptr : &*at->second.value;
  }

  // `when` is later than any before. `value` is nothing where it is removed.
  void set(const std::string& name, std::uint64_t when, std::optional<Value> value) {
    auto& thing = things_[name];
    order_.erase(thing.changed);
    order_.emplace(when, name);
    thing = {std::move(value), when};
  }

  // visit(name, value) of all that changed after `when`, the oldest change first; null: removed.
  template <class Visit>
  void since(std::uint64_t when, Visit&& visit) const {
    for (auto at = order_.upper_bound(when); at != order_.end(); ++at) {
      const auto& value = things_.at(at->second).value;
      visit(at->second, value ? &*value : nullptr);
    }
  }

  // What was removed up to then: every reader has heard of it.
  void forget_removed(std::uint64_t when) {
    std::erase_if(things_, [&](const auto& entry) {
      const auto& thing = entry.second;
      if (thing.value || thing.changed > when) return false;
      order_.erase(thing.changed);
      return true;
    });
  }

  std::size_t size() const { return things_.size(); }  // removed ones too

 private:
  struct Thing {
    std::optional<Value> value;
    std::uint64_t changed = 0;
  };
  std::map<std::string, Thing> things_;
  std::map<std::uint64_t, std::string> order_;  // by last change
};

}  // namespace weft::publish
