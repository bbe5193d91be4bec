// One document as a small tree: what the YAML and the JSON reader build and every kind decodes from. Flat
// and transient: 100,000 endpoints are a million nodes for a tenth of a second.
#pragma once

#include <cstdint>
#include <memory_resource>
#include <string>
#include <string_view>
#include <vector>

namespace weft::manifest {

enum class Type : std::uint8_t { kNull, kBool, kNumber, kString, kSequence, kMapping };
const char* to_text(Type type);  // "a string", "a list", ...: for messages

struct Node {
  std::string_view key;   // in a mapping
  std::string_view text;  // of scalars; lives in the tree
  std::uint32_t first = 0, last = 0, next = 0;  // children and sibling; 0: none
  std::int32_t line = 0;  // 1-based
  Type type = Type::kNull;
};

class Tree {
 public:
  Tree() { clear(); }
  Tree(const Tree&) = delete;
  Tree& operator=(const Tree&) = delete;

  void clear();
  // The new node's number. Parent 0 makes it the root.
  std::uint32_t add(std::uint32_t parent, std::string_view key, Type type, std::string_view text, int line);
  std::string_view keep(std::string_view text);  // a copy that lives as long as the tree
  bool has_child(std::uint32_t parent, std::string_view key) const;

  const Node& operator[](std::uint32_t at) const { return nodes_[at]; }
  bool empty() const { return nodes_.size() < 2; }

 private:
  std::vector<Node> nodes_;  // [0] is nobody, [1] the root
  std::pmr::monotonic_buffer_resource arena_;
};

// A place in a tree, or nowhere. Cheap to copy; the tree outlives it.
class Value {
 public:
  Value() = default;
  Value(const Tree& tree, std::uint32_t at) : tree_(&tree), at_(at) {}
  static Value root(const Tree& tree) { return tree.empty() ? Value() : Value(tree, 1); }

  // Nowhere is null: an absent field and `field: null` mean the same to Kubernetes.
  bool present() const { return at_ && node().type != Type::kNull; }
  Type type() const { return at_ ? node().type : Type::kNull; }
  int line() const { return at_ ? node().line : 0; }
  std::string_view text() const { return at_ ? node().text : std::string_view(); }
  std::string_view key() const { return at_ ? node().key : std::string_view(); }

  Value operator[](std::string_view key) const {
    for (Value child = first(); child.at_; child = child.sibling())
      if (child.key() == key) return child;
    return {};
  }

  class Iterator;
  Iterator begin() const;
  Iterator end() const;

 private:
  const Node& node() const { return (*tree_)[at_]; }
  Value first() const { return at_ && node().first ? Value(*tree_, node().first) : Value(); }
  Value sibling() const { return node().next ? Value(*tree_, node().next) : Value(); }

  const Tree* tree_ = nullptr;
  std::uint32_t at_ = 0;
};

class Value::Iterator {
 public:
  explicit Iterator(Value value) : value_(value) {}
  Value operator*() const { return value_; }
  Iterator& operator++() {
    value_ = value_.sibling();
    return *this;
  }
  bool operator!=(const Iterator& other) const { return value_.at_ != other.value_.at_; }

 private:
  Value value_;
};

inline Value::Iterator Value::begin() const { return Iterator(first()); }
inline Value::Iterator Value::end() const { return Iterator(Value()); }

}  // namespace weft::manifest
