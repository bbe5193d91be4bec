// libbpf's newest warnings on this thread, so that a program that is refused comes with the
// verifier's reason.
#pragma once

#include <string>

namespace weft::kernel {

class LibbpfLog {
 public:
  LibbpfLog();  // from here on, on this thread, whatever was said before is forgotten
  const std::string& text() const;
};

}  // namespace weft::kernel
