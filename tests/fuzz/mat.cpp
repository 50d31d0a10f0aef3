// A MATLAB file of level 5: every variable, and what its arrays hold.
#include "data/mat_file.h"

#include "tests/fuzz/fuzz.h"

static void walk(const entangle::MatArray& array) {
  using entangle::fuzz_require;
  using Kind = entangle::MatArray::Kind;
  const uint64_t count = static_cast<uint64_t>(array.count());
  if (array.kind == Kind::numbers) fuzz_require(array.numbers.size() == count, "every number is there");
  if (array.kind == Kind::text) fuzz_require(array.text.size() == count, "every character is there");
  if (array.kind == Kind::cells) fuzz_require(array.members.size() == count, "every cell is there");
  if (array.kind == Kind::structure) {
    fuzz_require(array.members.size() == count * array.fields.size(), "every field is there");
    for (const std::string& field : array.fields) {
      if (count > 0) fuzz_require(array.field(0, field) != nullptr, "fields are found by their names");
    }
  }
  for (const entangle::MatArray& member : array.members) walk(member);
}

FUZZ_TARGET(mat) {
  for (const auto& [name, array] : entangle::parse_mat({bytes, bytes + size}, "file")) walk(array);
}
