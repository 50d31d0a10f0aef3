// Runs one exported subnet, with nothing but a C++17 compiler and its standard library:
//
//   g++ -O2 runner.cpp -o runner && ./runner best.safetensors image.ppm
//
// The weights are what `export_subnet` writes (form dense). In a program of yours, compile runner.cpp with
// -DRUNNER_NO_MAIN beside it:
//
//   runner::Classifier classifier("best.safetensors");
//   for (const runner::Guess& guess : runner::top(classifier.logits(runner::read_image("cat.ppm")), 5)) ...
//
// PPM and PGM images are always read; JPEG, PNG and BMP too when stb_image.h is found by the compiler. Errors are
// std::runtime_error with one line of text.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace runner {

// Interleaved 8-bit pixels [height, width, channels]; 1 (grey) or 3 (RGB) channels.
struct Image {
  int64_t width = 0, height = 0, channels = 0;
  std::vector<uint8_t> pixels;
};

Image read_image(const std::string& path);

struct Guess {
  int64_t index;      // of the class
  float probability;  // softmax of the logits
};

// The `count` most probable classes, the best first.
std::vector<Guess> top(const std::vector<float>& logits, int64_t count);

class Classifier {
 public:
  // Reads and checks the weights.
  explicit Classifier(const std::string& weights);
  ~Classifier();

  // One number a class. The image is resized and cropped as in evaluation, and normalised. May be called from several
  // threads at once.
  std::vector<float> logits(const Image& image) const;
  // The same of pixels that are ready: [channels, size, size], normalised.
  std::vector<float> logits(const std::vector<float>& pixels) const;

 private:
  struct Network;
  std::unique_ptr<const Network> network_;
};

}  // namespace runner
