#include "agent/app/notice_log.h"

#include "mesh/base/log.h"

namespace weft::app {
namespace {

log::Level level_of(model::Severity severity) {
  if (severity == model::Severity::kInfo) return log::Level::kInfo;
  return severity == model::Severity::kRejected ? log::Level::kError : log::Level::kWarning;
}

}  // namespace

void NoticeLog::write(const std::shared_ptr<const std::vector<model::Notice>>& notices) {
  if (notices == last_) return;
  last_ = notices;
  std::set<std::string> now;
  for (const auto& notice : *notices) {
    auto text = notice.to_text();
    if (!standing_.contains(text))
      log::write(level_of(notice.severity), "manifest", {{"notice", text}});
    now.insert(std::move(text));
  }
  standing_ = std::move(now);
}

}  // namespace weft::app
