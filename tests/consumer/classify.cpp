// What a program writes that embeds a trained network: ./classify WEIGHTS ARCHITECTURE PHOTO.ppm prints the logits of the photo,
// then those of two images of zeros.
#include <entangle/inference.h>

#include <cstdio>
#include <exception>
#include <fstream>
#include <stdexcept>
#include <string>

namespace {

struct Pixels {
  int64_t width = 0, height = 0;
  std::vector<uint8_t> values;
};

// A PPM image without comments.
Pixels read_photo(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  std::string magic;
  Pixels out;
  int64_t largest = 0;
  in >> magic >> out.width >> out.height >> largest;
  in.get();
  if (!in || magic != "P6" || largest != 255) throw std::runtime_error(path + " is no PPM image");
  out.values.resize(static_cast<size_t>(3 * out.width * out.height));
  in.read(reinterpret_cast<char*>(out.values.data()), static_cast<std::streamsize>(out.values.size()));
  if (!in) throw std::runtime_error(path + " is cut short");
  return out;
}

void classify(const std::string& weights, const std::string& architecture, const std::string& path) {
  const entangle::inference::Model model(weights);
  const entangle::inference::Info& info = model.info();
  const entangle::inference::Subnet subnet = model.subnet(architecture);
  const Pixels photo = read_photo(path);
  for (const float logit : subnet.logits({photo.values.data(), photo.width, photo.height, 3}))
    std::printf("%.9g\n", logit);
  const std::vector<float> zeros(static_cast<size_t>(2 * info.channels * info.image_size * info.image_size));
  for (const float logit : subnet.logits(zeros.data(), 2)) std::printf("%.9g\n", logit);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 4) {
    std::fprintf(stderr, "usage: %s WEIGHTS ARCHITECTURE PHOTO.ppm\n", argv[0]);
    return 2;
  }
  try {
    classify(argv[1], argv[2], argv[3]);
    return 0;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "error: %s\n", error.what());
    return 1;
  }
}
