// Any bytes as a manifest: read, carried over, merged and laid out. Beyond not crashing it checks
// what the stages behind the reader rely on. The first byte chooses the format, so that one corpus
// serves both.
#include <cstdio>
#include <cstdlib>
#include <string>

#include "agent/compile/compile.h"
#include "mesh/manifest/reader.h"
#include "mesh/model/merge.h"

namespace {

using weft::manifest::carry_over;
using weft::manifest::Format;
using weft::manifest::ParseResult;
using weft::model::Unit;

void require(bool holds, const char* what) {
  if (holds) return;
  std::fprintf(stderr, "does not hold: %s\n", what);
  std::abort();
}

bool is_one_clean_line(const std::string& text) {
  for (const unsigned char c : text)
    if (c < 0x20 || c == 0x7f) return false;
  return true;
}

void check_notices(const ParseResult& result) {
  require(result.notices.size() <= 1001, "notices are capped");
  bool rejects = false;
  for (const auto& notice : result.notices) {
    require(notice.origin.line >= 0, "a notice's line is not negative");
    require(!notice.message.empty(), "a notice says something");
    require(is_one_clean_line(notice.to_text()), "a notice holds no control character");
    require(notice.to_text().size() < 1000, "a notice is short");
    rejects |= notice.severity == weft::model::Severity::kRejected;
  }
  if (!result.rejected.empty() || result.unidentified_rejection)
    require(rejects, "a rejection has a notice");
}

void check_objects(const ParseResult& result) {
  for (const auto& object : result.objects) {
    require(object != nullptr, "an object is there");
    require(weft::model::meta_of(*object).origin.line > 0, "an object has a line");
    require(!weft::model::meta_of(*object).name.empty(), "an object has a name");
    require(is_one_clean_line(weft::model::id_of(*object).to_text()), "a name is clean");
  }
}

// Whatever becomes of a file, nothing of it goes out of force before the file is right again.
void check_carry_over(const std::shared_ptr<const Unit>& unit) {
  ParseResult broken;
  broken.unidentified_rejection = true;
  require(carry_over(unit, broken)->objects == unit->objects,
          "an unidentified rejection keeps every object");
  ParseResult named;
  for (const auto& object : unit->objects) named.rejected.push_back(weft::model::id_of(*object));
  require(carry_over(unit, named)->objects == unit->objects, "a rejected object stays");
  require(carry_over(unit, {})->objects.empty(), "an empty file removes every object");
}

// Two documents of one object id may come through; merge() chooses, and says so.
void check_mesh(const std::shared_ptr<const Unit>& unit) {
  const auto mesh = weft::model::merge({{"fuzz", unit}});
  mesh->services.for_each([](const weft::model::ServicePtr& service) {
    for (const auto& layout : weft::compile::lay_out(*service))
      for (const auto slot : layout.slots)
        require(slot < layout.endpoints.size(), "a slot names an endpoint");
  });
  weft::model::to_text(*mesh);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  const std::string_view bytes(reinterpret_cast<const char*>(data) + 1, size - 1);
  auto result = weft::manifest::parse(bytes, "fuzz", data[0] % 2 ? Format::kJson : Format::kYaml);
  check_notices(result);
  check_objects(result);
  const auto count = result.objects.size();
  const auto unit = weft::manifest::carry_over(nullptr, std::move(result));
  require(unit->objects.size() == count, "a first unit is what was read");
  check_carry_over(unit);
  check_mesh(unit);
  return 0;
}
