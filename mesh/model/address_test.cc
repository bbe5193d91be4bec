#include "mesh/model/address.h"

#include <gtest/gtest.h>

namespace weft::model {
namespace {

TEST(Address, ReadsBothFamiliesAndWritesThemBack) {
  for (const char* text :
       {"10.0.0.1", "255.255.255.255", "0.0.0.0", "::", "::1", "fd00::1:2", "2001:db8::a"}) {
    const auto address = Address::parse(text);
    ASSERT_TRUE(address) << text;
    EXPECT_EQ(address->to_text(), text);
  }
}

TEST(Address, KeepsIpv4MappedIntoIpv6) {
  const auto address = Address::parse("10.1.2.3");
  ASSERT_TRUE(address);
  const std::array<std::uint8_t, 16> want{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 10, 1, 2, 3};
  EXPECT_EQ(address->bytes, want);
  EXPECT_EQ(address->family(), Family::kIpv4);
}

TEST(Address, MappedTextIsTheIpv4Address) {
  const auto mapped = Address::parse("::ffff:10.1.2.3");
  ASSERT_TRUE(mapped);
  EXPECT_EQ(*mapped, *Address::parse("10.1.2.3"));
  EXPECT_EQ(mapped->to_text(), "10.1.2.3");
}

TEST(Address, Ipv6ThatOnlyLooksMappedIsIpv6) {
  EXPECT_EQ(Address::parse("::10.1.2.3")->family(), Family::kIpv6);
  EXPECT_EQ(Address::parse("::fffe:10.1.2.3")->family(), Family::kIpv6);
}

TEST(Address, OneAddressHasOneValueHoweverItIsWritten) {
  EXPECT_EQ(*Address::parse("FD00:0:0::01"), *Address::parse("fd00::1"));
}

TEST(Address, RefusesWhatIsNoAddress) {
  for (const char* text :
       {"", " ", "10.0.0", "10.0.0.256", "10.0.0.1 ", " 10.0.0.1", "10.0.0.1/32", "fe80::1%eth0",
        "[::1]", "1.2.3.4.5", "::1::", "web", "0x0a.0.0.1", "10.0.0.01x"})
    EXPECT_FALSE(Address::parse(text)) << text;
}

TEST(Address, RefusesTextBehindANul) {
  EXPECT_FALSE(Address::parse(std::string_view("10.0.0.1\0x", 10)));
}

TEST(Address, RefusesTextLongerThanAnyAddress) {
  EXPECT_FALSE(Address::parse(std::string(100, '1')));
  EXPECT_TRUE(Address::parse("1111:2222:3333:4444:5555:6666:123.123.123.123"));
}

TEST(Address, SaysWhyNobodyCanServeIt) {
  const auto why = [](const char* text) {
    return Address::parse(text).value().unusable_because().value_or("");
  };
  EXPECT_EQ(why("0.0.0.0"), "it is the unspecified address");
  EXPECT_EQ(why("::"), "it is the unspecified address");
  EXPECT_EQ(why("224.0.0.1"), "it is a multicast address");
  EXPECT_EQ(why("239.255.255.255"), "it is a multicast address");
  EXPECT_EQ(why("ff02::1"), "it is a multicast address");
  EXPECT_EQ(why("169.254.169.254"), "it is a link-local address");
  EXPECT_EQ(why("fe80::1"), "it is a link-local address");
  EXPECT_EQ(why("febf::1"), "it is a link-local address");
}

TEST(Address, ServesOrdinaryOnesAndLoopback) {
  for (const char* text : {"10.0.0.1", "127.0.0.1", "::1", "fd00::1", "fec0::1", "223.255.255.255",
                           "240.0.0.1", "169.253.0.1", "::ffff:1.2.3.4"})
    EXPECT_FALSE(Address::parse(text).value().unusable_because()) << text;
}

TEST(Address, SortsIpv4BeforeGlobalIpv6) {
  EXPECT_LT(*Address::parse("10.0.0.2"), *Address::parse("10.0.0.10"));
  EXPECT_LT(*Address::parse("255.0.0.1"), *Address::parse("2001:db8::1"));
}

}  // namespace
}  // namespace weft::model
