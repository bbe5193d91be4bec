// Checks of what comes from the wire: each returns a value that is safe to use, and the first that
// is wrong is remembered, with the place it was met at.
#pragma once

#include <chrono>
#include <cstdint>
#include <limits>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <absl/status/status.h>
#include <absl/strings/str_cat.h>
#include <absl/strings/str_join.h>

namespace weft::wire {

class Check {
 public:
  // Names where we are for as long as it lives: "rule 3".
  class Place {
   public:
    Place(Check& check, std::string name) : check_(check) {
      check_.places_.push_back(std::move(name));
    }
    ~Place() { check_.places_.pop_back(); }
    Place(const Place&) = delete;
    Place& operator=(const Place&) = delete;

   private:
    Check& check_;
  };

  const absl::Status& status() const { return status_; }

  void fail(const std::string& what) {
    if (!status_.ok()) return;
    const std::string place = absl::StrJoin(places_, ": ");
    status_ = absl::InvalidArgumentError(place.empty() ? what : absl::StrCat(place, ": ", what));
  }

  std::uint64_t number(std::uint64_t value, std::uint64_t least, std::uint64_t most,
                       const char* what) {
    if (value >= least && value <= most) return value;
    fail(absl::StrCat(what, " ", value, " is not within ", least, "-", most));
    return least;
  }

  template <class E>
  E enumeration(std::uint32_t value, E last, const char* what) {
    return static_cast<E>(number(value, 0, static_cast<std::uint64_t>(last), what));
  }

  std::uint16_t port(std::uint32_t value, std::uint16_t least = 1) {
    return static_cast<std::uint16_t>(number(value, least, 65535, "port"));
  }

  // At most 34 years: in nanoseconds still a 64-bit number.
  template <class Unit>
  Unit duration(std::uint64_t value, const char* what) {
    return Unit(static_cast<std::int64_t>(number(value, 0, 1ull << 40, what)));
  }

  // What goes into a head as it is: CR, LF and NUL in it would end a line that we write.
  std::string line(const std::string& text, const char* what) {
    for (const unsigned char c : text)
      if ((c < 0x20 && c != '\t') || c == 0x7f)
        fail(absl::StrCat(what, " has a control character"));
    return text;
  }
  // Of a path or an authority: no space either.
  std::string target(const std::string& text, const char* what) {
    for (const unsigned char c : text)
      if (c <= 0x20 || c == 0x7f) fail(absl::StrCat(what, " has a space or a control character"));
    return text;
  }
  std::string header_name(const std::string& name);

 private:
  std::vector<std::string> places_;
  absl::Status status_;
};

// A token (RFC 9110 5.6.2).
inline std::string Check::header_name(const std::string& name) {
  static constexpr std::string_view kMarks = "!#$%&'*+-.^_`|~";
  bool token = !name.empty();
  for (const char c : name)
    token = token && ((c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
                      kMarks.find(c) != std::string_view::npos);
  if (!token) fail("a header's name is no token");
  return name;
}

}  // namespace weft::wire
