// make_photos: a folder of JPEG files in ImageNet's layout, made up, for measuring how fast they are loaded.
//
// What decides the time is the number of pixels and of bytes, and bytes follow the spectrum. So each photograph is noise
// whose amplitude falls as its wavelength (octaves of smoothly interpolated noise, three channels that share most of it,
// as photographs have it), under objects with sharp edges and patterns of their own, with some grain of the sensor. At
// 500x375 pixels and quality 90 they have about 110 kB, the mean of ImageNet's.
#include <algorithm>
#include <array>
#include <atomic>
#include <cmath>
#include <cstdio>
#include <filesystem>
#include <string>

#include "data/resize.h"
#include "engine/atomic_file.h"
#include "engine/check.h"
#include "engine/parallel.h"
#include "engine/rng.h"
#include "tools/common/cli.h"
#include "tools/common/encode.h"

namespace entangle {
namespace {

struct Request {
  std::string folder;
  int64_t images = 5000, validation = 500, classes = 10, width = 500, height = 375, quality = 90, short_side = 0;
};

using Plane = std::vector<float>;  // [height, width]

// Adds noise of one wavelength: random values on a grid, smoothly interpolated.
void add_octave(int64_t width, int64_t height, double wavelength, double amplitude, Rng& rng, Plane& plane) {
  const int64_t columns = static_cast<int64_t>(static_cast<double>(width) / wavelength) + 2;
  const int64_t rows = static_cast<int64_t>(static_cast<double>(height) / wavelength) + 2;
  Plane grid(static_cast<size_t>(columns * rows));
  for (float& value : grid) value = static_cast<float>(amplitude * rng.uniform(-1, 1));
  const auto smooth = [](double t) { return static_cast<float>(t * t * (3 - 2 * t)); };
  for (int64_t y = 0; y < height; ++y) {
    const double v = static_cast<double>(y) / wavelength;
    const float* row = grid.data() + static_cast<int64_t>(v) * columns;
    const float down = smooth(v - std::floor(v));
    for (int64_t x = 0; x < width; ++x) {
      const double u = static_cast<double>(x) / wavelength;
      const float* at = row + static_cast<int64_t>(u);
      const float right = smooth(u - std::floor(u));
      const float above = at[0] + right * (at[1] - at[0]);
      const float below = at[columns] + right * (at[columns + 1] - at[columns]);
      plane[static_cast<size_t>(y * width + x)] += above + down * (below - above);
    }
  }
}

Plane noise(int64_t width, int64_t height, double longest, double shortest, double amplitude, Rng& rng) {
  Plane plane(static_cast<size_t>(width * height), 0.0f);
  for (double wavelength = longest; wavelength >= shortest; wavelength /= 2) {
    add_octave(width, height, wavelength, amplitude * std::sqrt(wavelength / longest), rng, plane);
  }
  return plane;
}

// An ellipse, turned; inside of it the colour is another one and the light is striped.
struct Blob {
  double x, y, a, b, cosine, sine, pitch;
  std::array<float, 3> colour;

