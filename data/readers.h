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

}  // namespace entangle
