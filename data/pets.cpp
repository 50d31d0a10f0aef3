// Oxford-IIIT Pets: lists of "NAME CLASS SPECIES BREED" lines.
#include <cstdint>
#include <sstream>

#include "data/file_list.h"
#include "data/gzip.h"
#include "data/readers.h"
#include "engine/check.h"

namespace entangle {

namespace {

constexpr int64_t kClasses = 37;
constexpr uint64_t kLargestList = uint64_t{16} << 20;

std::vector<LabelledFile> read_list(const std::string& path) {
  const std::vector<uint8_t> bytes = read_file(path, kLargestList);
  std::istringstream text(std::string(bytes.begin(), bytes.end()));
  std::vector<LabelledFile> files;
  int64_t number = 0;
  for (std::string line; std::getline(text, line);) {
    ++number;
    if (line.empty() || line[0] == '#') continue;
    std::istringstream words(line);
    std::string name;
    int64_t label = 0, species = 0, breed = 0;
    words >> name >> label >> species >> breed;
    CHECK(!words.fail() && (words >> std::ws).eof(), path, ": line ", number,
          " is not \"NAME CLASS SPECIES BREED\"; fetch the file again");
    CHECK(label >= 1 && label <= kClasses, path, ": line ", number, " has the class ", label, ", but classes are 1 to ",
          kClasses, "; fetch the file again");
    files.push_back({name + ".jpg", label - 1});
  }
  return files;
}

}  // namespace

DataSource open_pets(const std::string& location) {
  check_data_folder(location, "pets", "annotations/trainval.txt, annotations/test.txt and images/*.jpg");
  const std::string train = location + "/annotations/trainval.txt", test = location + "/annotations/test.txt";
  return colour_source(open_file_list(location + "/images", read_list(train), kClasses, train),
                       open_file_list(location + "/images", read_list(test), kClasses, test));
}

}  // namespace entangle
