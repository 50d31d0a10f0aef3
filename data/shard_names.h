// Which files a WebDataset specification names, and how their members are called.
#pragma once

#include <string>
#include <vector>

namespace entangle {

// Beside the training shards: the classes' names, one a line; and what is there while they are being packed.
inline constexpr const char* kClassList = "classes.txt";
inline constexpr const char* kUnfinishedPack = "unfinished";

// The shards of a data set's two parts.
struct ShardLists {
  std::vector<std::string> train, val;  // paths
};

// `location` as open_shards takes it (data/readers.h). Throws Error when it names no shards for one of the two, or is
// malformed. That files exist is not checked, but where they are looked up in a folder.
ShardLists find_shards(const std::string& location);

// "a{0..2}b{x,y}" as a shell expands it: every combination, the last group varying fastest; numbers keep leading zeros.
// Throws Error for an unbalanced brace, a range that goes down, or more than a million results.
std::vector<std::string> expand_braces(const std::string& pattern);

// A member's sample and what it is of it: "x/a.seg.png" -> "x/a" and "seg.png", in lower case. The dot is the first of
// the last component. False for a name without a dot, or with nothing before it.
bool split_member_name(const std::string& name, std::string& sample, std::string& kind);

}  // namespace entangle
