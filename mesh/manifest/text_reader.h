// Bytes -> documents, one format a function. What both formats have in common, the limits among it,
// is DocumentBuilder's.
#pragma once

#include <functional>
#include <string>
#include <string_view>

#include "mesh/manifest/tree.h"

namespace weft::manifest {

struct Document {
  Value root;         // as far as it could be read
  int line = 1;       // where the document begins
  std::string error;  // why it is refused as a whole; empty: it is fine
  int error_line = 0;
};
// Called once a document; the tree behind it is the reader's and ends with the call.
using OnDocument = std::function<void(const Document&)>;

// What ended the reading before the end of the bytes: everything behind it is unknown. Empty:
// nothing.
struct Stop {
  std::string error;
  int line = 0;
};
Stop read_yaml(std::string_view bytes, const OnDocument& on_document);
Stop read_json(std::string_view bytes, const OnDocument& on_document);

// Input in a message: at most `most` bytes, nothing that could move a terminal's cursor or turn the
// writing direction.
std::string cleaned(std::string_view text, std::size_t most);
std::string quoted(std::string_view text);  // 80 bytes, in quotes

}  // namespace weft::manifest
