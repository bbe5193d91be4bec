#include "mesh/manifest/yaml_scalar.h"

#include <gtest/gtest.h>

namespace weft::manifest {
namespace {

TEST(YamlScalar, BooleansAreThoseOfYaml11) {
  for (const char* text :
       {"y", "Y", "yes", "Yes", "YES", "true", "True", "TRUE", "on", "On", "ON"}) {
    EXPECT_EQ(plain_type(text), Type::kBool) << text;
    EXPECT_TRUE(plain_truth(text)) << text;
  }
  for (const char* text :
       {"n", "N", "no", "No", "NO", "false", "False", "FALSE", "off", "Off", "OFF"}) {
    EXPECT_EQ(plain_type(text), Type::kBool) << text;
    EXPECT_FALSE(plain_truth(text)) << text;
  }
  for (const char* text : {"yES", "tRUE", "oN", "nO", "offf", "t", "f", "yes "})
    EXPECT_EQ(plain_type(text), Type::kString) << text;
}

TEST(YamlScalar, NullIsNothingTildeOrItsName) {
  for (const char* text : {"", "~", "null", "Null", "NULL"})
    EXPECT_EQ(plain_type(text), Type::kNull) << text;
  for (const char* text : {"~~", "nULL", "nil", "none"})
    EXPECT_EQ(plain_type(text), Type::kString) << text;
}

TEST(YamlScalar, NumbersAreIntegersOfFourBasesAndDecimals) {
  for (const char* text :
       {"0",  "80", "-1",  "+1",  "1_000",  "007",  "0x1F", "0b11",  "0o17",  "-0x1", "1.5",
        ".5", "1.", "-.5", "1e9", "1.5E-3", "1e+2", ".inf", "-.INF", "+.Inf", ".nan", ".NaN"})
    EXPECT_EQ(plain_type(text), Type::kNumber) << text;
}

TEST(YamlScalar, WhatOnlyLooksLikeANumberIsText) {
  for (const char* text :
       {"-",     "+",         ".",    "1e",   "e5",         "1e+",
        "1.2.3", "10.0.0.1",  "0xg",  "0x",   "0b",         "0b2",
        "_1",    "1a",        "--1",  "1:30", "2024-05-01", "2024-05-01T10:00:00Z",
        "-.nan", ".infinity", "1 000"})
    EXPECT_EQ(plain_type(text), Type::kString) << text;
}

}  // namespace
}  // namespace weft::manifest
