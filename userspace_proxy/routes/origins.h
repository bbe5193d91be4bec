// The origins that a rule's CORS policy allows, compiled.
#pragma once

#include <memory>
#include <string_view>
#include <vector>

#include <absl/status/statusor.h>

#include "mesh/model/http.h"

namespace weft::routes {

class Pattern;

class Origins {
 public:
  static absl::StatusOr<Origins> compile(const model::Cors& cors);

  bool allows(std::string_view origin) const;

 private:
  bool any_ = false;
  std::shared_ptr<const std::vector<Pattern>> patterns_;
};

}  // namespace weft::routes
