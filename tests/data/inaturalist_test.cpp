// iNaturalist 2018 and 2019: what the reader gives, and what it refuses.
#include <functional>
#include <nlohmann/json.hpp>

#include "tests/data/data_folder.h"

namespace entangle {
namespace {

class INaturalist : public DataFolder {
 protected:
  using Json = nlohmann::json;
  struct Photo {
    std::string group;
    int category;
    int level;
  };

  void SetUp() override {
    write_raw(dir.path("categories.json"),
              Json::array({category(0, "Apis mellifera", "Apis"), category(1, "Apis cerana", "Apis"),
                           category(2, "Parus major", "Parus")})
                  .dump());
    write_part("train2018", {{"Aves", 2, 1}, {"Insecta", 1, 2}, {"Insecta", 0, 3}, {"Aves", 2, 4}});
    write_part("val2018", {{"Insecta", 0, 5}, {"Aves", 2, 6}});
  }
  static Json category(int id, const std::string& name, const std::string& genus) {
    return {{"id", id}, {"name", name}, {"genus", genus}, {"kingdom", "Animalia"}};
  }
  static std::string file_name(const Photo& photo) {
    return "train_val2018/" + photo.group + "/" + std::to_string(photo.category) + "/" + std::to_string(photo.level) +
           ".jpg";
  }
  static Json part(const std::vector<Photo>& photos) {
    Json json = {{"info", {{"year", 2018}, {"deep", {{"images", {1, 2}}}}}},
                 {"images", Json::array()},
                 {"licenses", {{{"id", 1}}}},
                 {"annotations", Json::array()},
                 {"categories", Json::array()}};
    for (const Photo& photo : photos) {
      const int id = 100 + photo.level;
      json["images"].push_back({{"id", id}, {"file_name", file_name(photo)}, {"width", 4}, {"rights", {{"id", 5}}}});
      json["annotations"].push_back({{"id", id}, {"image_id", id}, {"category_id", photo.category}});
    }
    return json;
  }
  void write_part(const std::string& name, const std::vector<Photo>& photos) const {
    write_raw(dir.path(name + ".json"), part(photos).dump());
    for (const Photo& photo : photos) write_image(dir.path(file_name(photo)), photo.level);
  }
};

TEST_F(INaturalist, ClassesInTheOrderOfTrainingsAnnotations) {
  const DataSource source = open_data("inat18:" + dir.root());
  EXPECT_EQ(source.train->classes(), 3);
  EXPECT_EQ(labels(*source.train), (std::vector<int64_t>{0, 1, 2, 0}));
  EXPECT_EQ(labels(*source.test), (std::vector<int64_t>{2, 0}));
  for (int64_t i = 0; i < 4; ++i) EXPECT_EQ(level(*source.train, i), i + 1);
  EXPECT_EQ(source.test->name(1), "train_val2018/Aves/2/6.jpg");
  const DataSource genera = open_data("inat18:" + dir.root() + ",category=genus");
  EXPECT_EQ(genera.train->classes(), 2);
  EXPECT_EQ(labels(*genera.train), (std::vector<int64_t>{0, 1, 1, 0}));
}

TEST_F(INaturalist, ImagesMayLieWithoutTheirGroup) {
  for (const char* group : {"Aves", "Insecta"}) {
    for (const auto& entry : std::filesystem::directory_iterator(dir.path("train_val2018/" + std::string(group)))) {
      std::filesystem::rename(entry.path(), dir.path("train_val2018/" + entry.path().filename().string()));
    }
    std::filesystem::remove(dir.path("train_val2018/" + std::string(group)));
  }
  const DataSource source = open_data("inat18:" + dir.root());
  EXPECT_EQ(level(*source.train, 2), 3);
  EXPECT_EQ(source.train->name(0), "train_val2018/2/1.jpg");
}

TEST_F(INaturalist, TheOtherYear) {
  std::filesystem::rename(dir.path("train2018.json"), dir.path("train2019.json"));
  std::filesystem::rename(dir.path("val2018.json"), dir.path("val2019.json"));
  EXPECT_EQ(open_data("inat19:" + dir.root()).train->size(), 4);
  expect_broken("inat18", {"train2018.json", "No such file"});
}

TEST_F(INaturalist, WhatIsBrokenIsNamed) {
  expect_error([&] { open_data("inat18:" + dir.root() + ",category=species"); }, {"\"species\"", "genus, name"});
  const std::string val = dir.path("val2018.json"), whole = read_raw(val);
  for (const size_t size : {size_t{0}, size_t{1}, whole.size() / 2, whole.size() - 1}) {
    write_raw(val, whole.substr(0, size));
    expect_broken("inat18", {"val2018.json", "no JSON at byte", "fetch it again"});
  }
  write_raw(val, std::string(200000, '['));
  expect_broken("inat18", {"val2018.json", "no JSON"});
  write_raw(val, "{}");
  expect_broken("inat18", {"val2018.json", "0 images and 0 annotations"});
  const auto refused = [&](const std::function<void(Json&)>& spoil, const std::vector<std::string>& parts) {
    Json json = Json::parse(whole);
    spoil(json);
    write_raw(val, json.dump());
    std::vector<std::string> all = {"val2018.json"};
    all.insert(all.end(), parts.begin(), parts.end());
    expect_broken("inat18", all);
  };
  refused([](Json& j) { j["images"][1].erase("file_name"); }, {"an image has no \"file_name\""});
  refused([](Json& j) { j["images"][1]["file_name"] = Json::array(); }, {"an image has no \"file_name\""});
  refused([](Json& j) { j["annotations"][1].erase("category_id"); }, {"an annotation has no \"category_id\""});
  refused([](Json& j) { j["annotations"].erase(1); }, {"image 106", "has no annotation"});
  refused([](Json& j) { j["annotations"][1]["image_id"] = 105; }, {"image 105", "two annotations"});
  refused([](Json& j) { j["annotations"][1]["category_id"] = 3; }, {"category 3", "categories.json"});
  refused([](Json& j) { j["images"][0]["file_name"] = "train_val2018/../../../x/y.jpg"; },
          {"../../../x/y.jpg", "\"..\""});
  refused([](Json& j) { j["images"][0]["file_name"] = "/etc/passwd"; }, {"/etc/passwd", "relative"});
  refused([](Json& j) { j["images"][1]["file_name"] = "train_val2018/Aves/2/9.jpg"; }, {"1 images", "Aves/2/9.jpg"});
  refused([](Json& j) { j["images"][1]["file_name"] = "a\nb"; }, {"control character"});
}

TEST_F(INaturalist, CategoriesThatDoNotFitAreNamed) {
  write_raw(dir.path("categories.json"), Json::array({category(0, "a", "b"), category(0, "c", "d")}).dump());
  expect_broken("inat18", {"categories.json", "category 0", "twice"});
  write_raw(dir.path("categories.json"), R"([{"id": 0}])");
  expect_broken("inat18", {"categories.json", "no \"name\""});
  write_raw(dir.path("categories.json"), R"({"categories": [{"id": 0, "name": "a"}]})");
  expect_broken("inat18", {"categories.json", "lists no categories"});
  SetUp();
  write_part("train2018", {{"Aves", 2, 1}});
  expect_broken("inat18", {"val2018.json", "Apis mellifera", "training has no image"});
}

}  // namespace
}  // namespace entangle
