// Oxford Flowers-102, Stanford Cars and Oxford-IIIT Pets: what the readers give, and what they refuse.
#include "tests/data/data_folder.h"
#include "tests/data/mat_writer.h"

namespace entangle {
namespace {

class Flowers : public DataFolder {
 protected:
  void SetUp() override {
    for (int i = 1; i <= 6; ++i) write_image(image(i), 10 * i);
    write_labels({102, 1, 50, 2, 3, 4});
    write_split({2, 1}, {6}, {5, 3, 4});
  }
  std::string image(int number) const { return dir.path("jpg/image_0000" + std::to_string(number) + ".jpg"); }
  // As published: both files compressed, numbers of double arrays in bytes and in 16 bits.
  void write_labels(const Bytes& labels) const {
    write(dir.path("imagelabels.mat"), mat::file({mat::compressed(mat::byte_row(labels, "labels"))}));
  }
  void write_split(const std::vector<double>& train, const std::vector<double>& valid,
                   const std::vector<double>& test) const {
    write(dir.path("setid.mat"),
          mat::file({mat::compressed(mat::double_row(train, "trnid")), mat::compressed(mat::double_row(valid, "valid")),
                     mat::compressed(mat::double_row(test, "tstid"))}));
  }
};

TEST_F(Flowers, TrainingAndValidationTrain) {
  const DataSource source = open_data("flowers102:" + dir.root());
  EXPECT_EQ(source.train->classes(), 102);
  EXPECT_EQ(labels(*source.train), (std::vector<int64_t>{0, 101, 3}));
  EXPECT_EQ(labels(*source.test), (std::vector<int64_t>{2, 49, 1}));
  EXPECT_EQ(source.train->name(0), "image_00002.jpg");
  EXPECT_EQ(level(*source.train, 0), 20);
  EXPECT_EQ(level(*source.test, 1), 30);
  EXPECT_TRUE(source.any_size);
}

TEST_F(Flowers, WhatIsBrokenIsNamed) {
  write_labels({102, 1, 50, 2, 3, 103});
  expect_broken("flowers102", {"imagelabels.mat", "\"labels\"", "103", "1 .. 102"});
  write_labels({0});
  expect_broken("flowers102", {"imagelabels.mat", "value 0"});
  write_labels({1, 2, 3, 4, 5});
  expect_broken("flowers102", {"setid.mat", "\"valid\"", "6", "1 .. 5"});
  write_labels({1, 2, 3, 4, 5, 6});
  write_split({2, 1}, {1}, {5});
  expect_broken("flowers102", {"setid.mat", "image 1", "listed twice"});
  write_split({2, 1.5}, {3}, {5});
  expect_broken("flowers102", {"setid.mat", "1.5", "whole numbers"});
  write_split({1}, {2}, {});
  expect_broken("flowers102", {"setid.mat", "names no images"});
  write(dir.path("setid.mat"), mat::file({mat::text("1", "trnid")}));
  expect_broken("flowers102", {"setid.mat", "no numbers called \"trnid\""});
  write(dir.path("setid.mat"), Bytes(200, 0));
  expect_broken("flowers102", {"setid.mat", "no MATLAB file"});
  write_split({2, 1}, {6}, {5, 3, 4});
  std::filesystem::remove(image(3));
  std::filesystem::remove(image(4));
  expect_broken("flowers102", {"setid.mat", "2 images", "of 3", "image_00003.jpg"});
  std::filesystem::remove(dir.path("imagelabels.mat"));
  expect_broken("flowers102", {"imagelabels.mat", "No such file"});
}

// ---- Stanford Cars ----

class Cars : public DataFolder {
 protected:
  using Entry = std::pair<std::string, double>;

  void SetUp() override {
    std::filesystem::create_directory(dir.path("devkit"));
    write_image(dir.path("cars_train/00001.jpg"), 1);
    write_image(dir.path("cars_train/00002.jpg"), 2);
    write_image(dir.path("cars_test/00001.jpg"), 3);
    write_annotations(kTrain, {{"00001.jpg", 14}, {"00002.jpg", 196}});
    write_annotations("cars_test_annos_withlabels.mat", {{"00001.jpg", 1}});
  }
  // The fields of the kit, boxes included.
  void write_annotations(const std::string& name, const std::vector<Entry>& entries) const {
    std::vector<Bytes> members;
    for (const auto& [file, label] : entries) {
      for (int edge = 0; edge < 4; ++edge) members.push_back(mat::double_row({300.0 + edge}));
      members.push_back(mat::double_row({label}));
      members.push_back(mat::text(file));
    }
    const Bytes array =
        mat::structure({"bbox_x1", "bbox_y1", "bbox_x2", "bbox_y2", "class", "fname"}, members, "annotations");
    write(dir.path(name), mat::file({mat::compressed(array)}));
  }

