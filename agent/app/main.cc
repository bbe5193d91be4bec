#include <cstdio>
#include <string_view>

#include "agent/app/options.h"
#include "agent/app/start.h"
#include "agent/bypass/self_test.h"
#include "mesh/base/log.h"

int main(int argc, char** argv) {
  // Not an option: weftd says it to itself.
  if (argc > 1 && std::string_view(argv[1]) == weft::bypass::kSelfTestWord)
    return weft::bypass::self_test_main(argc, argv);
  const auto parsed = weft::app::parse_options(argc, argv);
  if (parsed.ended) {
    std::fputs(parsed.end.text.c_str(), parsed.end.exit_code ? stderr : stdout);
    return parsed.end.exit_code;
  }
  if (parsed.options.log_format == "json") weft::log::set_format(weft::log::Format::kJson);
  return parsed.options.uninstall ? weft::app::uninstall(parsed.options)
                                  : weft::app::run(parsed.options);
}
