// Cropping and resizing of uint8 images, as the published recipe's image library (Pillow) computes them.
#pragma once

#include <cstdint>
#include <string>

#include "data/image.h"

namespace entangle {

const char* name_of(Interpolation interpolation);
Interpolation parse_interpolation(const std::string& name);  // throws Error naming the known ones

// Throws Error, with the sizes, when the region is empty or leaves the image.
Image crop(const Image& image, const Region& region);

// With antialiasing: each output pixel is the sum of the input pixels under a filter that is as wide as the reduction,
// columns first, then rows, rounded to uint8 after each. bilinear: the triangle of radius 1; bicubic: Keys' cubic with
// a = -1/2, radius 2. Weights have 22 fractional bits. Throws Error for an empty image or size, or more than 65,535
// pixels a side.
Image resize(const Image& image, int64_t width, int64_t height, Interpolation interpolation);

// The same of a part of the image, which the filter does not look beyond. Throws Error as crop and resize do.
Image resized_crop(const Image& image, const Region& region, int64_t width, int64_t height,
                   Interpolation interpolation);

// The same of a region of the whole image that `part` was decoded from and holds; equal to resized_crop of that image
// where nothing is reduced. In a reduced image the region may begin and end within pixels, which the filter's weights
// then follow. Throws Error also when the part does not hold the region.
Image resized_crop(const ImagePart& part, const Region& region, int64_t width, int64_t height,
                   Interpolation interpolation);

// Evaluation (timm, torchvision): the shorter side to int(size * 256 / 224), the longer in proportion and truncated,
// then the size x size centre.
Image resize_for_evaluation(const Image& image, int64_t size, Interpolation interpolation);

}  // namespace entangle
