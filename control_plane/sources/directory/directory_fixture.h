// A directory source on a real temporary directory with real inotify, driven by hand: nothing
// happens between two calls of until().
#pragma once

#include <gtest/gtest.h>
#include <sys/stat.h>

#include <boost/asio/io_context.hpp>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "control_plane/sources/directory/directory_source.h"

namespace weft::sources {

inline std::string manifest_of(const std::string& name, int port = 80) {
  return "apiVersion: v1\nkind: Service\nmetadata: {name: " + name +
         "}\nspec:\n  clusterIP: 10.96.0.1\n  ports: [{port: " + std::to_string(port) + "}]\n";
}

class DirectoryFixture : public testing::Test {
 protected:
  DirectoryFixture() {
    std::string pattern = std::filesystem::temp_directory_path() / "weft-directory-XXXXXX";
    box_ = mkdtemp(pattern.data());
    root_ = box_ + "/mesh";
    std::filesystem::create_directory(root_);
  }
  ~DirectoryFixture() override {
    source_.reset();
    std::filesystem::remove_all(box_);
  }

  std::string in(const std::string& name) const { return root_ + "/" + name; }

  void write(const std::string& path, const std::string& text) { std::ofstream(path) << text; }
  // As people and controllers do it: aside, then over.
  void replace(const std::string& path, const std::string& text) {
    write(box_ + "/aside", text);
    std::filesystem::rename(box_ + "/aside", path);
  }

  void start() { start_on(root_); }
  void start_on(const std::string& root) {
    Events events;
    events.unit = [this](const std::string& name, std::shared_ptr<const model::Unit> unit) {
      published_.push_back(name);
      if (unit)
        units_[name] = std::move(unit);
      else
        units_.erase(name);
    };
    events.batch = [this](Clock::time_point first_event) {
      ++batches_;
      first_event_ = first_event;
    };
    source_ = make_directory_source(control_, "dir:" + root, std::move(events));
    source_->start();
  }
  void start_synced() {
    start();
    ASSERT_TRUE(until([&] { return source_->status().synced && batches_ > 0; }));
    settle();
  }

  // Whether it became so. The guard is against hanging only.
  bool until(const std::function<bool()>& condition) {
    const auto guard = Clock::now() + std::chrono::seconds(60);
    while (!condition() && Clock::now() < guard)
      control_.run_one_for(std::chrono::milliseconds(100));
    return condition();
  }
  // Takes in whatever inotify has told so far, and forgets what was published.
  void settle() {
    while (control_.poll()) {
    }
    published_.clear();
    batches_ = 0;
    reads_before_ = source_->status().reads;
  }
  std::uint64_t reads() const { return source_->status().reads - reads_before_; }

  // "a.yaml: web:80, api:81; sub/b.yaml: ..." of everything that is published.
  std::string mesh() const {
    std::string text;
    for (const auto& [name, unit] : units_) {
      text += (text.empty() ? "" : "; ") +
              std::filesystem::path(name).lexically_relative(root_).string() + ":";
      for (const auto& object : unit->objects) {
        const auto& service = std::get<model::ServiceObject>(*object);
        text += " " + service.meta.name + ":" + std::to_string(service.ports.at(0).port);
      }
    }
    return text;
  }
  bool becomes(const std::string& expected) {
    const bool is = until([&] { return mesh() == expected; });
    EXPECT_EQ(mesh(), expected);
    return is;
  }
  std::string notices_of(const std::string& name) const {
    std::string text;
    const auto unit = units_.find(in(name));
    if (unit != units_.end())
      for (const auto& notice : unit->second->notices) text += notice.to_text() + "\n";
    return text;
  }

  std::string box_, root_;
  boost::asio::io_context control_;
  std::unique_ptr<Source> source_;
  std::map<std::string, std::shared_ptr<const model::Unit>> units_;
  std::vector<std::string> published_;
  int batches_ = 0;
  Clock::time_point first_event_{};
  std::uint64_t reads_before_ = 0;
};

}  // namespace weft::sources
