// The restricted pickle reader: what it builds, what it never does, and what it refuses.
#include "engine/pickle.h"

#include <string>
#include <vector>

#include "tests/engine/torch_writer.h"
#include "tests/files.h"

#include <gtest/gtest.h>

namespace entangle {
namespace {

using Kind = PickleValue::Kind;

Pickle read(const std::string& body) { return Pickle(pickled::kStart + body + ".", "f.pth"); }
std::string error(const std::string& bytes) {
  return error_of([&] { Pickle(bytes, "f.pth"); });
}
std::string described(const std::string& body) {
  const Pickle pickle = read(body);
  return pickle.describe(pickle.root());
}

TEST(PickleReader, ReadsScalars) {
  EXPECT_EQ(described("N"), "None");
  EXPECT_EQ(described("\x88"), "True");
  EXPECT_EQ(described("\x89"), "False");
  EXPECT_EQ(described("K\xff"), "255");
  EXPECT_EQ(described("M\x01\x80"), "32769");
  EXPECT_EQ(described(std::string("J\xfe\xff\xff\xff")), "-2");
  EXPECT_EQ(described(std::string("\x8a\x00", 2)), "0");
  EXPECT_EQ(described("\x8a\x01\xff"), "-1");
  EXPECT_EQ(described("\x8a\x02\xff\x7f"), "32767");
  EXPECT_EQ(described(pickled::big(INT64_MIN)), "-9223372036854775808");
  EXPECT_EQ(described("\x8a\x0a" + std::string(10, '\x7f')), "an integer of 10 bytes");
  EXPECT_EQ(described(std::string("G\x3f\xf8\0\0\0\0\0\0", 9)), "1.5");
  EXPECT_EQ(described("\x8c\x02hi"), "'hi'");
  EXPECT_EQ(described("U\x02hi"), "'hi'");
  EXPECT_EQ(described("C\x02hi"), "a string of bytes of 2");
}

TEST(PickleReader, ReadsContainersAndSharedValues) {
  const Pickle pickle = read("}q\x01(" + pickled::text("a") +
                             "](K\x01K\x02"
                             "eq\x02" +
                             pickled::text("b") + "h\x02" + pickled::text("c") + "\x8f(K\x05\x90u");
  const PickleValue *a = pickle.find(pickle.root(), "a"), *b = pickle.find(pickle.root(), "b");
  ASSERT_NE(a, nullptr);
  EXPECT_EQ(a, b) << "a shared value is one value";
  EXPECT_EQ(a->kind, Kind::list);
  ASSERT_EQ(a->items.size(), 2u);
  EXPECT_EQ(pickle[a->items[1]].integer, 2);
  EXPECT_EQ(pickle.find(pickle.root(), "c")->kind, Kind::set);
  EXPECT_EQ(pickle.find(pickle.root(), "d"), nullptr);
  EXPECT_EQ(described("K\x01\x85"), "a tuple of 1");
  EXPECT_EQ(described("(K\x01K\x02K\x03t"), "a tuple of 3");
  EXPECT_EQ(described("K\x01K\x02\x86"), "a tuple of 2");
  EXPECT_EQ(described("(K\x01K\x02"
                      "d"),
            "a dictionary of 1");
  EXPECT_EQ(described(pickled::call(pickled::global("collections", "OrderedDict"), {}) + "K\x01K\x02s"),
            "a dictionary of 1");
}

TEST(PickleReader, TheLastOfEqualKeysCounts) {
  const Pickle pickle = read(pickled::dict({pickled::text("a"), "K\x01", pickled::text("a"), "K\x02"}));
  EXPECT_EQ(pickle.find(pickle.root(), "a")->integer, 2);
}

TEST(PickleReader, NeverCallsAnything) {
  const std::string attack = pickled::call(pickled::global("posix", "system"), {pickled::text("touch /tmp/owned")});
  EXPECT_EQ(described(attack), "a call of 'posix.system', which is not run");
  EXPECT_EQ(described(pickled::text("os") + pickled::text("system") + "\x93" + pickled::tuple({}) + "R"),
            "a call of 'os.system', which is not run");
  EXPECT_EQ(described(pickled::global("argparse", "Namespace") + ")\x81}b"),
            "a call of 'argparse.Namespace', which is not run");
  EXPECT_EQ(described(pickled::global("a", "B") + ")}\x92"), "a call of 'a.B', which is not run");
  EXPECT_EQ(described(attack + "(K\x01K\x02u"), "a call of 'posix.system', which is not run")
      << "what fills it is dropped";
  EXPECT_EQ(described(attack + ")R"), "a call of a value, which is not run");
}

TEST(PickleReader, EveryCutIsAnError) {
  const std::string sound = pickled::kStart + pickled::dict({pickled::text("a"), pickled::tensor("N", 0, {2}, {1})}) +
                            "0\x8a\x02\x01\x02\x85" + std::string("G\0\0\0\0\0\0\0\0", 9) + "\x86.";
  ASSERT_EQ(error(sound), "");
  for (size_t length = 0; length < sound.size(); ++length) {
    expect_error(error(sound.substr(0, length)), {"f.pth: pickle opcode", "fetch or write it again"});
  }
}

TEST(PickleReader, NamesTheOpcodeThatIsWrong) {
  const auto expect = [](const std::string& body, const std::vector<std::string>& parts) {
    expect_error(error(pickled::kStart + body), parts);
  };
  expect("\xff", {"opcode 255 at byte 2 is unknown"});
  expect("I1\n", {"opcode INT at byte 2 is not read here"});
  expect("\x82\x01", {"EXT1"});
  expect("\x97", {"NEXT_BUFFER"});
  expect("N(.", {"STOP at byte 4", "MARK"});
  expect("NN.", {"STOP", "leaves values"});
  expect(".", {"STOP", "not there"});
  expect("t", {"TUPLE ", "no MARK"});
  expect("N(Ra", {"REDUCE", "not there"});
  expect("N(a", {"APPEND", "not there"});
  expect("NNs", {"SETITEM", "not there"});
  expect("NNNs", {"SETITEM", "fills what is no dictionary"});
  expect("]K\x01K\x01s", {"SETITEM", "no dictionary"});
  expect("}(K\x01u", {"SETITEMS", "a key without a value"});
  expect(
      "(K\x01"
      "d",
      {"DICT", "a key without a value"});
  expect(
      "}K\x01"
      "a",
      {"APPEND", "fills what is no list"});
  expect("h\x07", {"BINGET", "memo 7"});
  expect("q\x01", {"BINPUT", "not there"});
  expect("NNR", {"REDUCE", "tuple of arguments"});
  expect("NN\x93", {"STACK_GLOBAL", "two texts"});
  expect("\x80\x09", {"PROTO", "protocol 9"});
  expect("X\xff\xff\xff\xff", {"BINUNICODE", "cut short"});
  expect("\x8d" + std::string(8, '\xff'), {"BINUNICODE8", "cut short"});
  expect("\x8b" + std::string(4, '\xff'), {"LONG4", "cut short"});
  expect("cos\nsystem", {"GLOBAL", "cut short"});
}

// Ten references to ten references to ten ... would be 10^40 values for who follows them; here each is an index.
TEST(PickleReader, AMemoBombCostsItsBytes) {
  std::string bomb("]q\0", 3);
  for (int level = 1; level <= 40; ++level) {
    bomb += "](";
    for (int i = 0; i < 10; ++i) bomb += std::string("h") + static_cast<char>(level - 1);
    bomb += std::string("eq") + static_cast<char>(level);
  }
  std::string drop;
  for (int level = 0; level < 40; ++level) drop += "\x86";
  const Pickle pickle = read(bomb + drop);
  EXPECT_LE(pickle.values().size(), 200u);
}

TEST(PickleReader, BoundsDepthAndValues) {
  std::string nested = ")";
  for (int i = 0; i < Pickle::kMostDepth; ++i) nested += "\x85";
  EXPECT_EQ(error(pickled::kStart + nested + "."), "");
  expect_error(error(pickled::kStart + nested + "\x85."), {"TUPLE1", "deeper than 1000"});
  const std::string lists(3000000, ']');
  expect_error(error(pickled::kStart + lists), {"EMPTY_LIST", "more than 1048576 values"});
  const std::string marks(3000000, '(');
  expect_error(error(pickled::kStart + marks), {"is cut short"});
  std::string appended = "]";
  for (int i = 0; i < 2000; ++i) appended += "]";
  for (int i = 0; i < 2000; ++i) appended += "a";
  expect_error(error(pickled::kStart + appended), {"APPEND", "deeper than 1000"});
}

}  // namespace
}  // namespace entangle
