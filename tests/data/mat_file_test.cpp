// MATLAB files: what the reader finds in them, and what it refuses.
#include "data/mat_file.h"

#include <gtest/gtest.h>

#include "tests/data/mat_writer.h"
#include "tests/expect_error.h"

namespace entangle {
namespace {

using Kind = MatArray::Kind;

MatVariables parse(const std::vector<Bytes>& variables) { return parse_mat(mat::file(variables), "x.mat"); }

void expect_refused(const std::vector<Bytes>& variables, const std::vector<std::string>& parts) {
  std::vector<std::string> all = {"x.mat"};
  all.insert(all.end(), parts.begin(), parts.end());
  expect_error([&] { parse(variables); }, all);
}

// A zlib stream of about `count` zeros, a thousandth as long: a fixed block with one literal, then repetitions of 258 bytes
// at distance 1. The check sum is left out; the size must be refused before it matters.
Bytes zlib_zeros(size_t count) {
  Bytes stream = {0x78, 0x01};
  uint32_t bits = 0;
  int used = 0;
  const auto put = [&](uint32_t code, int length) {  // the first bit of a code is the lowest
    bits |= code << used;
    for (used += length; used >= 8; used -= 8, bits >>= 8) stream.push_back(static_cast<uint8_t>(bits));
  };
  put(3, 3);           // the final block, fixed codes
  put(0b00001100, 8);  // literal 0 is 00110000
  for (size_t done = 1; done < count; done += 258) {
    put(0b10100011, 8);  // length 258 is 11000101
    put(0, 5);           // distance 1
  }
  put(0, 7);  // the end
  put(0, 7);
  append(stream, {0, 0, 0, 0});
  return stream;
}

TEST(MatFile, NumbersOfEveryStorage) {
  const MatVariables found = parse({
      mat::byte_row({1, 2, 255}, "bytes"),
      mat::double_row({-1.5, 1e300}, "doubles"),
      mat::array(mat::kDoubleArray, {2, 2}, "ints", mat::element(mat::kInt32, mat::words({1, 2, 0xFFFFFFFF, 4}))),
      mat::array(mat::kDoubleArray, {1, 1}, "signed", mat::element(mat::kInt8, {0x80})),
      mat::array(mat::kUint8Array, {1, 2}, "halves", mat::element(mat::kUint16, {0, 1, 2, 1})),
      mat::array(mat::kDoubleArray, {0, 0}, "nothing", mat::element(mat::kDouble, {})),
  });
  EXPECT_EQ(found.at("bytes").numbers, (std::vector<double>{1, 2, 255}));
  EXPECT_EQ(found.at("bytes").dimensions, (std::vector<int64_t>{1, 3}));
  EXPECT_EQ(found.at("doubles").numbers, (std::vector<double>{-1.5, 1e300}));
  EXPECT_EQ(found.at("ints").numbers, (std::vector<double>{1, 2, -1, 4}));
  EXPECT_EQ(found.at("signed").numbers, (std::vector<double>{-128}));
  EXPECT_EQ(found.at("halves").numbers, (std::vector<double>{256, 258}));
  EXPECT_TRUE(found.at("nothing").numbers.empty());
  EXPECT_EQ(found.at("nothing").kind, Kind::numbers);
  EXPECT_EQ(found.size(), 6u);
}

TEST(MatFile, CompressedOrNotIsTheSame) {
  const Bytes plain = mat::byte_row(Bytes(100000, 7), "many");
  const MatVariables found =
      parse({mat::compressed(plain), mat::compressed(mat::text("word", "w")), mat::text("", "empty")});
  EXPECT_EQ(found.at("many").numbers, std::vector<double>(100000, 7));
  EXPECT_EQ(found.at("w").text, "word");
  EXPECT_EQ(found.at("w").kind, Kind::text);
  EXPECT_EQ(found.at("empty").text, "");
}

TEST(MatFile, StructuresAndCells) {
  const Bytes cell = mat::array(mat::kCell, {1, 3}, "", [] {
    Bytes members = mat::text("a");
    append(members, mat::element(mat::kMatrix, {}, false));
    append(members, mat::byte_row({9}));
    return members;
  }());
  const MatVariables found = parse({mat::structure(
      {"class", "fname"}, {mat::byte_row({14}), mat::text("00001.jpg"), mat::byte_row({3}), cell}, "annotations")});
  const MatArray& array = found.at("annotations");
  EXPECT_EQ(array.count(), 2);
  EXPECT_EQ(array.field(0, "class")->numbers, std::vector<double>{14});
  EXPECT_EQ(array.field(0, "fname")->text, "00001.jpg");
  EXPECT_EQ(array.field(1, "class")->numbers, std::vector<double>{3});
  const MatArray& inner = *array.field(1, "fname");
  ASSERT_EQ(inner.members.size(), 3u);
  EXPECT_EQ(inner.members[0].text, "a");
  EXPECT_EQ(inner.members[1].count(), 0);
  EXPECT_EQ(inner.members[2].numbers, std::vector<double>{9});
  EXPECT_EQ(array.field(0, "nothing"), nullptr);
  EXPECT_EQ(array.field(2, "class"), nullptr);
  EXPECT_EQ(array.field(-1, "class"), nullptr);
}

TEST(MatFile, WhatIsNotReadIsPassedOver) {
  const MatVariables found =
      parse({mat::array(mat::kSparse, {5, 5}, "sparse", mat::element(mat::kInt32, mat::words({1}))),
             mat::array(mat::kDoubleArray | 0x0800, {1, 1}, "complex", mat::element(mat::kDouble, mat::doubles({1}))),
             mat::byte_row({5}, "after")});
  EXPECT_EQ(found.at("sparse").kind, Kind::other);
  EXPECT_EQ(found.at("complex").kind, Kind::other);
  EXPECT_EQ(found.at("after").numbers, std::vector<double>{5});
}

TEST(MatFile, RefusesWhatIsNoSuchFile) {
  const auto with = [](size_t at, uint8_t byte) {
    Bytes file = mat::file({});
    file[at] = byte;
    return file;
  };
  expect_error([&] { parse_mat(Bytes(127, ' '), "x.mat"); }, {"x.mat", "no MATLAB file", "127 bytes"});
  expect_error([&] { parse_mat(with(126, 'X'), "x.mat"); }, {"x.mat", "no MATLAB file"});
  expect_error([&] { parse_mat(with(125, 2), "x.mat"); }, {"x.mat", "7.3", "-v7"});
  Bytes big = with(126, 'M');
  big[127] = 'I';
  expect_error([&] { parse_mat(big, "x.mat"); }, {"x.mat", "big-endian"});
  expect_error([&] { parse_mat(Bytes(kLargestMatFile + 1), "x.mat"); }, {"x.mat", "8388609 bytes"});
  expect_error([&] { read_mat_file("/does/not/exist.mat"); }, {"/does/not/exist.mat"});
}

// Every prefix of a file that ends within a variable, compressed or not.
TEST(MatFile, RefusesEveryTruncation) {
  const Bytes plain =
      mat::structure({"class", "fname"}, {mat::double_row({14}), mat::text("00001.jpg")}, "annotations");
  for (const Bytes& variable : {plain, mat::compressed(plain)}) {
    const Bytes whole = mat::file({variable});
    for (size_t size = 129; size < whole.size(); ++size) {
      if (size + 8 > whole.size() && variable == plain) continue;  // the padding alone may be missing
      const Bytes part(whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(size));
      expect_error([&] { parse_mat(part, "x.mat"); }, {"x.mat", "fetch it again"});
    }
  }
}

// No changed bit may do harm; in a compressed element none may go unnoticed.
TEST(MatFile, SurvivesEveryChangedBit) {
  const Bytes plain =
      mat::structure({"class", "fname"}, {mat::double_row({14}), mat::text("00001.jpg")}, "annotations");
  for (const bool packed : {false, true}) {
    const Bytes whole = mat::file({packed ? mat::compressed(plain) : plain});
    for (size_t at = 128; at < whole.size(); ++at) {
      for (int bit = 0; bit < 8; ++bit) {
        Bytes changed = whole;
        changed[at] ^= static_cast<uint8_t>(1 << bit);
        bool refused = false;
        try {
          parse_mat(changed, "x.mat");
        } catch (const Error&) {
          refused = true;
        }
        // Two bits of the zlib header say how hard the compressor tried; six bits of a block's first byte are unused.
        const bool meaningless = at == 136 || at == 137 || (at == 138 && bit > 2);
        EXPECT_TRUE(refused || !packed || meaningless) << at << " bit " << bit;
      }
    }
  }
}

TEST(MatFile, RefusesHostileSizes) {
  const Bytes huge = mat::element(mat::kDouble, {});
  expect_refused({mat::array(mat::kDoubleArray, {0x7FFFFFFF, 0x7FFFFFFF}, "x", huge)},
                 {"entries or more", "cut short"});
  expect_refused({mat::array(mat::kDoubleArray, {0x80000000, 1}, "x", huge)}, {"dimension is -2147483648"});
  expect_refused({mat::array(mat::kDoubleArray, {1000, 1000}, "x", huge)}, {"1000000 entries", "0 bytes"});
  expect_refused({mat::array(mat::kCell, {1000, 1000}, "x", {})}, {"1000000 members", "cut short"});
  Bytes fields = mat::element(mat::kInt32, mat::words({1}));
  append(fields, mat::element(mat::kInt8, Bytes(5000, 'a')));
  expect_refused({mat::array(mat::kStruct, {4096, 1024}, "x", fields)}, {"4194304 entries", "cut short"});
  Bytes zero = mat::element(mat::kInt32, mat::words({0}));
  append(zero, mat::element(mat::kInt8, Bytes(5, 'a')));
  expect_refused({mat::array(mat::kStruct, {1, 1}, "x", zero)}, {"field names of 0 each"});
  Bytes beyond = mat::element(mat::kMatrix, {}, false);
  beyond[7] = 0xFF;
  expect_refused({beyond}, {"4278190080 bytes", "cut short"});
}

TEST(MatFile, RefusesDecompressionBombs) {
  const Bytes some = mat::compressed(mat::byte_row(Bytes(4000000, 1), "a"));
  EXPECT_EQ(parse({some}).size(), 1u);
  const auto bomb = [](size_t count) { return mat::element(mat::kZlib, zlib_zeros(count), false); };
  expect_refused({bomb(1000)}, {"check sum"});  // it decompresses
  expect_refused({bomb(9000000)}, {"limit", "8388608"});
  expect_refused({some, bomb(4500000)}, {"limit", "4388"});  // of all elements together
}

TEST(MatFile, RefusesDeepNesting) {
  const auto nested = [](int depth) {
    Bytes inner = mat::byte_row({1});
    for (int i = 1; i < depth; ++i) inner = mat::array(mat::kCell, {1, 1}, i + 1 == depth ? "x" : "", inner);
    return inner;
  };
  EXPECT_EQ(parse({nested(kDeepestMatNesting)}).size(), 1u);
  expect_refused({nested(kDeepestMatNesting + 1)}, {"nested more than 16 deep"});
  expect_refused({nested(5000)}, {"nested more than 16 deep"});
}

TEST(MatFile, RefusesWhatDoesNotFitTogether) {
  expect_refused({mat::byte_row({1}, "a"), mat::byte_row({2}, "a")}, {"two variables called 'a'"});
  expect_refused({mat::element(mat::kDouble, mat::doubles({1}))}, {"element of type 9"});
  expect_refused({mat::array(mat::kDoubleArray, {1, 2}, "x", mat::element(mat::kDouble, mat::doubles({1, 2, 3})))},
                 {"2 entries", "24 bytes"});
  expect_refused({mat::array(mat::kDoubleArray, {1, 1}, "x", mat::element(mat::kMatrix, mat::doubles({1})))},
                 {"numbers have the type 14"});
  expect_refused({mat::array(mat::kChar, {1, 1}, "x", mat::element(mat::kUint16, {0xE9, 0}))},
                 {"character 233", "ASCII"});
  Bytes two = mat::byte_row({1}, "a");
  append(two, mat::byte_row({2}, "b"));
  expect_refused({mat::compressed(two)}, {"bytes follow a compressed variable"});
  expect_refused({mat::compressed(mat::compressed(mat::byte_row({1}, "a")))}, {"element of type 15"});
}

}  // namespace
}  // namespace entangle
