// Oxford Flowers-102: numbered images, their labels and the split in MATLAB files.
#include <cmath>
#include <cstdio>
#include <set>

#include "data/file_list.h"
#include "data/mat_file.h"
#include "data/readers.h"
#include "engine/check.h"

namespace entangle {

namespace {

constexpr int64_t kClasses = 102;

std::vector<int64_t> whole_numbers(const MatVariables& file, const std::string& variable, const std::string& path,
                                   int64_t low, int64_t high) {
  const auto found = file.find(variable);
  CHECK(found != file.end() && found->second.kind == MatArray::Kind::numbers, path, ": has no numbers called \"",
        variable, "\": it is another file or corrupt; fetch it again");
  std::vector<int64_t> values;
  for (const double value : found->second.numbers) {
    CHECK(value >= static_cast<double>(low) && value <= static_cast<double>(high) && value == std::floor(value), path,
          ": \"", variable, "\" has the value ", value, ", but its values are whole numbers in ", low, " .. ", high,
          "; fetch it again");
    values.push_back(static_cast<int64_t>(value));
  }
  return values;
}

std::string file_name(int64_t number) {
  char name[40];
  std::snprintf(name, sizeof name, "image_%05lld.jpg", static_cast<long long>(number));
  return name;
}

}  // namespace

DataSource open_flowers102(const std::string& location) {
  check_data_folder(location, "flowers102", "jpg/image_00001.jpg, ..., imagelabels.mat and setid.mat");
  const std::string labels_path = location + "/imagelabels.mat", split_path = location + "/setid.mat";
  const std::vector<int64_t> labels = whole_numbers(read_mat_file(labels_path), "labels", labels_path, 1, kClasses);
  const MatVariables split = read_mat_file(split_path);
  std::set<int64_t> seen;
  const auto append = [&](const char* part, std::vector<LabelledFile>& files) {
    const int64_t images = static_cast<int64_t>(labels.size());
    for (const int64_t number : whole_numbers(split, part, split_path, 1, images)) {
      CHECK(seen.insert(number).second, split_path, ": image ", number, " is listed twice; fetch it again");
      files.push_back({file_name(number), labels[static_cast<size_t>(number - 1)] - 1});
    }
  };
  std::vector<LabelledFile> train, test;
  append("trnid", train);
  append("valid", train);
  append("tstid", test);
  return colour_source(open_file_list(location + "/jpg", train, kClasses, split_path),
                       open_file_list(location + "/jpg", test, kClasses, split_path));
}

}  // namespace entangle