  static constexpr const char* kTrain = "devkit/cars_train_annos.mat";
};

TEST_F(Cars, ClassesCountFromZero) {
  for (const char* place : {"", "devkit/"}) {
    const std::string name = "cars_test_annos_withlabels.mat";
    std::filesystem::remove(dir.path(name));
    write_annotations(place + name, {{"00001.jpg", 1}});
    const DataSource source = open_data("cars:" + dir.root());
    EXPECT_EQ(source.train->classes(), 196);
    EXPECT_EQ(labels(*source.train), (std::vector<int64_t>{13, 195}));
    EXPECT_EQ(labels(*source.test), (std::vector<int64_t>{0}));
    EXPECT_EQ(level(*source.train, 1), 2);
    EXPECT_EQ(level(*source.test, 0), 3);
  }
}

TEST_F(Cars, WhatIsBrokenIsNamed) {
  write_annotations(kTrain, {{"00001.jpg", 197}});
  expect_broken("cars", {kTrain, "annotation 1", "class 197", "1 to 196"});
  write_annotations(kTrain, {{"00001.jpg", 1}, {"../../etc/passwd", 1}});
  expect_broken("cars", {kTrain, "../../etc/passwd", "without \"..\""});
  write_annotations(kTrain, {{"/etc/passwd", 1}});
  expect_broken("cars", {kTrain, "/etc/passwd", "relative"});
  write_annotations(kTrain, {{"00003.jpg", 1}});
  expect_broken("cars", {kTrain, "1 images", "00003.jpg"});
  // The test list that came with the kit has no classes.
  write(dir.path(kTrain), mat::file({mat::structure({"fname"}, {mat::text("00001.jpg")}, "annotations")}));
  expect_broken("cars", {kTrain, "annotation 1", "\"class\"", "withlabels"});
  write(dir.path(kTrain), mat::file({mat::byte_row({1}, "annotations")}));
  expect_broken("cars", {kTrain, "no structure called \"annotations\""});
  write(dir.path(kTrain), mat::file({mat::structure({"fname", "class"}, {}, "annotations")}));
  expect_broken("cars", {kTrain, "names no images"});
  std::filesystem::remove(dir.path("cars_test_annos_withlabels.mat"));
  expect_broken("cars", {"no cars_test_annos_withlabels.mat"});
}

class Pets : public DataFolder {
 protected:
  void SetUp() override {
    std::filesystem::create_directory(dir.path("annotations"));
    for (const char* name : {"Abyssinian_100", "yorkshire_terrier_2", "Bengal_9"}) {
      write_image(dir.path("images/" + std::string(name) + ".jpg"), name[0]);
    }
    write_raw(dir.path("annotations/trainval.txt"),
              "# NAME CLASS SPECIES BREED\nAbyssinian_100 1 1 1\r\n"
              "yorkshire_terrier_2 37 2 25\n");
    write_raw(dir.path("annotations/test.txt"), "Bengal_9 6 1 2");
  }
};

TEST_F(Pets, BreedsCountFromZero) {
  const DataSource source = open_data("pets:" + dir.root());
  EXPECT_EQ(source.train->classes(), 37);
  EXPECT_EQ(labels(*source.train), (std::vector<int64_t>{0, 36}));
  EXPECT_EQ(labels(*source.test), (std::vector<int64_t>{5}));
  EXPECT_EQ(level(*source.train, 1), 'y');
  EXPECT_EQ(source.train->name(1), "yorkshire_terrier_2.jpg");
}

TEST_F(Pets, WhatIsBrokenIsNamed) {
  const auto refused = [&](const std::string& list, const std::vector<std::string>& parts) {
    write_raw(dir.path("annotations/test.txt"), list);
    std::vector<std::string> all = {"annotations/test.txt"};
    all.insert(all.end(), parts.begin(), parts.end());
    expect_broken("pets", all);
  };
  refused("", {"names no images"});
  refused("Bengal_9 6 1 2\nBengal_9 6\n", {"line 2", "NAME CLASS SPECIES BREED"});
  refused("Bengal_9 6 1 2 5\n", {"line 1", "NAME CLASS SPECIES BREED"});
  refused("Bengal_9 six 1 2\n", {"line 1", "NAME CLASS SPECIES BREED"});
  refused("Bengal_9 38 1 2\n", {"line 1", "class 38", "1 to 37"});
  refused("Bengal_9 0 1 2\n", {"line 1", "class 0"});
  refused("../images/Bengal_9 6 1 2\n", {"../images/Bengal_9.jpg", "without \"..\""});
  refused("Bengal_10 6 1 2\n", {"1 images", "Bengal_10.jpg"});
  std::filesystem::remove(dir.path("annotations/test.txt"));
  expect_broken("pets", {"annotations/test.txt", "No such file"});
}

}  // namespace
}  // namespace entangle
