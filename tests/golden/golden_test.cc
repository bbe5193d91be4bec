// Whole flows as text: manifests -> mesh -> maps -> plan. Each *.txt here is a story in sections:
//
//   -- input NAME --   a manifest of that name from now on; without a body: the file NAME in this
//   folder
//   -- remove NAME --  it is gone
//   -- notices --      what weft has to say (left out where that is nothing)
//   -- mesh --, -- maps --, -- plan --
//
// Inputs and what follows from them may come again: the next step. WEFT_UPDATE_GOLDEN=1 writes what
// comes out into the files; `git diff` then shows what a change means.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <map>
#include <sstream>

#include "agent/compile/compile.h"
#include "agent/reconcile/plan.h"
#include "mesh/manifest/reader.h"
#include "mesh/model/merge.h"

namespace weft::tests {
namespace {

namespace fs = std::filesystem;
const fs::path kFolder = "tests/golden";

std::string read_file(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  EXPECT_TRUE(file) << "cannot read " << path;
  return {std::istreambuf_iterator<char>(file), {}};
}

struct Section {
  std::string head;  // "input web.yaml"; empty: the words before the first section
  std::string body;

  std::string kind() const { return head.substr(0, head.find(' ')); }
  std::string name() const { return head.substr(std::min(head.size(), head.find(' ') + 1)); }
};

std::vector<Section> split(const std::string& text) {
  std::vector<Section> sections(1);
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) {
    if (line.size() > 6 && line.starts_with("-- ") && line.ends_with(" --"))
      sections.push_back({line.substr(3, line.size() - 6), ""});
    else
      sections.back().body += line + "\n";
  }
  return sections;
}

const char* name_of(const reconcile::MapOp& op) {
  static constexpr const char* kNames[] = {
      "begin generation", "write label",    "write name",   "write endpoint", "write range",
      "write policy",     "publish record", "set frontend", "erase frontend", "commit generation",
      "clear endpoint",   "clear record",   "erase name",   "erase label"};
  static_assert(std::size(kNames) == std::variant_size_v<reconcile::MapOp>);
  return kNames[op.index()];
}

std::string to_text(const std::vector<reconcile::MapOp>& ops) {
  std::string text;
  for (std::size_t i = 0; i < ops.size();) {
    std::size_t end = i + 1;
    while (end < ops.size() && ops[end].index() == ops[i].index()) ++end;
    text += name_of(ops[i]);
    if (end - i > 1) text += " x" + std::to_string(end - i);
    text += "\n";
    i = end;
  }
  return text;
}

std::string to_text(const reconcile::Plan& plan) {
  if (plan.empty()) return "nothing to do\n";
  std::string text = to_text(plan.ops);
  if (!plan.cleanup.empty()) text += "after a grace period:\n" + to_text(plan.cleanup);
  return text;
}

// The stages of weftd without weftd.
class Flow {
 public:
  void input(const std::string& name, const std::string& bytes) {
    auto& unit = units_[name];
    const auto format = name.ends_with(".json") ? manifest::Format::kJson : manifest::Format::kYaml;
    unit = manifest::carry_over(unit, manifest::parse(bytes, name, format));
  }
  void remove(const std::string& name) { units_.erase(name); }

  std::vector<Section> run() {
    const auto mesh = model::merge(units_);
    compile::Input input;
    input.before = before_.get();
    input.after = mesh.get();
    input.placed = &placed_;
    auto output = compile::compile(input, ids_, placed_.generation + 1);
    const auto plan = reconcile::diff(placed_, output.desired);
    ids_.release(plan.releases);
    placed_ = std::move(output.desired);
    ++placed_.generation;
    before_ = mesh;

    std::vector<Section> sections;
    std::string notices;
    for (const auto& notice : *mesh->notices) notices += notice.to_text() + "\n";
    if (!notices.empty()) sections.push_back({"notices", notices});
    sections.push_back({"mesh", model::to_text(*mesh)});
    sections.push_back({"maps", compile::to_text(placed_)});
    sections.push_back(
        {"plan", (output.held_back ? "held back: more than half of all endpoints would go\n" : "") +
                     to_text(plan)});
    return sections;
  }

 private:
  std::map<std::string, std::shared_ptr<const model::Unit>> units_;
  model::MeshPtr before_;
  compile::Ids ids_{compile::Limits{}};
  compile::MapState placed_;
};

// The file with what comes out of its inputs in place of what it says.
std::string replay(const std::string& text) {
  Flow flow;
  std::string result;
  bool due = false;
  const auto append = [&](const Section& section) {
    if (!section.head.empty()) result += "-- " + section.head + " --\n";
    result += section.body;
  };
  const auto finish_step = [&] {
    if (due)
      for (const auto& section : flow.run()) append(section);
    due = false;
  };
  bool in_outputs = false;
  for (const auto& section : split(text)) {
    const bool given =
        section.head.empty() || section.kind() == "input" || section.kind() == "remove";
    if (given && in_outputs) finish_step();
    in_outputs = !given;
    if (!given) continue;
    append(section);
    due = due || !section.head.empty();
    if (section.kind() == "remove") flow.remove(section.name());
    if (section.kind() == "input")
      flow.input(section.name(),
                 section.body.empty() ? read_file(kFolder / section.name()) : section.body);
  }
  finish_step();
  return result;
}

std::vector<std::string> flows() {
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(kFolder))
    if (entry.path().extension() == ".txt" && entry.path().stem() != "CMakeLists")
      names.push_back(entry.path().stem());
  std::sort(names.begin(), names.end());
  return names;
}

class Golden : public testing::TestWithParam<std::string> {};

TEST_P(Golden, FlowComesOutAsWritten) {
  const fs::path path = kFolder / (GetParam() + ".txt");
  const std::string text = read_file(path);
  const std::string result = replay(text);
  if (std::getenv("WEFT_UPDATE_GOLDEN")) {
    std::ofstream(path, std::ios::binary) << result;
    return;
  }
  EXPECT_EQ(result, text) << "where that is as it should be: WEFT_UPDATE_GOLDEN=1";
}

INSTANTIATE_TEST_SUITE_P(Flows, Golden, testing::ValuesIn(flows()), [](const auto& name) {
  std::string id = name.param;
  std::replace(id.begin(), id.end(), '-', '_');
  return id;
});

TEST(GoldenFiles, AreFound) { EXPECT_GE(flows().size(), 9u); }

}  // namespace
}  // namespace weft::tests
