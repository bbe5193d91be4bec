// The notices of one file, bounded: a file full of mistakes must fill neither the memory nor a log.
#pragma once

#include <array>
#include <memory>
#include <string>
#include <vector>

#include "mesh/model/notice.h"

namespace weft::manifest {

inline constexpr std::size_t kMaxNotices = 1000;

class Notices {
 public:
  explicit Notices(const std::string& file) : file_(std::make_shared<const std::string>(file)) {}

  void add(model::Severity severity, int line, const std::string& object,
           const std::string& message);
  model::Origin origin(int line) const { return {file_, line}; }

  // In the order they were added, if they are at most kMaxNotices. Else the worst ones first, so
  // that a flood of warnings hides no rejection, and last how many more there were.
  std::vector<model::Notice> take();

 private:
  std::shared_ptr<const std::string> file_;
  std::vector<model::Notice> notices_;  // at most kMaxNotices of each severity
  std::array<std::size_t, 4> counts_{};
};

}  // namespace weft::manifest
