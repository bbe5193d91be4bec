// Builds the tree of one document after the other from what a parser meets, and holds the limits
// that keep a hostile file from taking memory or time: depth, number of values, duplicate keys.
#pragma once

#include <absl/container/flat_hash_set.h>

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "mesh/manifest/text_reader.h"
#include "mesh/manifest/tree.h"

namespace weft::manifest {

// Of a file, a value counting 1, a new key 4, a document and a level beyond kMaxDepth 16: what they
// cost. 64 MB of endpoints
// as a cluster writes them hold at most 5.3 million.
inline constexpr std::size_t kMaxCost = 6'000'000;

class DocumentBuilder {
 public:
  void start_document(int line);
  // A sequence or a mapping. False: it lies too deep, the document is refused and nothing of it is
  // kept; a reader may skip it, or bring it up to its close() all the same.
  bool open(Type type, int line);
  void close();
  void key(std::string_view text, int line);
  void scalar(Type type, std::string_view text, int line);

  // In a mapping where the next thing is a key.
  bool expects_key() const { return !too_deep_ && !open_.empty() && open_.back().expects_key; }
  // The document is wrong; reading goes on, for its identity and for those behind it.
  void refuse(const std::string& why, int line);
  // A limit is passed; the reader must stop. Empty: none.
  const std::string& exhausted() const { return exhausted_; }

  Document document() const { return {Value::root(tree_), line_, error_, error_line_}; }

 private:
  struct Open {
    std::uint32_t node = 0;
    std::uint32_t last = 0;  // child
    std::uint32_t key = 0;
    bool mapping = false;
    bool expects_key = false;
    bool is_key = false;  // itself in the place of a key
    std::uint32_t count = 0;
    absl::flat_hash_set<std::uint32_t> keys;  // used from the 17th on: most mappings are small
  };

  std::uint32_t add(Type type, std::string_view text, int line);
  void value_done();
  bool is_twice(Open& mapping, std::uint32_t key);
  void spend(std::size_t cost);

  Tree tree_;
  std::vector<Open> open_;
  std::size_t too_deep_ = 0;  // open ones beyond kMaxDepth
  bool begun_ = false;
  int line_ = 1;
  std::string error_;
  int error_line_ = 0;
  std::size_t cost_ = 0;
  std::string exhausted_;
};

}  // namespace weft::manifest
