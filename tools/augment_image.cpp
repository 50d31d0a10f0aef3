// augment_image: what training does to an image, for the eye and for checks against other programs.
#include <algorithm>
#include <cstdio>
#include <string>
#include <vector>

#include "data/decode.h"
#include "data/rand_augment.h"
#include "engine/check.h"
#include "tools/common/cli.h"
#include "tools/common/png.h"

namespace entangle {
namespace {

const Colour kFill = {124, 116, 104};  // the rounded mean colour of ImageNet
constexpr int64_t kSheetColumns = 8, kSheetRows = 4, kSheetGap = 4;

struct Request {
  std::string in, out, op, interpolation = "bicubic", policy = "rand-m9-mstd0.5-inc1";
  double argument = 0;
  std::vector<int64_t> crop;  // left, top, width, height, output width and height
  int64_t eval = 0, size = 224;
  bool sheet = false;
};

void paste(const Image& tile, int64_t left, int64_t top, Image& sheet) {
  for (int64_t y = 0; y < tile.height; ++y) {
    std::copy_n(tile.pixels.begin() + y * tile.width * 3, tile.width * 3,
                sheet.pixels.begin() + ((top + y) * sheet.width + left) * 3);
  }
}

Image contact_sheet(const Image& image, const Request& request, Interpolation interpolation, uint64_t seed) {
  const RandAugment policy = RandAugment::parse(request.policy);
  const int64_t pitch = request.size + kSheetGap;
  Image sheet = {kSheetRows * pitch - kSheetGap, kSheetColumns * pitch - kSheetGap, 3, {}};
  sheet.pixels.assign(static_cast<size_t>(sheet.height * sheet.width * 3), 255);
  for (int64_t i = 0; i < kSheetRows * kSheetColumns; ++i) {
    Rng rng(seed, Stream::augmentation, static_cast<uint64_t>(i));
    const Image tile = i == 0 ? resize_for_evaluation(image, request.size, interpolation)
                              : training_view(image, {request.size, 0.5, interpolation, &policy, kFill}, rng);
    paste(tile, i % kSheetColumns * pitch, i / kSheetColumns * pitch, sheet);
  }
  return sheet;
}

Image made(const Request& request, uint64_t seed) {
  const Interpolation interpolation = parse_interpolation(request.interpolation);
  const Image image = read_image(request.in);
  if (!request.op.empty()) {
    Image result = image;
    apply_image_op(parse_image_op(request.op), request.argument, interpolation, kFill, result);
    return result;
  }
  if (!request.crop.empty()) {
    const std::vector<int64_t>& r = request.crop;
    CHECK(r.size() == 6, "--resized-crop takes X,Y,W,H,OUT_W,OUT_H, not ", r.size(), " numbers");
    return resize(crop(image, {r[0], r[1], r[2], r[3]}), r[4], r[5], interpolation);
  }
  if (request.eval > 0) return resize_for_evaluation(image, request.eval, interpolation);
  CHECK(request.size >= 1 && request.size <= 4096, "--size is ", request.size, ", but must lie in 1 .. 4096");
  if (request.sheet) return contact_sheet(image, request, interpolation, seed);
  Rng rng(seed, Stream::augmentation);
  const RandAugment policy = RandAugment::parse(request.policy);
  return training_view(image, {request.size, 0.5, interpolation, &policy, kFill}, rng);
}

}  // namespace
}  // namespace entangle

int main(int argc, char** argv) {
  using namespace entangle;
  Program program("Augments one image as training does, and writes a PNG.",
                  "  ./augment_image photo.jpg sheet.png --sheet           what training sees of it, 31 times\n"
                  "  ./augment_image photo.jpg out.png --op rotate --arg -27 --interpolation bilinear\n"
                  "  ./augment_image photo.jpg out.png --resized-crop 5,3,48,40,32,32\n"
                  "  ./augment_image photo.jpg out.png --eval 224\n"
                  "  ./augment_image photo.jpg out.png --policy rand-m9-mstd0.5-inc1 --seed 3\n");
  Request request;
  CLI::App& app = program.app();
  app.add_option("IN", request.in, "a JPEG, PNG or BMP image")->required();
  app.add_option("OUT", request.out, "the PNG to write")->required();
  CLI::Option* op = app.add_option("--op", request.op, "one operation, such as rotate or solarize");
  app.add_option("--arg", request.argument, "its argument: degrees, bits, a threshold, a factor")->needs(op);
  app.add_option("--interpolation", request.interpolation, "bicubic (default) or bilinear");
  CLI::Option* region = app.add_option("--resized-crop", request.crop, "X,Y,W,H,OUT_W,OUT_H")->delimiter(',');
  CLI::Option* eval = program.number("--eval", request.eval, "the evaluation pipeline at that size");
  CLI::Option* policy =
      app.add_option("--policy", request.policy, "random crop, flip and RandAugment (default rand-m9-mstd0.5-inc1)");
  CLI::Option* sheet =
      app.add_flag("--sheet", request.sheet, "a contact sheet: the evaluation crop, then 31 such views");
  program.number("--size", request.size, "pixels of a side with --policy and --sheet (default 224)");
  op->excludes(region, eval, policy, sheet);
  region->excludes(eval, policy, sheet);
  eval->excludes(policy, sheet);
  return program.run(argc, argv, [&] {
    write_png(request.out, made(request, program.seed().value_or(0)));
    std::printf("%s\n", request.out.c_str());
  });
}
