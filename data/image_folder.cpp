// Images in folders, one folder a class.
#include <algorithm>
#include <filesystem>
#include <system_error>
#include <utility>

#include "data/file_list.h"
#include "data/readers.h"
#include "engine/check.h"

namespace entangle {

namespace {

namespace fs = std::filesystem;

constexpr int64_t kImageNetClasses = 1000;
const char* const kExtensions[] = {".jpg", ".jpeg", ".png", ".bmp"};

bool is_image(const fs::path& path) {
  std::string extension = path.extension().string();
  std::transform(extension.begin(), extension.end(), extension.begin(),
                 [](char c) { return static_cast<char>(c >= 'A' && c <= 'Z' ? c - 'A' + 'a' : c); });
  return std::find(std::begin(kExtensions), std::end(kExtensions), extension) != std::end(kExtensions);
}

// What a folder holds and `wanted` accepts, sorted by name: the order of a folder itself differs between machines.
template <class F>
std::vector<fs::path> sorted_entries(const fs::path& folder, F wanted) {
  std::error_code error;
  std::vector<fs::path> entries;
  for (fs::directory_iterator it(folder, error), end; !error && it != end; it.increment(error)) {
    if (wanted(*it)) entries.push_back(it->path());
  }
  CHECK(!error, folder.string(), ": cannot be read (", error.message(), ")");
  std::sort(entries.begin(), entries.end());
  return entries;
}

// The images of a folder and the names of their classes.
struct Folder {
  std::vector<std::string> classes;
  std::vector<LabelledFile> files;
};

Folder list_folder(const fs::path& folder) {
  Folder found;
  for (const fs::path& path : sorted_entries(folder, [](const auto& entry) { return entry.is_directory(); })) {
    const int64_t label = static_cast<int64_t>(found.classes.size());
    found.classes.push_back(path.filename().string());
    const size_t before = found.files.size();
    for (const fs::path& file : sorted_entries(path, [](const auto& entry) { return is_image(entry.path()); })) {
      found.files.push_back({found.classes.back() + "/" + file.filename().string(), label});
    }
    CHECK(found.files.size() > before, path.string(), ": holds no image (.jpg, .jpeg, .png, .bmp)");
  }
  CHECK(!found.classes.empty(), folder.string(), ": holds no class folders");
  return found;
}

std::shared_ptr<const Dataset> as_dataset(const fs::path& path, Folder folder) {
  const int64_t classes = static_cast<int64_t>(folder.classes.size());
  return std::make_shared<FileListDataset>(path.string(), std::move(folder.files), classes, path.string(),
                                           std::move(folder.classes));
}

// The first name that one sorted list has and the other has not.
std::string first_missing(const std::vector<std::string>& of, const std::vector<std::string>& in) {
  for (const std::string& name : of) {
    if (!std::binary_search(in.begin(), in.end(), name)) return name;
  }
  return "";
}

void check_classes(const std::string& location, const Folder& train, const Folder& val) {
  const std::string only_train = first_missing(train.classes, val.classes);
  CHECK(only_train.empty(), location, ": class ", only_train, " is in train but not in val");
  const std::string only_val = first_missing(val.classes, train.classes);
  CHECK(only_val.empty(), location, ": class ", only_val, " is in val but not in train");
}

}  // namespace

DataSource open_image_folder(const std::string& location) {
  CHECK(!location.empty(), "name the folder of the images, as in folder:DIR; it holds train/CLASS/* and val/CLASS/*");
  for (const char* part : {"train", "val"}) {
    CHECK(fs::is_directory(fs::path(location) / part), location, ": there is no folder ", part,
          "; it must hold train/CLASS/* and val/CLASS/*");
  }
  const fs::path train_path = fs::path(location) / "train", val_path = fs::path(location) / "val";
  Folder train = list_folder(train_path), val = list_folder(val_path);
  check_classes(location, train, val);
  return colour_source(as_dataset(train_path, std::move(train)), as_dataset(val_path, std::move(val)));
}

DataSource open_imagenet(const std::string& location) {
  DataSource source = open_image_folder(location);
  CHECK(source.train->classes() == kImageNetClasses, location, ": has ", source.train->classes(),
        " classes, but ImageNet has ", kImageNetClasses, "; use folder:", location);
  return source;
}

}  // namespace entangle
