#include "mesh/wire/frame.h"

#include <gtest/gtest.h>
#include <weft/v1/proxy.pb.h>

#include <vector>

namespace weft::wire {
namespace {

weft::v1::Header header(const std::string& name) {
  weft::v1::Header header;
  header.set_name(name);
  return header;
}

std::string framed(const std::vector<std::string>& names) {
  std::string out;
  for (const auto& name : names) EXPECT_TRUE(append_frame(header(name), out).ok());
  return out;
}

// The names in what is whole by now.
std::vector<std::string> names_in(FrameReader& reader) {
  std::vector<std::string> names;
  for (auto message = reader.next(); message.ok() && *message; message = reader.next()) {
    weft::v1::Header read;
    EXPECT_TRUE(read.ParseFromArray((*message)->data(), static_cast<int>((*message)->size())));
    names.push_back(read.name());
  }
  return names;
}

TEST(Frame, MessagesComeWholeHoweverTheyWereCut) {
  const std::vector<std::string> names{"a", "", std::string(5000, 'x'), "b"};
  const auto bytes = framed(names);
  for (const std::size_t piece : {1ul, 2ul, 3ul, 7ul, 4096ul, bytes.size()}) {
    FrameReader reader;
    std::vector<std::string> read;
    for (std::size_t at = 0; at < bytes.size(); at += piece) {
      reader.append(std::string_view(bytes).substr(at, piece));
      for (auto& name : names_in(reader)) read.push_back(std::move(name));
    }
    EXPECT_EQ(read, names) << "pieces of " << piece;
  }
}

TEST(Frame, WhoReadsOnlyWhatIsMissingNeverReadsIntoTheNextMessage) {
  const auto bytes = framed({"first", "second"});
  FrameReader reader;
  std::size_t taken = 0;
  std::vector<std::string> read;
  while (read.empty() && taken < bytes.size()) {
    const auto missing = reader.missing();
    ASSERT_GT(missing, 0u);
    reader.append(std::string_view(bytes).substr(taken, missing));
    taken += missing;
    read = names_in(reader);
  }
  EXPECT_EQ(read, std::vector<std::string>{"first"});
  EXPECT_EQ(taken, framed({"first"}).size());
}

TEST(Frame, AnEmptyMessageIsAMessage) {
  FrameReader reader;
  reader.append(std::string(4, '\0'));
  const auto message = reader.next();
  ASSERT_TRUE(message.ok() && *message);
  EXPECT_TRUE((*message)->empty());
}

TEST(Frame, ALengthBeyondTheCapIsAnErrorBeforeAByteOfIt) {
  FrameReader reader;
  reader.append(std::string("\x01\0\0\x04", 4));  // 64 MiB and one
  EXPECT_EQ(reader.next().status().message(), "a message of 67108865 bytes; at most 67108864");
  reader.append("more");
  EXPECT_FALSE(reader.next().ok());
}

TEST(Frame, ALengthAtTheCapWaitsForItsBytes) {
  FrameReader reader;
  reader.append(std::string("\0\0\0\x04", 4));
  const auto message = reader.next();
  ASSERT_TRUE(message.ok());
  EXPECT_FALSE(*message);
  EXPECT_EQ(reader.missing(), kLongestMessage);
}

TEST(Frame, AMessageThatIsTooLongIsNotWritten) {
  std::string out = "before";
  EXPECT_FALSE(append_frame(header(std::string(kLongestMessage, 'x')), out).ok());
  EXPECT_EQ(out, "before");
}

}  // namespace
}  // namespace weft::wire
