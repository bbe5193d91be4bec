#include "mesh/model/notice.h"

namespace weft::model {

std::string Origin::to_text() const {
  if (!file) return "";
  return line > 0 ? *file + ":" + std::to_string(line) : *file;
}

const char* to_text(Severity severity) {
  switch (severity) {
    case Severity::kInfo:
      return "info";
    case Severity::kWarning:
      return "warning";
    case Severity::kNotEnforced:
      return "not_enforced";
    case Severity::kRejected:
      break;
  }
  return "rejected";
}

std::string Notice::to_text() const {
  std::string text = origin.to_text();
  if (!text.empty()) text += ": ";
  text += std::string(model::to_text(severity)) + ": ";
  if (!object.empty()) text += object + ": ";
  return text + message;
}

}  // namespace weft::model
