#include "mesh/manifest/tree.h"

#include <cstring>

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

void Tree::clear() {
  nodes_.assign(1, Node{});
  arena_.release();
}

std::string_view Tree::keep(std::string_view text) {
  if (text.empty()) return {};
  char* copy = static_cast<char*>(arena_.allocate(text.size(), 1));
  std::memcpy(copy, text.data(), text.size());
  return {copy, text.size()};
}

std::uint32_t Tree::add(std::uint32_t parent, std::string_view key, Type type, std::string_view text, int line) {
  const auto at = static_cast<std::uint32_t>(nodes_.size());
  nodes_.push_back({key, text, 0, 0, 0, line, type});
  if (parent) {
    Node& above = nodes_[parent];
    if (above.last)
      nodes_[above.last].next = at;
    else
      above.first = at;
    above.last = at;
  }
  return at;
}

bool Tree::has_child(std::uint32_t parent, std::string_view key) const {
  for (std::uint32_t child = nodes_[parent].first; child; child = nodes_[child].next)
    if (nodes_[child].key == key) return true;
  return false;
}

}  // namespace weft::manifest
