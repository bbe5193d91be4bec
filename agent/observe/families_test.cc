#include "agent/observe/families.h"

#include <gtest/gtest.h>

#include <fstream>
#include <set>
#include <string>
#include <vector>

#include "agent/kernel/maps.h"

namespace weft::observe {
namespace {

// Rows of the tables in docs/metrics.md that begin with "| `", cell by cell.
std::vector<std::vector<std::string>> documented_rows() {
  std::vector<std::vector<std::string>> rows;
  std::ifstream file("docs/metrics.md");
  for (std::string line; std::getline(file, line);) {
    if (!line.starts_with("| `")) continue;
    std::vector<std::string> cells;
    for (std::size_t at = 1, end; (end = line.find('|', at)) != std::string::npos; at = end + 1) {
      std::string cell = line.substr(at, end - at);
      std::erase(cell, '`');
      const auto first = cell.find_first_not_of(' '), last = cell.find_last_not_of(' ');
      cells.push_back(first == std::string::npos ? "" : cell.substr(first, last - first + 1));
    }
    rows.push_back(cells);
  }
  return rows;
}

std::set<std::string> documented(std::size_t cells) {
  std::set<std::string> found;
  for (const auto& row : documented_rows()) {
    if (row.size() != cells) continue;
    std::string text;
    for (const auto& cell : row) text += cell + " | ";
    EXPECT_TRUE(found.insert(text).second) << "twice in docs/metrics.md: " << text;
  }
  return found;
}

TEST(Families, AreTheOnesInTheDocs) {
  std::set<std::string> table;
  for (const auto& info : families()) {
    std::string labels;
    for (std::size_t i = 0; i < info.label_count(); ++i)
      labels += std::string(i ? ", " : "") + info.labels[i];
    table.insert(std::string(info.name) + " | " + to_text(info.type) + " | " + labels + " | " +
                 info.help + " | ");
  }
  EXPECT_EQ(documented(4), table);
}

TEST(Families, EventsAreTheOnesInTheDocs) {
  std::set<std::string> events;
  for (int i = 0; i < WEFT_EVENT_COUNT; ++i) {
    const auto event = static_cast<weft_event>(i);
    events.insert(std::string(kernel::event_label(event)) + " | " + kernel::event_help(event) +
                  " | ");
  }
  EXPECT_EQ(documented(2), events);
}

TEST(Families, CountersAndOnlyCountersEndInTotal) {
  for (const auto& info : families())
    EXPECT_EQ(std::string(info.name).ends_with("_total"), info.type == FamilyType::kCounter)
        << info.name;
}

}  // namespace
}  // namespace weft::observe
