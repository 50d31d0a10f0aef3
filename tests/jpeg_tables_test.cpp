// Huffman tables that would make the JPEG decoder write beyond its own are refused before it sees them.
#include "data/jpeg_tables.h"

#include <gtest/gtest.h>

#include "data/decode.h"
#include "tests/files.h"

namespace entangle {
namespace {

std::vector<uint8_t> bytes_of(const std::string& text) { return {text.begin(), text.end()}; }

std::string error_for(const std::string& jpeg) {
  return error_of([&] { check_huffman_tables(bytes_of(jpeg), "photo"); });
}

// A segment of one table with so many codes of length 8 and of length 9.
std::string table(int eight, int nine) {
  std::string counts(16, '\0');
  counts[7] = static_cast<char>(eight);
  counts[8] = static_cast<char>(nine);
  const int length = 2 + 17 + eight + nine;
  return std::string("\xFF\xC4", 2) + static_cast<char>(length >> 8) + static_cast<char>(length) + '\0' + counts +
         std::string(static_cast<size_t>(eight + nine), 'v');
}

const std::string kStart = "\xFF\xD8", kEnd = "\xFF\xD9";

TEST(JpegTables, AtMost256SymbolsATable) {
  EXPECT_EQ(error_for(kStart + table(255, 1) + table(1, 255) + kEnd), "");
  expect_error(error_for(kStart + table(255, 2) + kEnd), {"photo", "257 symbols", "256"});
  expect_error(error_for(kStart + table(10, 10) + table(200, 200) + kEnd), {"400 symbols"});
  expect_error(error_of([] { decode_image(bytes_of(kStart + table(255, 255) + kEnd), "photo"); }),
               {"photo", "510 symbols"});
}

TEST(JpegTables, AreFoundWhereTheDecoderFindsThem) {
  const std::string bad = table(255, 255);
  expect_error(error_for("\xFF\xFF" + kStart + bad), {"510 symbols"});
  expect_error(error_for(kStart + "padding\xFF\xFF\xFF" + bad.substr(1)), {"510 symbols"});
  expect_error(error_for(kStart + std::string("\xFF\xDA\x00\x02 pixels \xFF\x00 \xFF\xD3 more", 22) + bad),
               {"510 symbols"});
  expect_error(error_for(kStart + bad.substr(0, 21)), {"510 symbols"});
}

TEST(JpegTables, WhatIsNoTableIsNotRead) {
  const std::string bad = table(255, 255), inside = bad.substr(0, 21);
  const std::string comment = std::string("\xFF\xFE\x00\x17", 4) + inside;
  EXPECT_EQ(error_for(kStart + comment + kEnd), "") << "within a comment";
  EXPECT_EQ(error_for(kStart + kEnd + bad), "") << "behind the end";
  EXPECT_EQ(error_for("PNG" + bad), "") << "not in a JPEG";
  for (const std::string& cut :
       {std::string(), std::string("\xFF"), kStart, kStart + "\xFF\xC4", kStart + comment.substr(0, 9)}) {
    EXPECT_EQ(error_for(cut), "");
  }
  EXPECT_EQ(error_for(read_raw("tests/golden/augment/input.jpg")), "");
}

}  // namespace
}  // namespace entangle
