// One reader for each data set, each in a file of its own, listed in the table of dataset.cpp.
//
// `location` is what follows the colon of a --data specification, empty when there is none. A reader fills everything
// but DataSource::spec and throws Error that names the file or folder that is missing or broken.
#pragma once

#include <string>

#include "data/dataset.h"

namespace entangle {

// IDX files (unsigned bytes, gzipped or plain) under the names that MNIST gave them: train-images-idx3-ubyte[.gz],
// train-labels-idx1-ubyte[.gz], t10k-images-idx3-ubyte[.gz], t10k-labels-idx1-ubyte[.gz]. 28x28 grey images, ten
// classes. The default folder is where the Debian package dataset-fashion-mnist puts them.
DataSource open_fashion_mnist(const std::string& location);

// Folders of JPEG, PNG or BMP files, one folder a class, classes in the order of their names: DIR/train/CLASS/* for training
// and DIR/val/CLASS/* for the final answer, with the same classes. Files are decoded when they are asked for. RGB images of
// any size, normalised as ImageNet's. `imagenet` must have 1000 classes.
DataSource open_imagenet(const std::string& location);
DataSource open_image_folder(const std::string& location);

// WebDataset tar shards: a sample is a run of members that share their name up to the first dot of the last component,
// with an image (.jpg, .jpeg, .png, .bmp) and the class as a number (.cls); other members are passed over. `location`:
//   DIR              the shards train*.tar and val*.tar (or validation*.tar, test*.tar) of a folder
//   TRAIN            training shards, "{000000..000146}" and "{a,b}" expanded, lists joined by "::"; for the final answer
//                    the shards beside them that are called val, validation or test where the first is called train
//   TRAIN,VAL        both given
// There are as many classes as lines in the file classes.txt beside the shards, or else as the largest label tells.
// Headers are read once, here; images when they are asked for. Training reads shard after shard, see
// Dataset::epoch_order. Images are RGB of any size, normalised as ImageNet's.
DataSource open_shards(const std::string& location, const DataOptions& options);

// All below: RGB, normalised as ImageNet's whatever the data (the published recipe's transfer); lists that name a file which
// is not there, or one outside of DIR, are refused here.

// The binary version, 32x32 pixels: data_batch_1.bin to data_batch_5.bin and test_batch.bin; for CIFAR-100 train.bin and
// test.bin, fine labels. In DIR or in the folder of the published archive.
DataSource open_cifar10(const std::string& location);
DataSource open_cifar100(const std::string& location);

// jpg/image_NNNNN.jpg, imagelabels.mat, setid.mat: the 2,040 images of its training and validation parts train, the 6,149 of
// its test part are for the final answer.
DataSource open_flowers102(const std::string& location);

// devkit/cars_train_annos.mat with cars_train/*, cars_test_annos_withlabels.mat (in DIR or DIR/devkit) with cars_test/*.
DataSource open_cars(const std::string& location);

// annotations/trainval.txt, annotations/test.txt, images/*.jpg; the 37 breeds.
DataSource open_pets(const std::string& location);

// train2018.json and val2018.json (or 2019), categories.json with the taxonomy, and train_val2018/GROUP/CATEGORY/*.jpg or, as
// in the published recipe's copy, train_val2018/CATEGORY/*.jpg. `location` is DIR or DIR,category=RANK: classes are the names
// in the rank ("name", the species, without it), numbered as training's annotations first have them.
DataSource open_inaturalist2018(const std::string& location);
DataSource open_inaturalist2019(const std::string& location);

}  // namespace entangle
