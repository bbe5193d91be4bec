// One document as a small tree: what the YAML and the JSON reader build and every kind decodes
// from. Flat and transient: a slice of 100,000 endpoints is over a million nodes for half a second.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace weft::manifest {

enum class Type : std::uint8_t { kNull, kBool, kNumber, kString, kSequence, kMapping };
const char* to_text(Type type);  // "a string", "a list", ...: for messages

class Tree {
 public:
  Tree();
  ~Tree();
  struct Node {
    std::uint32_t key;                   // in a mapping; see intern()
    std::uint32_t text_begin, text_end;  // of scalars
    std::uint32_t first, next;           // child and sibling; 0: none
    std::uint32_t line : 29;             // 1-based
    std::uint32_t type : 3;
  };
  static_assert(sizeof(Node) == 24);

  void clear();  // keys stay: the documents of a file have the same ones
  // The new node's number. The first is the root, its parent 0; `before` is the sibling that was
  // added last, 0 for the first child.
  std::uint32_t add(std::uint32_t parent, std::uint32_t before, std::uint32_t key, Type type,
                    std::string_view text, int line);
  // The same number for the same key.
  std::uint32_t intern(std::string_view key);

  const Node& operator[](std::uint32_t at) const { return chunks_[at / kChunk][at % kChunk]; }
  std::string_view key_text(std::uint32_t key) const { return keys_[key]; }
  std::string_view text(const Node& node) const {
    return std::string_view(texts_).substr(node.text_begin, node.text_end - node.text_begin);
  }
  bool empty() const { return size_ < 2; }
  std::size_t keys() const { return keys_.size(); }

 private:
  static constexpr std::size_t kChunk = 512;  // small: most files are one small object

  Node& at(std::uint32_t at) { return chunks_[at / kChunk][at % kChunk]; }

  std::vector<std::unique_ptr<Node[]>> chunks_;
  std::size_t size_ = 1;  // node 0 is nobody, 1 the root
  std::string texts_;
  std::vector<std::string_view> keys_;
  struct KeyTable;
  std::unique_ptr<KeyTable> key_table_;
};

// A place in a tree, or nowhere. Cheap to copy; the tree outlives it.
class Value {
 public:
  Value() = default;
  Value(const Tree& tree, std::uint32_t at) : tree_(&tree), at_(at) {}
  static Value root(const Tree& tree) { return tree.empty() ? Value() : Value(tree, 1); }

  // Nowhere is null: an absent field and `field: null` mean the same to Kubernetes.
  bool present() const { return type() != Type::kNull; }
  Type type() const { return at_ ? static_cast<Type>(node().type) : Type::kNull; }
  int line() const { return at_ ? static_cast<int>(node().line) : 0; }
  std::string_view text() const { return at_ ? tree_->text(node()) : std::string_view(); }
  std::string_view key() const { return at_ ? tree_->key_text(node().key) : std::string_view(); }

  Value operator[](std::string_view key) const {
    for (Value child = first(); child.at_; child = child.sibling())
      if (child.key() == key) return child;
    return {};
  }

  class Iterator;
  Iterator begin() const;
  Iterator end() const;

 private:
  const Tree::Node& node() const { return (*tree_)[at_]; }
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
