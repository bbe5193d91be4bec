// The kernel's maps, kept in memory: what plans are replayed on where no kernel is wanted. It holds ABI
// values, as the kernel does, and knows nothing of the model that they came from.
#pragma once

#include <arpa/inet.h>

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
      if (fail_one_in_ && rng_() % fail_one_in_ == 0) return absl::UnavailableError("made to fail");
      apply(op);
      ++writes_;
    }
    return absl::OkStatus();
  }

  void apply(const reconcile::MapOp& op) {
    std::visit([this](const auto& o) { one(o); }, op);
  }

  // From here on one operation in n fails; 0: none.
  void fail_one_in(unsigned n, std::uint64_t seed) {
    fail_one_in_ = n;
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
      if (!records_.contains(index)) found.push_back(text_of(frontend) + ": no record " + number(index));
      if (!infos_.contains(index)) found.push_back(text_of(frontend) + ": no name of " + number(index));
    }
    for (const auto& [index, word] : records_)
      if (weft_record_count(word)) check_range(index, word, found);
    return found;
  }

  // Everything a reader can get at, as text: two fakes hold the same when their texts are equal. What lies
  // in slots that no record names is nobody's business.
  std::string content() const {
    std::string text = "generation " + number(generation_) + "\n";
    for (const auto& [frontend, index] : frontends_)
      text += "frontend " + text_of(frontend) + " -> " + number(index) + "\n";
    for (const auto& [index, word] : records_) text += record_text(index, word);
    for (const auto& [id, endpoint] : endpoints_)
      text += "endpoint " + number(id) + " " + hex(&endpoint, sizeof endpoint) + "\n";
    for (const auto& [index, info] : infos_)
      text += "info " + number(index) + " " + info.namespace_name + "/" + info.name + ":" + info.port_name +
              " " + number(ntohs(info.port)) + "/" + number(info.proto) + "/" + number(info.family) + "\n";
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

  std::string record_text(std::uint32_t index, std::uint64_t word) const {
    std::string text = "record " + number(index) + " " + hex(&word, sizeof word);
    const std::uint32_t count = weft_record_count(word);
    for (std::uint32_t i = 0; count && i < count + WEFT_SLOT_HEADER; ++i)
      text += " " + number(value_or_0(slots_, weft_record_base(word) + i));
    return text + "\n";
  }

  void check_range(std::uint32_t index, std::uint64_t word, std::vector<std::string>& found) const {
    const std::uint32_t base = weft_record_base(word), count = weft_record_count(word);
    for (std::uint32_t i = 0; i < count + WEFT_SLOT_HEADER; ++i) {
      if (i == 1) continue;  // the generation: names no owner
      const std::uint64_t slot = value_or_0(slots_, base + i);
      if (weft_slot_owner(slot) != index)
        found.push_back("record " + number(index) + ": slot " + number(base + i) + " belongs to " +
                        number(weft_slot_owner(slot)));
      if (i < WEFT_SLOT_HEADER) continue;
      const auto endpoint = endpoints_.find(weft_slot_low(slot));
      if (endpoint == endpoints_.end())
        found.push_back("record " + number(index) + ": endpoint " + number(weft_slot_low(slot)) + " is unused");
      else if (weft_endpoint_service(endpoint->second.word) != index)
        found.push_back("record " + number(index) + ": endpoint " + number(weft_slot_low(slot)) +
                        " belongs to " + number(weft_endpoint_service(endpoint->second.word)));
    }
  }

  void one(const reconcile::BeginGeneration&) {}
  void one(const reconcile::CommitGeneration& op) { generation_ = op.generation; }
  void one(const reconcile::WriteLabel& op) { labels_[op.id] = op.text; }
  void one(const reconcile::WriteInfo& op) { infos_[op.index] = op.info; }
  void one(const reconcile::WriteEndpoint& op) { endpoints_[op.id] = op.endpoint; }
  void one(const reconcile::WriteRange& op) {
    for (std::size_t i = 0; i < op.words.size(); ++i) slots_[op.base + i] = op.words[i];
  }
  void one(const reconcile::PublishRecord& op) { records_[op.index] = op.word; }
  void one(const reconcile::UpsertFrontend& op) { frontends_[bytes_of(op.key)] = op.index; }
  void one(const reconcile::EraseFrontend& op) {
    const auto at = frontends_.find(bytes_of(op.key));
    if (at != frontends_.end() && at->second == op.index) frontends_.erase(at);
  }
  void one(const reconcile::ClearEndpoint& op) { endpoints_.erase(op.id); }
  void one(const reconcile::ClearRecord& op) { records_.erase(op.index); }
  void one(const reconcile::EraseInfo& op) { infos_.erase(op.index); }
  void one(const reconcile::EraseLabel& op) { labels_.erase(op.id); }

  std::map<FrontendBytes, std::uint32_t> frontends_;
  std::map<std::uint32_t, std::uint64_t> records_;
  std::map<std::uint32_t, std::uint64_t> slots_;
  std::map<std::uint32_t, weft_endpoint> endpoints_;
  std::map<std::uint32_t, weft_service_info> infos_;
  std::map<std::uint32_t, std::string> labels_;
  std::uint64_t generation_ = 0;
  unsigned fail_one_in_ = 0;
  std::mt19937_64 rng_;
  std::size_t writes_ = 0;
};

// The plan's writes one word at a time: a writer may be killed inside a slot range too.
inline std::vector<reconcile::MapOp> word_by_word(const std::vector<reconcile::MapOp>& ops) {
  std::vector<reconcile::MapOp> words;
  for (const auto& op : ops) {
    const auto* range = std::get_if<reconcile::WriteRange>(&op);
    if (!range) words.push_back(op);
    for (std::size_t i = 0; range && i < range->words.size(); ++i)
      words.push_back(reconcile::WriteRange{static_cast<std::uint32_t>(range->base + i), {range->words[i]}});
  }
  return words;
}

}  // namespace weft::tests
