// What tests of merge() make of objects and look at in the mesh.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "mesh/model/merge.h"
#include "mesh/model/test_objects.h"

namespace weft::model::test {

template <class... T>
MeshPtr merged(std::vector<Object> objects, T... more) {
  (objects.push_back(std::move(more)), ...);
  return merge({{"unit", unit(std::move(objects))}});
}

inline const Service& only(const MeshPtr& mesh, const std::string& name = "web") {
  return **mesh->services.find({"shop", name});
}

// Lines, as a user reads them.
inline std::string notices(const MeshPtr& mesh) {
  std::string text;
  for (const auto& notice : *mesh->notices) text += notice.to_text() + "\n";
  return text;
}

inline bool says(const MeshPtr& mesh, const std::string& part) {
  return notices(mesh).find(part) != std::string::npos;
}

template <class T>
T created(T object, std::int64_t when) {
  object.meta.created = when;
  return object;
}

template <class T>
T in_line(T object, const std::string& file, int line) {
  object.meta.origin = {std::make_shared<const std::string>(file), line};
  return object;
}

}  // namespace weft::model::test
