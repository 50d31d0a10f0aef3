// iNaturalist 2018 and 2019: annotations in JSON, classes by a rank of the taxonomy.
#include <algorithm>
#include <filesystem>
#include <iterator>
#include <unordered_map>
#include <utility>

#include "data/file_list.h"
#include "data/json_records.h"
#include "data/readers.h"
#include "engine/check.h"

namespace entangle {

namespace {

namespace fs = std::filesystem;

constexpr const char* kOption = ",category=";
const char* const kRanks[] = {"kingdom", "phylum", "class", "order", "supercategory", "family", "genus", "name"};

// Ids stay the text of a whole number.
using Id = std::string;

const std::string& need(const JsonRecord& record, const char* field, const std::string& path, const char* what) {
  const auto found = record.find(field);
  CHECK(found != record.end(), path, ": ", what, " has no \"", field,
        "\": it is another file or corrupt; fetch it again");
  return found->second;
}

// categories.json: for every category the name of its class.
std::unordered_map<Id, std::string> read_categories(const std::string& path, const std::string& rank) {
  std::unordered_map<Id, std::string> names;
  read_json_records(path, {"id", rank}, [&](const std::string& section, const JsonRecord& record) {
    if (!section.empty()) return;
    const Id& id = need(record, "id", path, "a category");
    CHECK(names.emplace(id, need(record, rank.c_str(), path, "a category")).second, path, ": category ", id,
          " is listed twice; fetch it again");
  });
  CHECK(!names.empty(), path, ": lists no categories; it must be the list of the categories with their taxonomy");
  return names;
}

struct Annotations {
  struct Photo {
    Id id;
    std::string file;
  };
  std::vector<Photo> images;
  std::unordered_map<Id, Id> category;  // of an image
  std::vector<Id> order;                // categories as the annotations have them
};

Annotations read_annotations(const std::string& path) {
  Annotations found;
  const std::vector<std::string> wanted = {"id", "file_name", "image_id", "category_id"};
  read_json_records(path, wanted, [&](const std::string& section, const JsonRecord& record) {
    if (section == "images") {
      found.images.push_back({need(record, "id", path, "an image"), need(record, "file_name", path, "an image")});
    } else if (section == "annotations") {
      const Id& image = need(record, "image_id", path, "an annotation");
      const Id& category = need(record, "category_id", path, "an annotation");
      CHECK(found.category.emplace(image, category).second, path, ": image ", image,
            " has two annotations; fetch the file again");
      found.order.push_back(category);
    }
  });
  CHECK(!found.images.empty() && !found.order.empty(), path, ": has ", found.images.size(), " images and ",
        found.order.size(), " annotations: it is another file or corrupt; fetch it again");
  return found;
}

const std::string& class_of(const std::unordered_map<Id, std::string>& categories, const Id& category,
                            const std::string& path) {
  const auto found = categories.find(category);
  CHECK(found != categories.end(), path, ": names the category ", category, ", which categories.json does not have");
  return found->second;
}

// Classes are numbered as training's annotations first name them.
std::unordered_map<std::string, int64_t> number_classes(const Annotations& train,
                                                        const std::unordered_map<Id, std::string>& categories,
                                                        const std::string& path) {
  std::unordered_map<std::string, int64_t> number;
  for (const Id& category : train.order) {
    number.emplace(class_of(categories, category, path), static_cast<int64_t>(number.size()));
  }
  return number;
}

// "train_val2018/Aves/2820/x.jpg" without its second part.
std::string without_group(const std::string& name) {
  const size_t first = name.find('/'), second = first == std::string::npos ? first : name.find('/', first + 1);
  return second == std::string::npos ? name : name.substr(0, first) + name.substr(second);
}

struct Classes {
  std::unordered_map<Id, std::string> categories;
  std::unordered_map<std::string, int64_t> number;
};

std::shared_ptr<const Dataset> open_part(const std::string& location, const Annotations& part, const Classes& classes,
                                         const std::string& path) {
  for (const Annotations::Photo& image : part.images) check_relative_name(image.file, path);
  // The archive has a folder a group (Aves, ...) above the categories; the published recipe's copy has not.
  std::error_code ignored;
  const bool grouped = fs::exists(fs::path(location) / part.images.front().file, ignored);
  std::vector<LabelledFile> files;
  for (const Annotations::Photo& image : part.images) {
    const auto category = part.category.find(image.id);
    CHECK(category != part.category.end(), path, ": image ", image.id, " (", image.file, ") has no annotation");
    const std::string& name = class_of(classes.categories, category->second, path);
    const auto label = classes.number.find(name);
    CHECK(label != classes.number.end(), path, ": ", image.file, " is of the class ", name,
          ", of which training has no image");
    files.push_back({grouped ? image.file : without_group(image.file), label->second});
  }
  return open_file_list(location, std::move(files), static_cast<int64_t>(classes.number.size()), path);
}

DataSource open_inaturalist(const std::string& spec, const std::string& year) {
  const size_t option = spec.rfind(kOption);
  const std::string location = spec.substr(0, option);
  const std::string rank = option == std::string::npos ? "name" : spec.substr(option + std::string(kOption).size());
  std::string known;
  for (const char* word : kRanks) known += concat(known.empty() ? "" : ", ", word);
  CHECK(std::find(std::begin(kRanks), std::end(kRanks), rank) != std::end(kRanks), "there is no rank \"", rank,
        "\" to divide iNaturalist by; there are ", known);
  const std::string name = "train" + year + ".json", val = "val" + year + ".json";
  check_data_folder(location, "inat" + year.substr(2),
                    concat(name, ", ", val, ", categories.json and the folder train_val", year, " of the images"));
  const std::string train_path = location + "/" + name, val_path = location + "/" + val;
  Classes classes;
  classes.categories = read_categories(location + "/categories.json", rank);
  const Annotations train = read_annotations(train_path);
  classes.number = number_classes(train, classes.categories, train_path);
  return colour_source(open_part(location, train, classes, train_path),
                       open_part(location, read_annotations(val_path), classes, val_path));
}

}  // namespace

DataSource open_inaturalist2018(const std::string& location) { return open_inaturalist(location, "2018"); }
DataSource open_inaturalist2019(const std::string& location) { return open_inaturalist(location, "2019"); }

}  // namespace entangle
