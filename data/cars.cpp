// Stanford Cars: a MATLAB structure an image, of the development kit.
#include <cmath>
#include <filesystem>

#include "data/file_list.h"
#include "data/mat_file.h"
#include "data/readers.h"
#include "engine/check.h"

namespace entangle {

namespace {

constexpr int64_t kClasses = 196;

const MatArray& field_of(const MatArray& annotations, int64_t entry, const char* name, MatArray::Kind kind,
                         const std::string& path) {
  const MatArray* field = annotations.field(entry, name);
  CHECK(field != nullptr && field->kind == kind, path, ": annotation ", entry + 1, " has no field \"", name, "\" with ",
        kind == MatArray::Kind::text ? "a text" : "a number",
        "; labels of the test images are in cars_test_annos_withlabels.mat");
  return *field;
}

std::vector<LabelledFile> read_annotations(const std::string& path) {
  const MatVariables file = read_mat_file(path);
  const auto found = file.find("annotations");
  CHECK(found != file.end() && found->second.kind == MatArray::Kind::structure, path,
        ": has no structure called \"annotations\": it is another file or corrupt; fetch it again");
  std::vector<LabelledFile> files;
  for (int64_t i = 0; i < found->second.count(); ++i) {
    const MatArray& label = field_of(found->second, i, "class", MatArray::Kind::numbers, path);
    const double value = label.numbers.size() == 1 ? label.numbers[0] : 0;
    CHECK(value >= 1 && value <= kClasses && value == std::floor(value), path, ": annotation ", i + 1,
          " has the class ", value, ", but classes are 1 to ", kClasses, "; fetch it again");
    files.push_back(
        {field_of(found->second, i, "fname", MatArray::Kind::text, path).text, static_cast<int64_t>(value) - 1});
  }
  return files;
}

// The labels of the test images came later than the kit, and lie beside it or in it.
std::string test_annotations(const std::string& location) {
  const std::string name = "cars_test_annos_withlabels.mat";
  std::error_code ignored;
  for (const std::string& path : {location + "/" + name, location + "/devkit/" + name}) {
    if (std::filesystem::exists(path, ignored)) return path;
  }
  RAISE(location, ": there is no ", name, ", neither here nor in devkit");
}

}  // namespace

DataSource open_cars(const std::string& location) {
  check_data_folder(location, "cars",
                    "devkit/cars_train_annos.mat, cars_test_annos_withlabels.mat, cars_train/* and cars_test/*");
  const std::string train_path = location + "/devkit/cars_train_annos.mat", test_path = test_annotations(location);
  return colour_source(open_file_list(location + "/cars_train", read_annotations(train_path), kClasses, train_path),
                       open_file_list(location + "/cars_test", read_annotations(test_path), kClasses, test_path));
}

}  // namespace entangle
