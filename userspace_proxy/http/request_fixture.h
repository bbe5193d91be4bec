// What a request comes to, whatever way it is cut.
#pragma once

#include <gtest/gtest.h>

#include "userspace_proxy/http/codec_fixture.h"

namespace weft::http {

// Status that the stream ends with, 0 where it is understood; the same however it is cut.
inline std::uint16_t status_of(const std::string& bytes) {
  const auto whole = read_request(bytes);
  if (bytes.size() > 400) return whole.status;
  for (const auto& cuts : all_cuts(bytes.size()))
    EXPECT_EQ(read_request(bytes, cuts).log, whole.log) << bytes << " cut at " << cuts.front();
  return whole.status;
}

inline bool has(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

}  // namespace weft::http
