#include "mesh/manifest/document_builder.h"

#include "mesh/manifest/reader.h"

namespace weft::manifest {
namespace {

constexpr std::size_t kDocumentCost = 16, kDeepCost = 16, kKeyCost = 4;
constexpr std::uint32_t kFewKeys = 16;
constexpr std::size_t kMaxTooDeep = 1000;

}  // namespace

void DocumentBuilder::spend(std::size_t cost) {
  cost_ += cost;
  if (cost_ > kMaxCost) exhausted_ = "has more values than a file may have: split it";
}

void DocumentBuilder::start_document(int line) {
  tree_.clear();
  open_.clear();
  too_deep_ = 0;
  error_.clear();
  error_line_ = 0;
  begun_ = false;
  line_ = line;
  spend(kDocumentCost);
}

void DocumentBuilder::refuse(const std::string& why, int line) {
  if (!error_.empty()) return;
  error_ = why;
  error_line_ = line;
}

std::uint32_t DocumentBuilder::add(Type type, std::string_view text, int line) {
  spend(1);
  if (!begun_) line_ = line;
  begun_ = true;
  if (open_.empty()) return tree_.add(0, 0, tree_.intern({}), type, text, line);
  Open& parent = open_.back();
  value_done();
  parent.last = tree_.add(parent.node, parent.last, parent.key, type, text, line);
  return parent.last;
}

bool DocumentBuilder::open(Type type, int line) {
  const bool is_key = expects_key();
  if (is_key) refuse("has a key that is not a plain word", line);
  if (open_.size() >= kMaxDepth) {
    refuse("nests deeper than " + std::to_string(kMaxDepth) + " levels", line);
    spend(kDeepCost);
    // A parser keeps what is open, so an end must be: none that people write comes near it.
    if (++too_deep_ > kMaxTooDeep) exhausted_ = error_;
    return false;
  }
  Open opened;
  opened.node = add(type, {}, line);
  opened.mapping = opened.expects_key = type == Type::kMapping;
  opened.is_key = is_key;
  opened.key = tree_.intern({});
  open_.push_back(std::move(opened));
  return true;
}

void DocumentBuilder::close() {
  if (too_deep_) {
    if (--too_deep_ == 0) value_done();
    return;
  }
  const bool was_key = open_.back().is_key;
  open_.pop_back();
  if (was_key) open_.back().expects_key = false;
}

// Where a mapping's value was expected, its next key is.
void DocumentBuilder::value_done() {
  if (!open_.empty()) open_.back().expects_key = open_.back().mapping;
}

bool DocumentBuilder::is_twice(Open& mapping, std::uint32_t key) {
  if (mapping.count > kFewKeys) return !mapping.keys.insert(key).second;
  bool twice = false;
  for (auto child = tree_[mapping.node].first; child; child = tree_[child].next) {
    twice |= tree_[child].key == key;
    if (mapping.count == kFewKeys) mapping.keys.insert(tree_[child].key);
  }
  if (mapping.count == kFewKeys) mapping.keys.insert(key);
  return twice;
}

void DocumentBuilder::key(std::string_view text, int line) {
  if (text == "<<") refuse("has a merge key (<<): these are refused; write the values out", line);
  const auto known = tree_.keys();
  const auto key = tree_.intern(text);
  if (tree_.keys() > known) spend(kKeyCost);
  Open& mapping = open_.back();
  if (is_twice(mapping, key)) refuse("has the key " + quoted(text) + " twice", line);
  ++mapping.count;
  mapping.key = key;
  mapping.expects_key = false;
}

void DocumentBuilder::scalar(Type type, std::string_view text, int line) {
  if (!too_deep_) add(type, text, line);
}

}  // namespace weft::manifest
