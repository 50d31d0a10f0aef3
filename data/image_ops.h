// Colour and geometry of uint8 RGB images, as the published recipe's image library (Pillow) computes them: the operations
// that RandAugment draws from. All work in place on [height, width, 3].
#pragma once

#include <array>
#include <cstdint>

#include "data/image.h"

namespace entangle {

using Colour = std::array<uint8_t, 3>;

// Value by value, each channel by itself.
void auto_contrast(Image& image);                                  // darkest to 0, brightest to 255
void equalize(Image& image);                                       // a flat histogram, as far as values stay together
void invert(Image& image);                                         // 255 - v
void posterize(Image& image, int bits);                            // the upper bits of 8; 0: black
void solarize(Image& image, int threshold);                        // 255 - v from the threshold on
void solarize_add(Image& image, int addend, int threshold = 128);  // v + addend, at most 255, below the threshold

void mirror(Image& image);  // left to right

// Away from (factor > 1) or towards (factor < 1) another image: other + factor (image - other), cut off at 0 and 255.
void adjust_colour(Image& image, double factor);      // from the grey image
void adjust_contrast(Image& image, double factor);    // from its mean grey
void adjust_brightness(Image& image, double factor);  // from black
void adjust_sharpness(Image& image, double factor);   // from the image smoothed by 3x3 (the border is not)

// Output pixel (x, y) shows the input at (a x + b y + c, d x + e y + f), both at pixel centres; `fill` where that lies
// outside. bicubic: the cubic with a = -1.
struct Affine {
  double a = 1, b = 0, c = 0, d = 0, e = 1, f = 0;
};
void apply_transform(const Affine& affine, Interpolation interpolation, const Colour& fill, Image& image);
Image transform(const Image& image, const Affine& affine, Interpolation interpolation, const Colour& fill);

Affine rotation(double degrees, int64_t width, int64_t height);  // counter-clockwise, about the centre
Affine shear_x(double factor);
Affine shear_y(double factor);
Affine translation(double right, double down);  // in pixels: where the input is looked up

}  // namespace entangle
