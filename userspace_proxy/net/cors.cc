#include "userspace_proxy/net/cors.h"

#include "userspace_proxy/http/chars.h"

namespace weft::net {
namespace {

// Lists are joined once a request that has CORS, into text that the next one overwrites.
std::string_view joined(const std::vector<std::string>& names, std::string& into) {
  into.clear();
  for (const auto& name : names) into += (into.empty() ? "" : ", ") + name;
  return into;
}

}  // namespace

void add_cors_fields(const model::Cors& cors, std::string_view origin, http::Fields& fields) {
  thread_local std::string exposed;
  for (auto& field : fields.all())  // the rule's word counts, not the endpoint's
    if (http::equal_ignoring_case(field.name, "access-control-allow-origin")) field.dropped = true;
  fields.add("access-control-allow-origin", origin, http::Known::kOther);
  if (cors.allow_credentials.value_or(false))
    fields.add("access-control-allow-credentials", "true", http::Known::kOther);
  if (!cors.expose_headers.empty())
    fields.add("access-control-expose-headers", joined(cors.expose_headers, exposed),
               http::Known::kOther);
  fields.add("vary", "origin", http::Known::kOther);
}

void add_preflight_fields(const model::Cors& cors, std::string_view origin, http::Fields& fields) {
  thread_local std::string methods, headers, age;
  add_cors_fields(cors, origin, fields);
  if (!cors.allow_methods.empty())
    fields.add("access-control-allow-methods", joined(cors.allow_methods, methods),
               http::Known::kOther);
  if (!cors.allow_headers.empty())
    fields.add("access-control-allow-headers", joined(cors.allow_headers, headers),
               http::Known::kOther);
  if (!cors.max_age) return;
  age = std::to_string(cors.max_age->count());
  fields.add("access-control-max-age", age, http::Known::kOther);
}

}  // namespace weft::net
