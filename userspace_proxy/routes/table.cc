#include "userspace_proxy/routes/table.h"

#include <optional>
#include <utility>

#include <absl/strings/str_cat.h>

#include "userspace_proxy/routes/candidates.h"
#include "userspace_proxy/routes/condition.h"
#include "userspace_proxy/routes/index.h"

namespace weft::routes {
namespace {

// Every edit of a path that a rule can lead to.
template <class F>
void for_each_edit(const model::HttpRule& rule, F&& visit) {
  const auto one = [&](const std::optional<model::PathEdit>& edit) {
    if (edit) visit(*edit);
  };
  if (const auto* redirect = std::get_if<model::Redirect>(&rule.action)) one(redirect->path);
  if (const auto* forward = std::get_if<model::Forward>(&rule.action)) {
    one(forward->path);
    for (const auto& destination : forward->destinations) one(destination.path);
  }
}

std::size_t count_regexes(const model::HttpRoutes& routes) {
  std::size_t count = 0;
  for (const auto& rule : routes.rules) {
    for (const auto& match : rule.matches) count += routes::count_regexes(match);
    for_each_edit(rule, [&](auto& edit) { count += edit.kind == model::PathEdit::Kind::kRegex; });
  }
  return count;
}

bool all_hold(const std::vector<Condition>& conditions, const Request& request) {
  for (const auto& condition : conditions)
    if (!condition.holds(request)) return false;
  return true;
}

}  // namespace

absl::Status Table::Index::add_edit(const model::PathEdit& edit, RegexBudget& budget) {
  if (edit.kind != model::PathEdit::Kind::kRegex || edits.contains(edit.regex))
    return absl::OkStatus();
  auto regex = budget.compile(edit.regex, false);
  if (!regex.ok()) return regex.status();
  edits.emplace(edit.regex, *std::move(regex));
  return absl::OkStatus();
}

absl::Status Table::Index::add(std::uint32_t number, RegexBudget& budget) {
  const auto& rule = routes.rules[number];
  first_of_rule.push_back(static_cast<std::uint32_t>(matches.size()));
  for (std::uint32_t i = 0; i < rule.matches.size(); ++i) {
    auto compiled = conditions(rule.matches[i], budget);
    if (!compiled.ok()) return compiled.status();
    matches.push_back(*std::move(compiled));
    names.push_back({number, i});
  }
  if (rule.matches.empty()) {
    matches.emplace_back();
    names.push_back({number, 0});
  }
  absl::Status status;
  for_each_edit(rule, [&](const model::PathEdit& edit) {
    status.Update(add_edit(edit, budget));
    std::string error;
    if (edit.kind == model::PathEdit::Kind::kRegex && status.ok() &&
        !edits.at(edit.regex)->CheckRewriteString(edit.text, &error))
      status.Update(absl::InvalidArgumentError(
          absl::StrCat("rewrite ", readable(edit.text), ": ", readable(error))));
  });
  return status;
}

Table::Table(std::unique_ptr<Index> index) : index_(std::move(index)) {}
Table::~Table() = default;

absl::StatusOr<std::shared_ptr<const Table>> Table::compile(model::HttpRoutes routes) {
  auto index = std::make_unique<Index>();
  index->routes = std::move(routes);
  RegexBudget budget(count_regexes(index->routes));
  for (std::uint32_t i = 0; i < index->routes.rules.size(); ++i) {
    const auto& rule = index->routes.rules[i];
    if (const auto status = index->add(i, budget); !status.ok())
      return absl::InvalidArgumentError(absl::StrCat(
          rule.object, " rule ", rule.name.empty() ? absl::StrCat("#", i) : readable(rule.name),
          ": ", status.message()));
  }
  index->first_of_rule.push_back(static_cast<std::uint32_t>(index->matches.size()));
  index->candidates.emplace(index->matches);
  return std::shared_ptr<const Table>(new Table(std::move(index)));
}

Match Table::match(const Request& request) const {
  const auto& index = *index_;
  auto best = static_cast<std::uint32_t>(index.matches.size());
  // Whatever the order of the lists, the lowest that holds wins: none above it is asked any more.
  index.candidates->visit(request, [&](const Ids& ids) {
    for (const auto id : ids) {
      if (id >= best) return;
      if (all_hold(index.matches[id], request)) best = id;
    }
  });
  return best == index.matches.size() ? Match{} : index.names[best];
}

const model::HttpRoutes& Table::routes() const { return index_->routes; }

std::vector<Explanation> explain(const Table& table, const Request& request) {
  const auto& index = *table.index_;
  std::vector<Explanation> done;
  std::optional<std::uint32_t> winner;
  for (std::uint32_t rule = 0; rule < index.routes.rules.size(); ++rule) {
    std::string why;
    bool holds = false;
    for (auto id = index.first_of_rule[rule]; id < index.first_of_rule[rule + 1] && !holds; ++id) {
      holds = true;
      for (const auto& condition : index.matches[id]) {
        if (condition.holds(request)) continue;
        holds = false;
        absl::StrAppend(&why, why.empty() ? "" : "; ", condition.why_not(request));
        break;
      }
    }
    const bool won = holds && !winner;
    if (holds) why = won ? "" : absl::StrCat("matches, but rule ", *winner, " comes first");
    if (won) winner = rule;
    done.push_back({rule, won, std::move(why)});
  }
  return done;
}

}  // namespace weft::routes
