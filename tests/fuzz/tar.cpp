// A tar archive: every member's header and content. Check sums of what looks like a header are made right first, or hardly
// any change of the fuzzer's would get beyond them.
#include <algorithm>
#include <cstring>
#include <vector>

#include "data/shard_names.h"
#include "data/tar_file.h"
#include "tests/fuzz/fuzz.h"

namespace {

void repair_check_sums(std::vector<uint8_t>& archive) {
  constexpr size_t kCheckSum = 148, kMagic = 257;
  for (size_t at = 0; at + 512 <= archive.size(); at += 512) {
    uint8_t* const header = &archive[at];
    if (std::memcmp(header + kMagic, "ustar", 5) != 0) continue;
    std::fill_n(header + kCheckSum, 8, ' ');
    unsigned sum = 0;
    for (size_t i = 0; i < 512; ++i) sum += header[i];
    for (size_t digit = 6; digit-- > 0; sum >>= 3) header[kCheckSum + digit] = static_cast<uint8_t>('0' + (sum & 7));
  }
}

}  // namespace

FUZZ_TARGET(tar) {
  using namespace entangle;
  std::vector<uint8_t> archive(bytes, bytes + size);
  repair_check_sums(archive);
  TarReader reader("archive", size, [&](uint64_t at, void* to, uint64_t count) {
    fuzz_require(at <= size && count <= size - at, "reads stay within the archive");
    std::memcpy(to, archive.data() + at, count);
  });
  uint64_t end = 0;
  for (TarMember member; reader.next(member);) {
    fuzz_require(member.begin >= end && member.data > member.begin, "members follow one another");
    fuzz_require(member.data <= size && member.size <= size - member.data, "content lies within the archive");
    fuzz_require(!member.name.empty() && member.name[0] != '/', "names are relative");
    fuzz_require(("/" + member.name + "/").find("/../") == std::string::npos, "names stay in their folder");
    fuzz_require(reader.content(member, size).size() == member.size, "content is whole");
    std::string sample, kind;
    split_member_name(member.name, sample, kind);
    end = member.data + member.size;
  }
}
