#include "mesh/manifest/tree.h"

#include <absl/container/flat_hash_map.h>

#include <algorithm>
#include <memory_resource>

#include "mesh/base/text.h"

namespace weft::manifest {

const char* to_text(Type type) {
  switch (type) {
    case Type::kNull:
      return "null";
    case Type::kBool:
      return "a boolean";
    case Type::kNumber:
      return "a number";
    case Type::kString:
      return "a string";
    case Type::kSequence:
      return "a list";
    case Type::kMapping:
      break;
  }
  return "a mapping";
}

struct Tree::KeyTable {
  // Seeded hashing: keys are somebody else's bytes.
  absl::flat_hash_map<absl::string_view, std::uint32_t> numbers;
  std::pmr::monotonic_buffer_resource arena;
};

Tree::Tree() : key_table_(std::make_unique<KeyTable>()) {}
Tree::~Tree() = default;

void Tree::clear() {
  size_ = 1;
  texts_.clear();
}

std::uint32_t Tree::intern(std::string_view key) {
  const auto found = key_table_->numbers.find(base::to_absl(key));
  if (found != key_table_->numbers.end()) return found->second;
  char* copy = static_cast<char*>(key_table_->arena.allocate(key.size() + 1, 1));
  std::copy(key.begin(), key.end(), copy);
  keys_.emplace_back(copy, key.size());
  const auto number = static_cast<std::uint32_t>(keys_.size() - 1);
  key_table_->numbers.emplace(base::to_absl(keys_.back()), number);
  return number;
}

std::uint32_t Tree::add(std::uint32_t parent, std::uint32_t before, std::uint32_t key, Type type,
                        std::string_view text, int line) {
  const auto number = static_cast<std::uint32_t>(size_++);
  if (number / kChunk >= chunks_.size())
    chunks_.push_back(std::make_unique_for_overwrite<Node[]>(kChunk));
  const auto begin = static_cast<std::uint32_t>(texts_.size());
  texts_.append(text);
  Node& node = at(number);
  node = {key, begin, static_cast<std::uint32_t>(texts_.size()), 0, 0, 0, 0};
  node.line = static_cast<std::uint32_t>(line) & 0x1fffffff;
  node.type = static_cast<std::uint32_t>(type) & 7;
  if (before)
    at(before).next = number;
  else if (parent)
    at(parent).first = number;
  return number;
}

}  // namespace weft::manifest