  Blob(int64_t width, int64_t height, Rng& rng) {
    x = rng.uniform(0, static_cast<double>(width));
    y = rng.uniform(0, static_cast<double>(height));
    a = rng.uniform(0.04, 0.35) * static_cast<double>(width);
    b = a * rng.uniform(0.3, 1);
    const double angle = rng.uniform(0, 3.14159265358979);
    cosine = std::cos(angle);
    sine = std::sin(angle);
    pitch = rng.uniform(4, 40);
    for (float& c : colour) c = static_cast<float>(rng.uniform(-70, 70));
  }
  // How much lighter the pixel is, or nothing outside.
  bool covers(int64_t column, int64_t row, float& light) const {
    const double dx = static_cast<double>(column) - x, dy = static_cast<double>(row) - y;
    const double u = cosine * dx + sine * dy, v = cosine * dy - sine * dx;
    if (u * u / (a * a) + v * v / (b * b) > 1) return false;
    light = static_cast<float>(12 * std::sin(u * 6.2831853 / pitch) - 30 * v / b);
    return true;
  }
};

Image photograph(const Request& request, Rng& rng) {
  const int64_t width = request.width, height = request.height;
  const Plane light = noise(width, height, static_cast<double>(width) / 2, 1.5, rng.uniform(90, 150), rng);
  const float sensor = static_cast<float>(rng.uniform(15, 70));
  std::array<Plane, 3> tint;
  for (Plane& plane : tint) plane = noise(width, height, static_cast<double>(width) / 2, 6, 25, rng);
  std::vector<Blob> blobs;
  for (int64_t i = 0, count = 5 + rng.below(20); i < count; ++i) blobs.emplace_back(width, height, rng);
  Image image = {height, width, 3, {}};
  image.pixels.resize(static_cast<size_t>(width * height * 3));
  for (int64_t y = 0; y < height; ++y) {
    for (int64_t x = 0; x < width; ++x) {
      const size_t at = static_cast<size_t>(y * width + x);
      const Blob* inside = nullptr;
      float shade = 0;
      for (const Blob& blob : blobs) inside = blob.covers(x, y, shade) ? &blob : inside;
      const float grain = sensor * static_cast<float>(rng.uniform(-1, 1));
      for (size_t c = 0; c < 3; ++c) {
        const float value = 120 + light[at] + tint[c][at] + grain + (inside ? shade + inside->colour[c] : 0);
        image.pixels[at * 3 + c] = static_cast<uint8_t>(std::clamp(value, 0.0f, 255.0f));
      }
    }
  }
  return image;
}

// To the short side asked for, in proportion.
Image shrunk(const Image& image, int64_t short_side) {
  if (short_side == 0) return image;
  const int64_t shorter = std::min(image.width, image.height);
  return resize(image, image.width * short_side / shorter, image.height * short_side / shorter, Interpolation::bicubic);
}

void make(const Request& r, const std::string& part, int64_t count, uint64_t seed) {
  namespace fs = std::filesystem;
  const auto folder = [&](int64_t i) {
    return r.folder + "/" + part + "/class" + std::to_string(1000 + i % r.classes);
  };
  for (int64_t c = 0; c < r.classes; ++c) fs::create_directories(folder(c));
  std::atomic<int64_t> bytes{0};
  parallel_for(count, [&](int64_t i) {
    Rng rng(seed, Stream::synthetic, static_cast<uint64_t>(i));
    const std::string path = folder(i) + "/" + std::to_string(i) + ".jpg";
    write_file_atomically(path, encode_jpeg(shrunk(photograph(r, rng), r.short_side), r.quality, path));
    bytes += static_cast<int64_t>(fs::file_size(path));
  });
  std::printf("%s/%s: %lld files of %.1f kB on average\n", r.folder.c_str(), part.c_str(),
              static_cast<long long>(count), 1e-3 * static_cast<double>(bytes) / static_cast<double>(count));
}

}  // namespace
}  // namespace entangle

int main(int argc, char** argv) {
  using namespace entangle;
  Program program("Makes up a folder of JPEG files in ImageNet's layout, with photographs' spectrum, for measuring.",
                  "  ./make_photos runs/photos                                   5000 of 500x375, 110 kB each\n"
                  "  ./make_photos runs/photos256 --short-side 256               the same, shrunk before encoding\n"
                  "  ./bench_loader --data folder:runs/photos\n");
  Request r;
  program.app().add_option("DIR", r.folder, "gets train/CLASS/*.jpg and val/CLASS/*.jpg")->required();
  program.number("--images", r.images, "for training (default 5000)");
  program.number("--validation", r.validation, "beside them (default 500)");
  program.number("--classes", r.classes, "(default 10)");
  program.number("--width", r.width, "pixels (default 500)");
  program.number("--height", r.height, "pixels (default 375)");
  program.number("--quality", r.quality, "of the JPEGs, 1 to 100 (default 90; above 90 chroma is not subsampled)");
  program.number("--short-side", r.short_side, "shrink to that short side first (default 0: do not)");
  return program.run(argc, argv, [&] {
    CHECK(r.classes >= 1 && r.classes <= 9000, "--classes is ", r.classes, ", but must lie in 1 .. 9000");
    for (const int64_t count : {r.images, r.validation}) {
      CHECK(count >= r.classes && count <= 10000000, count, " images: there must be one for each of the ", r.classes,
            " classes, and 10 million at most");
    }
    for (const int64_t side : {r.width, r.height}) {
      CHECK(side >= 8 && side <= 8192, "a side of ", side, " pixels: it must lie in 8 .. 8192");
    }
    CHECK(r.quality >= 1 && r.quality <= 100, "--quality is ", r.quality, ", but must lie in 1 .. 100");
    CHECK(r.short_side >= 0 && r.short_side <= 8192, "--short-side is ", r.short_side, ", but must lie in 0 .. 8192");
    const uint64_t seed = program.seed().value_or(0);
    make(r, "train", r.images, 2 * seed);
    make(r, "val", r.validation, 2 * seed + 1);
  });
}
