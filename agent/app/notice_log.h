// What the manifests made weft say, in the log: each notice once, for as long as it stands.
#pragma once

#include <memory>
#include <set>
#include <string>
#include <vector>

#include "mesh/model/notice.h"

namespace weft::app {

class NoticeLog {
 public:
  // Cheap where the notices are the ones of the last call.
  void write(const std::shared_ptr<const std::vector<model::Notice>>& notices);

 private:
  std::shared_ptr<const std::vector<model::Notice>> last_;
  std::set<std::string> standing_;
};

}  // namespace weft::app
