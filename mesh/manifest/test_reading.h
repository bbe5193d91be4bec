// What tests of the reader ask of a result, in a few words.
#pragma once

#include <algorithm>
#include <string>
#include <string_view>

#include "mesh/manifest/reader.h"

namespace weft::manifest::test {

inline ParseResult yaml(std::string_view text) { return parse(text, "f", Format::kYaml); }
inline ParseResult json(std::string_view text) { return parse(text, "f", Format::kJson); }

// Every notice as people read it, a line each.
inline std::string notices(const ParseResult& result) {
  std::string text;
  for (const auto& notice : result.notices) text += notice.to_text() + "\n";
  return text;
}

inline bool says(const ParseResult& result, std::string_view part) {
  return notices(result).find(part) != std::string::npos;
}

inline std::size_t count(const ParseResult& result, model::Severity severity) {
  return static_cast<std::size_t>(
      std::count_if(result.notices.begin(), result.notices.end(),
                    [&](const auto& notice) { return notice.severity == severity; }));
}

inline std::string ids(const std::vector<std::shared_ptr<const model::Object>>& objects) {
  std::string text;
  for (const auto& object : objects)
    text += (text.empty() ? "" : ", ") + model::id_of(*object).to_text();
  return text;
}
inline std::string ids(const ParseResult& result) { return ids(result.objects); }

inline std::string rejected(const ParseResult& result) {
  std::string text;
  for (const auto& id : result.rejected) text += (text.empty() ? "" : ", ") + id.to_text();
  return text + (result.unidentified_rejection ? (text.empty() ? "?" : ", ?") : "");
}

// The first object as a T; the test ends where it is none.
template <class T>
const T& first(const ParseResult& result) {
  return std::get<T>(*result.objects.at(0));
}

// A Service named web; `spec` is flow YAML.
inline std::string service_of(const std::string& spec, const std::string& name = "web") {
  return "apiVersion: v1\nkind: Service\nmetadata: {name: " + name +
         ", namespace: shop}\nspec: " + spec + "\n";
}
inline ParseResult service(const std::string& spec) { return yaml(service_of(spec)); }

inline std::string slice_of(const std::string& fields, const std::string& name = "web-1") {
  return "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata:\n  name: " + name +
         "\n  namespace: shop\n  labels: {kubernetes.io/service-name: web}\n" + fields + "\n";
}
inline ParseResult slice(const std::string& fields) { return yaml(slice_of(fields)); }

}  // namespace weft::manifest::test
