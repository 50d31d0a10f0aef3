// Lists of flat objects in large JSON files, read one after another instead of as a tree.
#pragma once

#include <functional>
#include <map>
#include <string>
#include <vector>

namespace entangle {

// The wanted fields of an object that are texts or whole numbers, the latter in decimals.
using JsonRecord = std::map<std::string, std::string>;

// Calls `take` with every object of a list, in the order of the file: of a list that is the whole file with the section "",
// of {"images": [...], "annotations": [...]} with the list's name. Fields that are not `wanted`, objects and lists within an
// object, and whatever else the file holds are passed over. Memory grows with the file, not with what it says; nesting is no
// recursion. Throws Error that begins with `path` when the file cannot be read, is longer than 2 GiB or is not JSON; and
// what `take` throws.
void read_json_records(const std::string& path, const std::vector<std::string>& wanted,
                       const std::function<void(const std::string& section, const JsonRecord& record)>& take);

}  // namespace entangle
