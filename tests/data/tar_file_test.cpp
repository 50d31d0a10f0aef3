// Tar archives: those of GNU tar in its four formats, and what must be refused.
#include "data/tar_file.h"

#include <gtest/gtest.h>

#include <cstring>
#include <utility>

#include "tests/files.h"
#include "tests/temporary_directory.h"

namespace entangle {
namespace {

std::vector<std::pair<std::string, std::string>> members_of(const std::string& bytes, std::vector<TarMember>* at = {}) {
  TarReader reader("archive", bytes.size(), [&](uint64_t from, void* to, uint64_t count) {
    ASSERT_LE(from + count, bytes.size()) << "a read beyond the archive";
    std::memcpy(to, bytes.data() + from, count);
  });
  std::vector<std::pair<std::string, std::string>> found;
  for (TarMember member; reader.next(member);) {
    found.emplace_back(member.name, reader.content(member, 1 << 20));
    if (at) at->push_back(member);
  }
  return found;
}

void refuses(const std::string& bytes, const std::vector<std::string>& parts) {
  expect_error(error_of([&] { members_of(bytes); }), parts);
}

// A header with other fields, its check sum made anew.
std::string altered(std::string header, size_t at, const std::string& field) {
  header.replace(at, field.size(), field).replace(148, 8, "        ");
  unsigned sum = 0;
  for (size_t i = 0; i < 512; ++i) sum += static_cast<unsigned char>(header[i]);
  char digits[8];
  std::snprintf(digits, sizeof digits, "%06o", sum);
  return header.replace(148, 7, digits, 7);
}

std::string extension(char type, const std::string& text) {
  return altered(tar_member("extension", text), 156, std::string(1, type));
}

std::string pax(const std::string& key, const std::string& value) {
  const std::string rest = " " + key + "=" + value + "\n";
  size_t length = rest.size() + 1;
  while (std::to_string(length).size() + rest.size() != length) ++length;
  return std::to_string(length) + rest;
}

TEST(TarFile, ReadsWhatGnuTarWritesInEveryFormat) {
  std::string deep;
  for (int i = 0; i < 30; ++i) deep += "long/";
  deep += "name-that-is-longer-than-a-hundred-bytes/a.cls";
  using Members = std::vector<std::pair<std::string, std::string>>;
  for (const std::string name : {"gnu_long", "pax_long"}) {
    std::vector<TarMember> at;
    EXPECT_EQ(members_of(read_raw("tests/fuzz/corpus/tar/" + name + ".tar"), &at),
              (Members{{deep, "3\n"}, {"b.cls", "7\n"}, {"e/c.txt", "12\n"}}))
        << name;
    EXPECT_EQ(at[0].begin, 0u) << "the extension's header, not the member's";
    EXPECT_EQ(at[0].data, 1536u);
    EXPECT_EQ(at[2].begin, 3584u) << "the folder's header is not the file's";
  }
  EXPECT_EQ(members_of(read_raw("tests/fuzz/corpus/tar/ustar_prefix.tar")), (Members{{deep, "3\n"}, {"b.cls", "7\n"}}));
  EXPECT_EQ(members_of(read_raw("tests/fuzz/corpus/tar/v7.tar")), (Members{{"b.cls", "7\n"}}));
}

TEST(TarFile, ReadsWhatItWrites) {
  const std::string large(5000, 'x'), bytes = tar_member("a.txt", large) + tar_member("b", "") + tar_end();
  std::vector<TarMember> at;
  const auto members = members_of(bytes, &at);
  ASSERT_EQ(members.size(), 2u);
  EXPECT_EQ(members[0].second, large);
  EXPECT_EQ(members[1].first, "b");
  EXPECT_EQ(at[1].begin, 512u + 5120u);
  EXPECT_TRUE(members_of(tar_end()).empty());
  EXPECT_TRUE(members_of(tar_end() + std::string(8192, '\0')).empty()) << "padding to a record";
  expect_error(error_of([&] { tar_header("", 1); }), {"1 to 100 bytes"});
  expect_error(error_of([&] { tar_header(std::string(101, 'a'), 1); }), {"1 to 100 bytes"});
  EXPECT_EQ(tar_header(std::string(100, 'a'), 1).size(), 512u);
  expect_error(error_of([&] { tar_header("a", uint64_t{1} << 33); }), {"too many"});
}

TEST(TarFile, SizesComeFromExtensionsToo) {
  const std::string member = tar_member("x", "12345678");
  const auto members = members_of(extension('x', pax("size", "3") + pax("mtime", "1.5")) + member + tar_end());
  EXPECT_EQ(members[0].second, "123");
  const std::string binary("\x80\0\0\0\0\0\0\0\0\0\0\x05", 12);
  EXPECT_EQ(members_of(altered(member, 124, binary) + tar_end())[0].second, "12345");
  EXPECT_EQ(members_of(altered(member, 124, "     000006 ") + tar_end())[0].second, "123456");
  EXPECT_EQ(members_of(extension('g', pax("comment", "of git")) + member + tar_end()).size(), 1u);
}

TEST(TarFile, NamesThatLeaveAFolderAreRefused) {
  refuses(tar_member("../x", "1") + tar_end(), {"../x", "leaves its folder"});
  refuses(tar_member("a/../../x", "1") + tar_end(), {"a/../../x", "leaves its folder"});
  refuses(tar_member("a/..", "1") + tar_end(), {"leaves its folder"});
  refuses(tar_member("/etc/passwd", "1") + tar_end(), {"/etc/passwd", "absolute"});
  refuses(tar_member(".//etc/passwd", "1") + tar_end(), {"absolute"});
  refuses(extension('L', "../long") + tar_member("x", "1") + tar_end(), {"../long", "leaves its folder"});
  refuses(extension('x', pax("path", "/x")) + tar_member("x", "1") + tar_end(), {"absolute"});
  refuses(extension('g', pax("path", "a")) + tar_member("x", "1") + tar_end(), {"global", "path"});
  EXPECT_EQ(members_of(tar_member("./a..b/..c", "1") + tar_end())[0].first, "a..b/..c");
}

TEST(TarFile, OnlyRegularFilesAreTaken) {
  const std::string member = tar_member("x", "");
  const std::pair<char, const char*> kinds[] = {{'1', "a link"},      {'2', "a link"}, {'3', "a device"},
                                                {'4', "a device"},    {'6', "a pipe"}, {'S', "sparse"},
                                                {'V', "unknown kind"}};
  for (const auto& [type, words] : kinds) {
    refuses(altered(member, 156, std::string(1, type)) + tar_end(), {"archive: ", "'x'", words});
  }
  refuses(extension('x', pax("GNU.sparse.major", "1")) + member + tar_end(), {"sparse"});
  EXPECT_TRUE(members_of(altered(member, 156, "5") + tar_end()).empty());
}

TEST(TarFile, DamageIsFound) {
  const std::string member = tar_member("x.txt", std::string(600, 'y'));
  refuses("", {"empty"});
  refuses("no archive", {"cut short"});
  refuses(std::string(512, 'a'), {"no tar archive", "check sum"});
  refuses(std::string("\x1F\x8B", 2) + std::string(600, 'a'), {"compressed by gzip", "unpack"});
  refuses("\x28\xB5\x2F\xFD" + std::string(600, 'a'), {"compressed by zstd"});
  refuses(member, {"cut short at byte 1536"});
  refuses(member + std::string(512, '\0'), {"end marker"});
  refuses(member.substr(0, 1100), {"cut short", "x.txt", "600"});
  refuses(member.substr(0, 1200), {"cut short", "x.txt", "600"});  // the padding is missing
  refuses(member.substr(0, 300), {"cut short at byte 300"});
  refuses(member + tar_end() + member + tar_end(), {"follows the archive's end marker at byte 1536"});
  refuses(member + tar_end() + "\n", {"follows the archive's end marker"});
  std::string broken = member + member + tar_end();
  broken[1536 + 3] ^= 1;
  refuses(broken, {"header at byte 1536", "check sum"});
  refuses(altered(member, 124, "00000000008\0") + tar_end(), {"impossible size"});
  refuses(altered(member, 124, "77777777777") + tar_end(), {"cut short", "8589934591"});
  refuses(altered(member, 124, std::string(12, '\xFF')) + tar_end(), {"impossible size"});
  refuses(altered(member, 124, "\xBF" + std::string(11, '\xFF')) + tar_end(), {"impossible size"});
  refuses(altered(member, 0, std::string(5, '\0')) + tar_end(), {"no name"});
}

TEST(TarFile, BrokenExtensionsAreFound) {
  const std::string member = tar_member("x", "1");
  for (const std::string text :
       {"8 path=\n", "9 path=ab\n", "7 path=a", "path=a\n", "0 a=b\n", "99999999 a=b\n", "6 a b\n"}) {
    refuses(extension('x', text) + member + tar_end(), {"pax header"});
  }
  for (const std::string size : {"", "-1", "12x", "99999999999999999999"}) {
    refuses(extension('x', pax("size", size)) + member + tar_end(), {"impossible size"});
  }
  refuses(extension('x', pax("size", "999999999999999999")) + member + tar_end(), {"cut short"});
  refuses(extension('L', "") + member + tar_end(), {"long name"});
  refuses(extension('L', std::string("a\0b", 3)) + member + tar_end(), {"long name", "zero byte"});
  refuses(extension('L', "name") + tar_end(), {"extension header at byte 0 belongs to no member"});
  refuses(altered(extension('L', "name"), 124, "00010000000") + member + tar_end(), {"2097152 bytes", "allowed"});
  refuses(altered(extension('L', "name"), 124, "00000100000") + member + tar_end(),
          {"cut short in the extension header"});
}

TEST(TarFile, FilesOnDiskAreReadWhereTheyLie) {
  TemporaryDirectory dir;
  write_raw(dir.path("a.tar"), tar_member("a", std::string(9000, 'a')) + tar_member("b", "bb") + tar_end());
  const TarFile file(dir.path("a.tar"));
  TarReader reader = file.reader();
  TarMember member;
  ASSERT_TRUE(reader.next(member));
  expect_error(error_of([&] { reader.content(member, 8999); }), {dir.path("a.tar"), "9000 bytes", "8999"});
  ASSERT_TRUE(reader.next(member));
  TarMember again;
  ASSERT_TRUE(file.reader(member.begin).next(again));
  EXPECT_EQ(again.name, "b");
  EXPECT_EQ(again.data, member.data);
  std::filesystem::resize_file(dir.path("a.tar"), 2000);
  std::string bytes(9000, 0);
  expect_error(error_of([&] { file.read(512, bytes.data(), 9000); }), {"became shorter"});
  expect_error(error_of([&] { TarFile(dir.path("none.tar")); }), {"none.tar", "cannot be opened"});
  expect_error(error_of([&] { TarFile(dir.root()); }), {"no regular file"});
}

}  // namespace
}  // namespace entangle
