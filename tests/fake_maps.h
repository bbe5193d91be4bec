// The kernel's maps, kept in memory: what plans are replayed on where no kernel is wanted. It holds
// ABI values, as the kernel does, and knows nothing of the model that they came from.
#pragma once

#include <arpa/inet.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <map>
#include <random>
#include <span>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "agent/kernel/writer.h"
#include "agent/reconcile/plan.h"

namespace weft::tests {

// A frontend key as its bytes, so that it can be ordered.
using FrontendBytes = std::array<unsigned char, sizeof(weft_frontend_key)>;

inline FrontendBytes bytes_of(const weft_frontend_key& key) {
  FrontendBytes bytes;
  std::memcpy(bytes.data(), &key, sizeof key);
  return bytes;
}

inline std::string text_of(const FrontendBytes& bytes) {
  weft_frontend_key key;
  std::memcpy(&key, bytes.data(), sizeof key);
  return compile::from_abi(key.addr).to_text() + " port " + std::to_string(ntohs(key.port)) + "/" +
         std::to_string(key.proto);
}

class FakeMaps : public kernel::MapSink {
 public:
  absl::Status write(std::span<const reconcile::MapOp> ops) override {
    for (const auto& op : ops) {
      if (failures_left_ && rng_() % 10 == 0) {
        --failures_left_;
        return absl::UnavailableError("made to fail");
      }
      apply(op);
      ++writes_;
    }
    return absl::OkStatus();
  }

  void apply(const reconcile::MapOp& op) {
    std::visit([this](const auto& o) { one(o); }, op);
  }

  // From here on one operation in ten fails, until that many have: a long plan would never get
  // through.
  void make_fail(unsigned failures, std::uint64_t seed) {
    failures_left_ = failures;
    rng_.seed(seed);
  }
  std::size_t writes() const { return writes_; }

  // 0: there is no such frontend.
  std::uint32_t service_at(const FrontendBytes& frontend) const {
    const auto at = frontends_.find(frontend);
    return at == frontends_.end() ? 0 : at->second;
  }
  std::uint64_t record(std::uint32_t index) const { return value_or_0(records_, index); }
  const std::map<FrontendBytes, std::uint32_t>& frontends() const { return frontends_; }
  std::uint64_t generation() const { return generation_; }

  // Whatever breaks the promise that no entry names a missing one; empty is right.
  std::vector<std::string> broken() const {
    std::vector<std::string> found;
    for (const auto& [frontend, index] : frontends_) {
      if (!records_.contains(index))
        found.push_back(text_of(frontend) + ": no record " + number(index));
      if (!infos_.contains(index))
        found.push_back(text_of(frontend) + ": no name of " + number(index));
    }
    for (const auto& [index, word] : records_)
      if (weft_record_count(word)) check_range(index, word, found);
    return found;
  }

  // Everything a reader can get at, as text: two fakes hold the same when their texts are equal.
  // What lies in slots that no record names is nobody's business.
  std::string content() const {
    std::string text = "generation " + number(generation_) + "\n";
    for (const auto& [frontend, index] : frontends_)
      text += "frontend " + text_of(frontend) + " -> " + number(index) + "\n";
    for (const auto& [index, word] : records_) text += record_text(index, word);
    for (const auto& [index, policy] : policies_)
      text += "policy " + number(index) + " " + hex(&policy, sizeof policy) + "\n";
    for (std::size_t id = 0; id < endpoints_.size(); ++id)
      if (endpoints_[id].word)
        text += "endpoint " + number(id) + " " + hex(&endpoints_[id], sizeof endpoints_[id]) + "\n";
    for (const auto& [index, info] : infos_)
      text += "info " + number(index) + " " + info.namespace_name + "/" + info.name + ":" +
              info.port_name + " " + number(ntohs(info.port)) + "/" + number(info.proto) + "/" +
              number(info.family) + "\n";
    for (const auto& [id, label] : labels_) text += "label " + number(id) + " " + label + "\n";
    return text;
  }

 private:
  template <class N>
  static std::string number(N n) {
    return std::to_string(+n);
  }
  static std::string hex(const void* data, std::size_t size) {
    static constexpr char kDigits[] = "0123456789abcdef";
    std::string text;
    for (std::size_t i = 0; i < size; ++i) {
      const auto byte = static_cast<const unsigned char*>(data)[i];
      text += {kDigits[byte >> 4], kDigits[byte & 15]};
    }
    return text;
  }
  template <class Map, class Key>
  static std::uint64_t value_or_0(const Map& map, const Key& key) {
    const auto at = map.find(key);
    return at == map.end() ? 0 : at->second;
  }

