// Files that would make the decoder write beyond its tables, or allocate far more than they hold, never reach it.
#include "data/image_structure.h"

#include <gtest/gtest.h>

#include "data/decode.h"
#include "tests/files.h"

namespace entangle {
namespace {

std::vector<uint8_t> bytes_of(const std::string& text) { return {text.begin(), text.end()}; }

std::string error_for(const std::string& jpeg) {
  return error_of([&] { check_image_structure(bytes_of(jpeg), "photo"); });
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
  expect_error(error_for(kStart + std::string("\xFF\xDA\x00\x03\x00 pixels \xFF\x00 \xFF\xD3 more", 23) + bad),
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

TEST(JpegTables, AreDefinedBeforeAScanUsesThem) {
  const std::string dc0 = table(1, 1), scan("\xFF\xDA\x00\x08\x01\x01\x00\x00\x3F\x00", 10);
  std::string ac0 = dc0;
  ac0[4] = 0x10;
  expect_error(error_for(kStart + scan + kEnd), {"photo", "Huffman table", "not define"});
  expect_error(error_for(kStart + dc0 + scan + kEnd), {"not define"});
  EXPECT_EQ(error_for(kStart + dc0 + ac0 + scan + kEnd), "");
  const std::string progressive("\xFF\xC2\x00\x02", 4), first("\xFF\xDA\x00\x08\x01\x01\x00\x00\x00\x00", 10),
      refining("\xFF\xDA\x00\x08\x01\x01\x11\x00\x00\x10", 10), ac("\xFF\xDA\x00\x08\x01\x01\x01\x01\x3F\x00", 10);
  EXPECT_EQ(error_for(kStart + progressive + dc0 + first + refining + kEnd), "");
  expect_error(error_for(kStart + progressive + ac0 + first + kEnd), {"not define"});
  expect_error(error_for(kStart + progressive + dc0 + ac0 + ac + kEnd),
               {"not define"});  // the first table, not the second
}

TEST(PngChunks, LieWithinTheFile) {
  const std::string png = read_raw("tests/fuzz/corpus/image/rgb.png"), begin = png.substr(0, 33);
  EXPECT_EQ(error_for(png), "");
  expect_error(error_for(begin + std::string("\x3F\xFF\xFF\xFFIDATabc", 11)),
               {"photo", "cut short", "byte 33", "1073741823"});
  expect_error(error_for(begin + std::string("\x00\x00\x00\x04IDATabcdCRC", 15)), {"4 bytes, of which 7"});
  expect_error(error_for(png.substr(0, 70)), {"cut short"});
  EXPECT_EQ(error_for(begin), "") << "broken, but in no way that costs memory";
  EXPECT_EQ(error_for(png.substr(0, 8)), "");
  EXPECT_EQ(error_for(png + "more behind the end"), "");
}

}  // namespace
}  // namespace entangle
