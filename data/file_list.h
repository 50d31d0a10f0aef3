// What data sets that list image files have in common.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "data/dataset.h"

namespace entangle {

// An image file and its class.
struct LabelledFile {
  std::string name;  // relative to the data set's folder, "/" between folders
  int64_t label = 0;
};

// Image files (JPEG, PNG, BMP) of a folder, decoded when they are asked for; RGB, of any size.
class FileListDataset : public Dataset {
 public:
  // `list` is what names the files, for messages. Throws Error naming it and: a list without files; a name that is empty,
  // absolute or leaves the folder by ".."; a label that is not in 0 .. classes - 1. Classes are called by their number where
  // they have no names.
  FileListDataset(std::string folder, std::vector<LabelledFile> files, int64_t classes, const std::string& list,
                  std::vector<std::string> class_names = {});

  int64_t size() const override { return static_cast<int64_t>(files_.size()); }
  int64_t classes() const override { return classes_; }
  int64_t channels() const override { return 3; }
  int64_t label(int64_t index) const override { return file(index).label; }
  std::string name(int64_t index) const override { return file(index).name; }
  std::string class_name(int64_t label) const override;
  void get(int64_t index, Image& image) const override;
  bool get_file(int64_t index, ImageFile& out) const override;

 private:
  const LabelledFile& file(int64_t index) const;

  std::string folder_;
  std::vector<LabelledFile> files_;
  int64_t classes_;
  std::vector<std::string> class_names_;
};

// The same of files that a list names, rather than the folder itself: throws Error also when any is not there, with the first
// of them and their number.
std::shared_ptr<const Dataset> open_file_list(const std::string& folder, std::vector<LabelledFile> files,
                                              int64_t classes, const std::string& list);

// Throws Error "`list`: ..." when a file name may not be used below a folder: empty, absolute, with a part "..", or with a
// character that no such name has (control characters, backslash).
void check_relative_name(const std::string& name, const std::string& list);

// Normalised as ImageNet's images, which is how the published recipe transfers to every data set of colour images.
DataSource colour_source(std::shared_ptr<const Dataset> train, std::shared_ptr<const Dataset> test);

// Throws Error when there is no folder DIR, whose content `holds` tells.
void check_data_folder(const std::string& location, const std::string& name, const std::string& holds);

}  // namespace entangle
