// Images in folders, one folder a class.
#include <algorithm>
#include <filesystem>
#include <system_error>
#include <utility>

#include "data/decode.h"
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

class FolderDataset : public Dataset {
 public:
  explicit FolderDataset(const fs::path& folder) : folder_(folder.string()) {
    for (const fs::path& path : sorted_entries(folder, [](const auto& entry) { return entry.is_directory(); })) {
      const int64_t label = static_cast<int64_t>(names_.size());
      names_.push_back(path.filename().string());
      const size_t before = files_.size();
      for (const fs::path& file : sorted_entries(path, [](const auto& entry) { return is_image(entry.path()); })) {
        files_.push_back({names_.back() + "/" + file.filename().string(), label});
      }
      CHECK(files_.size() > before, path.string(), ": holds no image (.jpg, .jpeg, .png, .bmp)");
    }
    CHECK(!names_.empty(), folder_, ": holds no class folders");
  }

  const std::vector<std::string>& names() const { return names_; }
  int64_t size() const override { return static_cast<int64_t>(files_.size()); }
  int64_t classes() const override { return static_cast<int64_t>(names_.size()); }
  int64_t channels() const override { return 3; }
  int64_t label(int64_t index) const override { return file(index).label; }
  void get(int64_t index, Image& image) const override { image = read_image(folder_ + "/" + file(index).name); }

 private:
  struct File {
    std::string name;  // within the folder
    int64_t label;
  };
  const File& file(int64_t index) const {
    CHECK(index >= 0 && index < size(), "there is no image ", index, " in ", folder_, ", which holds ", size());
    return files_[static_cast<size_t>(index)];
  }

  std::string folder_;
  std::vector<std::string> names_;
  std::vector<File> files_;
};

// The first name that one sorted list has and the other has not.
std::string first_missing(const std::vector<std::string>& of, const std::vector<std::string>& in) {
  for (const std::string& name : of) {
    if (!std::binary_search(in.begin(), in.end(), name)) return name;
  }
  return "";
}

void check_classes(const std::string& location, const FolderDataset& train, const FolderDataset& val) {
  const std::string only_train = first_missing(train.names(), val.names());
  CHECK(only_train.empty(), location, ": class ", only_train, " is in train but not in val");
  const std::string only_val = first_missing(val.names(), train.names());
  CHECK(only_val.empty(), location, ": class ", only_val, " is in val but not in train");
}

}  // namespace

DataSource open_image_folder(const std::string& location) {
  CHECK(!location.empty(), "name the folder of the images, as in folder:DIR; it holds train/CLASS/* and val/CLASS/*");
  for (const char* part : {"train", "val"}) {
    CHECK(fs::is_directory(fs::path(location) / part), location, ": there is no folder ", part,
          "; it must hold train/CLASS/* and val/CLASS/*");
  }
  const auto train = std::make_shared<FolderDataset>(fs::path(location) / "train");
  const auto val = std::make_shared<FolderDataset>(fs::path(location) / "val");
  check_classes(location, *train, *val);
  DataSource source;
  source.train = train;
  source.test = val;
  source.mean = {0.485f, 0.456f, 0.406f};
  source.std_dev = {0.229f, 0.224f, 0.225f};
  source.any_size = true;
  return source;
}

DataSource open_imagenet(const std::string& location) {
  DataSource source = open_image_folder(location);
  CHECK(source.train->classes() == kImageNetClasses, location, ": has ", source.train->classes(),
        " classes, but ImageNet has ", kImageNetClasses, "; use folder:", location);
  return source;
}

}  // namespace entangle
