// Bytes -> documents, one format a function. Both bound depth, refuse duplicate keys and (YAML) aliases,
// and know the line of everything.
#pragma once

#include <functional>
#include <string>
#include <string_view>

#include "mesh/manifest/tree.h"

namespace weft::manifest {

struct Document {
  const Tree& tree;   // as far as it could be read
  int line = 1;       // where the document begins
  std::string error;  // why it is refused as a whole; empty: it is fine
  int error_line = 0;
};
// Called once a document; the tree is the reader's and ends with the call.
using OnDocument = std::function<void(const Document&)>;

// What ended the reading before the end of the bytes: everything behind it is unknown. Empty: nothing.
struct Stop {
  std::string error;
  int line = 0;
};
Stop read_yaml(std::string_view bytes, const OnDocument& on_document);
Stop read_json(std::string_view bytes, const OnDocument& on_document);

// Input in a message: at most 60 bytes, nothing that could move a terminal's cursor.
std::string quoted(std::string_view text);

}  // namespace weft::manifest