  std::uint64_t slot(std::size_t at) const { return at < slots_.size() ? slots_[at] : 0; }

  std::string record_text(std::uint32_t index, std::uint64_t word) const {
    std::string text = "record " + number(index) + " " + hex(&word, sizeof word);
    const std::uint32_t count = weft_record_count(word);
    for (std::uint32_t i = 0; count && i < count + WEFT_SLOT_HEADER; ++i)
      text += " " + number(slot(weft_record_base(word) + i));
    return text + "\n";
  }

  void check_range(std::uint32_t index, std::uint64_t word, std::vector<std::string>& found) const {
    const std::uint32_t base = weft_record_base(word), count = weft_record_count(word);
    for (std::uint32_t i = 0; i < count + WEFT_SLOT_HEADER; ++i) {
      if (i == 1) continue;  // the generation: names no owner
      const std::uint64_t word_at = slot(base + i);
      if (weft_slot_owner(word_at) != index)
        found.push_back("record " + number(index) + ": slot " + number(base + i) + " belongs to " +
                        number(weft_slot_owner(word_at)));
      if (i < WEFT_SLOT_HEADER) continue;
      const std::uint32_t id = weft_slot_low(word_at);
      const std::uint64_t endpoint = id < endpoints_.size() ? endpoints_[id].word : 0;
      if (!(weft_endpoint_flags(endpoint) & WEFT_ENDPOINT_USED) ||
          weft_endpoint_service(endpoint) != index)
        found.push_back("record " + number(index) + ": endpoint " + number(id) + " belongs to " +
                        number(weft_endpoint_service(endpoint)));
    }
  }

  void one(const reconcile::BeginGeneration&) {}
  void one(const reconcile::CommitGeneration& op) { generation_ = op.generation; }
  void one(const reconcile::WriteLabel& op) { labels_[op.id] = op.text; }
  void one(const reconcile::WriteInfo& op) { infos_[op.index] = op.info; }
  void one(const reconcile::WriteEndpoint& op) {
    if (endpoints_.size() <= op.id) endpoints_.resize(op.id + 1);
    endpoints_[op.id] = op.endpoint;
  }
  void one(const reconcile::WriteRange& op) {
    if (slots_.size() < op.base + op.words.size()) slots_.resize(op.base + op.words.size());
    std::copy(op.words.begin(), op.words.end(), slots_.begin() + op.base);
  }
  void one(const reconcile::WritePolicy& op) { policies_[op.index] = op.policy; }
  void one(const reconcile::PublishRecord& op) { records_[op.index] = op.word; }
  void one(const reconcile::UpsertFrontend& op) { frontends_[bytes_of(op.key)] = op.index; }
  void one(const reconcile::EraseFrontend& op) {
    const auto at = frontends_.find(bytes_of(op.key));
    if (at != frontends_.end() && at->second == op.index) frontends_.erase(at);
  }
  void one(const reconcile::ClearEndpoint& op) {
    if (op.id < endpoints_.size()) endpoints_[op.id] = {};
  }
  void one(const reconcile::ClearRecord& op) {
    records_.erase(op.index);
    policies_.erase(op.index);
  }
  void one(const reconcile::EraseInfo& op) { infos_.erase(op.index); }
  void one(const reconcile::EraseLabel& op) { labels_.erase(op.id); }

  std::map<FrontendBytes, std::uint32_t> frontends_;
  std::map<std::uint32_t, std::uint64_t> records_;
  std::map<std::uint32_t, weft_policy> policies_;
  std::vector<std::uint64_t> slots_;
  std::vector<weft_endpoint> endpoints_;  // word 0: free
  std::map<std::uint32_t, weft_service_info> infos_;
  std::map<std::uint32_t, std::string> labels_;
  std::uint64_t generation_ = 0;
  unsigned failures_left_ = 0;
  std::mt19937_64 rng_;
  std::size_t writes_ = 0;
};

// Slot ranges in two pieces: a writer may be killed inside one.
inline std::vector<reconcile::MapOp> in_pieces(const std::vector<reconcile::MapOp>& ops) {
  std::vector<reconcile::MapOp> pieces;
  for (const auto& op : ops) {
    const auto* range = std::get_if<reconcile::WriteRange>(&op);
    if (!range || range->words.size() < 2) {
      pieces.push_back(op);
      continue;
    }
    const auto middle = range->words.begin() + range->words.size() / 2;
    const auto half = static_cast<std::uint32_t>(range->words.size() / 2);
    pieces.push_back(reconcile::WriteRange{range->base, {range->words.begin(), middle}});
    pieces.push_back(reconcile::WriteRange{range->base + half, {middle, range->words.end()}});
  }
  return pieces;
}

}  // namespace weft::tests
