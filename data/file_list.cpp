#include "data/file_list.h"

#include <algorithm>
#include <filesystem>
#include <utility>

#include "data/decode.h"
#include "engine/check.h"

namespace entangle {

namespace fs = std::filesystem;

FileListDataset::FileListDataset(std::string folder, std::vector<LabelledFile> files, int64_t classes,
                                 const std::string& list, std::vector<std::string> class_names)
    : folder_(std::move(folder)), files_(std::move(files)), classes_(classes), class_names_(std::move(class_names)) {
  CHECK(!files_.empty(), list, ": names no images");
  for (const LabelledFile& file : files_) {
    check_relative_name(file.name, list);
    CHECK(file.label >= 0 && file.label < classes_, list, ": ", file.name, " is of class ", file.label,
          ", but there are ", classes_, " classes, counted from 0");
  }
}

const LabelledFile& FileListDataset::file(int64_t index) const {
  CHECK(index >= 0 && index < size(), "there is no image ", index, " in ", folder_, ", which holds ", size());
  return files_[static_cast<size_t>(index)];
}

void FileListDataset::get(int64_t index, Image& image) const {
  static thread_local ImageFile own;
  get_file(index, own);
  EncodedImage(own.bytes, own.name).decode(image);
}

bool FileListDataset::get_file(int64_t index, ImageFile& out) const {
  out.name = folder_ + "/" + file(index).name;
  read_image_file(out.name, out.bytes);
  return true;
}

std::string FileListDataset::class_name(int64_t label) const {
  return class_names_.empty() ? std::to_string(label) : class_names_.at(static_cast<size_t>(label));
}

std::shared_ptr<const Dataset> open_file_list(const std::string& folder, std::vector<LabelledFile> files,
                                              int64_t classes, const std::string& list) {
  const auto dataset = std::make_shared<FileListDataset>(folder, std::move(files), classes, list);
  int64_t missing = 0, first = 0;
  for (int64_t i = 0; i < dataset->size(); ++i) {
    std::error_code ignored;
    if (fs::is_regular_file(fs::path(folder) / dataset->name(i), ignored)) continue;
    if (missing++ == 0) first = i;
  }
  CHECK(missing == 0, list, ": names ", missing, " images that ", folder, " does not have, of ", dataset->size(),
        "; the first is ", dataset->name(first));
  return dataset;
}

void check_relative_name(const std::string& name, const std::string& list) {
  const bool printable = std::all_of(
      name.begin(), name.end(), [](char c) { return static_cast<unsigned char>(c) >= 0x20 && c != 0x7F && c != '\\'; });
  CHECK(printable, list, ": a file's name has a control character or a backslash; fetch the list again");
  const fs::path path(name);
  CHECK(!name.empty() && path.is_relative() && std::find(path.begin(), path.end(), "..") == path.end(), list, ": \"",
        name, "\" is no name of a file below the data set's folder: it must be relative and without \"..\"");
}

DataSource colour_source(std::shared_ptr<const Dataset> train, std::shared_ptr<const Dataset> test) {
  DataSource source;
  source.train = std::move(train);
  source.test = std::move(test);
  source.mean = {0.485f, 0.456f, 0.406f};
  source.std_dev = {0.229f, 0.224f, 0.225f};
  source.any_size = true;
  return source;
}

void check_data_folder(const std::string& location, const std::string& name, const std::string& holds) {
  CHECK(!location.empty(), "name the folder of the data set, as in ", name, ":DIR; it holds ", holds);
  std::error_code ignored;
  CHECK(fs::is_directory(location, ignored), location, ": there is no such folder; for ", name, " it must hold ",
        holds);
}

}  // namespace entangle
