// HTTPRoute filter CORS (HTTPCORSFilter).
#include <re2/re2.h>

#include "mesh/manifest/http_fields.h"
#include "mesh/manifest/http_route.h"
#include "mesh/manifest/text_reader.h"

namespace weft::manifest {
namespace {

// "https://*.example.com": the star is labels. Alone it is every origin.
model::TextMatch origin_match(const std::string& origin) {
  using Kind = model::TextMatch::Kind;
  const auto star = origin.find('*');
  if (star == origin.npos || origin == "*") return {Kind::kExact, origin, false};
  return {Kind::kRegex,
          RE2::QuoteMeta(origin.substr(0, star)) + "[0-9A-Za-z.-]+" +
              RE2::QuoteMeta(origin.substr(star + 1)),
          false};
}

}  // namespace

model::Cors decode_cors_filter(Decoder& decoder, Value value, const std::string& path) {
  model::Cors cors;
  for (const auto& origin : decoder.texts(value, path, "allowOrigins")) {
    if (origin.find('*') != origin.rfind('*') || origin.size() > 253)
      decoder.reject(value["allowOrigins"], path + ".allowOrigins " + quoted(origin) +
                                                " is not an origin with one * at "
                                                "most");
    cors.allow_origins.push_back(origin_match(origin));
  }
  const auto names = [&](const char* key) {
    auto list = decoder.texts(value, path, key);
    for (const auto& name : list)
      check_header_name(decoder, value[key], join_path(path, key), name);
    return list;
  };
  cors.allow_methods = names("allowMethods");
  cors.allow_headers = names("allowHeaders");
  cors.expose_headers = names("exposeHeaders");
  cors.allow_credentials = decoder.boolean(value, path, "allowCredentials");
  // The API's default is 5 s.
  cors.max_age =
      std::chrono::seconds(decoder.integer(value, path, "maxAge", 1, 86'400'000).value_or(5));
  decoder.unknown_fields(value, path,
                         {"allowOrigins", "allowMethods", "allowHeaders", "exposeHeaders",
                          "allowCredentials", "maxAge"});
  return cors;
}

}  // namespace weft::manifest
