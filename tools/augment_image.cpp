// augment_image: what training does to an image, for the eye and for checks against other programs.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "data/augment.h"
#include "data/decode.h"
#include "data/rand_augment.h"
#include "engine/check.h"
#include "tools/common/cli.h"
#include "tools/common/png.h"

namespace entangle {
namespace {

const Colour kFill = {124, 116, 104};  // the rounded mean colour of ImageNet
constexpr float kMean[] = {0.485f, 0.456f, 0.406f}, kDeviation[] = {0.229f, 0.224f, 0.225f};
constexpr int64_t kSheetColumns = kMixGroup, kSheetGap = 4;

struct Request {
  std::string in, out, op, interpolation = "bicubic", policy = "rand-m9-mstd0.5-inc1", partner;
  double argument = 0, jitter = 0;
  std::vector<int64_t> crop;  // left, top, width, height, output width and height
  int64_t eval = 0, size = 224, draws = 0;
  bool sheet = false;
};

void paste(const Image& tile, int64_t left, int64_t top, Image& sheet) {
  for (int64_t y = 0; y < tile.height; ++y) {
    std::copy_n(tile.pixels.begin() + y * tile.width * 3, tile.width * 3,
                sheet.pixels.begin() + ((top + y) * sheet.width + left) * 3);
  }
}

// The image as training sees it before it is normalised: RandAugment's view, or jittered, or neither.
Image view_of(const Image& image, const Request& request, const RandAugment* policy, double jitter, Rng& rng) {
  TrainingView view = {request.size, 0.5, parse_interpolation(request.interpolation), policy, kFill};
  view.jitter = jitter;
  return training_view(image, view, rng);
}

// The normalised values of images [size, size, 3] in a row, one behind the other, back to pixels.
std::vector<Image> shown(const std::vector<float>& values, int64_t size) {
  const size_t plane = static_cast<size_t>(size * size);
  std::vector<Image> images(values.size() / (3 * plane), Image{size, size, 3, {}});
  for (size_t i = 0; i < images.size(); ++i) {
    images[i].pixels.resize(3 * plane);
    for (size_t k = 0; k < 3 * plane; ++k) {
      const size_t c = k / plane;
      const double value = values[i * 3 * plane + k] * kDeviation[c] + kMean[c];
      images[i].pixels[k % plane * 3 + c] = static_cast<uint8_t>(std::clamp(std::lround(value * 255), 0L, 255L));
    }
  }
  return images;
}

// A batch of views as the loader prepares it, with a mode of mixing or of erasing; the one not named is off.
std::vector<Image> batch_of(const std::vector<Image>& views, const Augmentation& augmentation, uint64_t seed,
                            int64_t row) {
  const int64_t size = augmentation.image_size, count = static_cast<int64_t>(views.size());
  const Normalizer normalizer({kMean[0], kMean[1], kMean[2]}, {kDeviation[0], kDeviation[1], kDeviation[2]});
  const MixMode mode = parse_mix_mode(augmentation.mix_mode);
  std::vector<float> values(static_cast<size_t>(count * 3 * size * size));
  std::vector<Mix> mixes;
  for (int64_t i = 0; i < count; ++i) {
    Rng rng(seed, Stream::augmentation, static_cast<uint64_t>(row * kSheetColumns + i)), mixing(seed, Stream::mixing);
    const ImagePlan plan = draw_plan(augmentation, 3, rng);
    augment_image(views[static_cast<size_t>(i)], plan, parse_erase_mode(augmentation.erase_mode), rng.key, normalizer,
                  size, values.data() + i * 3 * size * size);
    mixing.next = static_cast<uint64_t>(row * kSheetColumns + mix_drawn_for(mode, i, count)) << 32;
    mixes.push_back(draw_mix(augmentation, mixing));
  }
  mix_images(mixes, 3, size, values.data());
  return shown(values, size);
}

// Rows of a sheet, each a batch of kSheetColumns.
using SheetRow = std::vector<Image>;

SheetRow row_of_views(const Image& image, const Request& request, const RandAugment* policy, double jitter,
                      uint64_t seed, int64_t row) {
  SheetRow views;
  for (int64_t i = 0; i < kSheetColumns; ++i) {
    Rng rng(seed, Stream::augmentation, static_cast<uint64_t>(row * kSheetColumns + i));
    views.push_back(view_of(image, request, policy, jitter, rng));
  }
  return views;
}

SheetRow erased_row(const Image& image, const Request& request, uint64_t seed, int64_t row) {
  SheetRow all = row_of_views(image, request, nullptr, 0, seed, row), erased;
  for (const char* const mode : {"const", "rand", "pixel"}) {
    Augmentation augmentation;
    augmentation.image_size = request.size;
    augmentation.erase = 1;
    augmentation.erase_mode = mode;
    augmentation.erase_max_count = 3;
    const size_t first = erased.size(), count = first == 0 ? 2 : 3;
    const SheetRow some(all.begin() + static_cast<int64_t>(first), all.begin() + static_cast<int64_t>(first + count));
    for (Image& one : batch_of(some, augmentation, seed, row)) erased.push_back(std::move(one));
  }
  return erased;
}

// Four views of the image, then four of the other one, which are their partners.
SheetRow mixed_row(const Image& image, const Image& other, const Request& request, const Augmentation& mixing,
                   uint64_t seed, int64_t row) {
  SheetRow views = row_of_views(image, request, nullptr, 0, seed, row);
  const SheetRow others = row_of_views(other, request, nullptr, 0, seed, row);
  std::copy(others.begin() + kSheetColumns / 2, others.end(), views.begin() + kSheetColumns / 2);
  return batch_of(views, mixing, seed, row);
}

Image pasted(const std::vector<SheetRow>& rows, int64_t size) {
  const int64_t pitch = size + kSheetGap;
  Image sheet = {static_cast<int64_t>(rows.size()) * pitch - kSheetGap, kSheetColumns * pitch - kSheetGap, 3, {}};
  sheet.pixels.assign(static_cast<size_t>(sheet.height * sheet.width * 3), 255);
  for (size_t r = 0; r < rows.size(); ++r) {
    for (size_t i = 0; i < rows[r].size(); ++i) {
      paste(rows[r][i], static_cast<int64_t>(i) * pitch, static_cast<int64_t>(r) * pitch, sheet);
    }
  }
  return sheet;
}

// Two rows under the policy, the evaluation crop first; colour jitter; erasing: two of const, three of rand and of
// pixel; mixup and CutMix of a whole batch; both of pairs; both image by image.
Image contact_sheet(const Image& image, const Request& request, uint64_t seed) {
  const RandAugment policy = RandAugment::parse(request.policy);
  Image other = request.partner.empty() ? image : read_image(request.partner);
  if (request.partner.empty()) invert(other);
  std::vector<SheetRow> rows;
  const auto number = [&] { return static_cast<int64_t>(rows.size()); };
  for (int i = 0; i < 2; ++i) rows.push_back(row_of_views(image, request, &policy, 0, seed, number()));
  rows[0][0] = resize_for_evaluation(image, request.size, parse_interpolation(request.interpolation));
  rows.push_back(row_of_views(image, request, nullptr, 0.4, seed, number()));
  rows.push_back(erased_row(image, request, seed, number()));
  Augmentation mixing;
  mixing.image_size = request.size;
  const auto add = [&](const char* mode, double mixup, double cutmix) {
    mixing.mix_mode = mode;
    mixing.mixup_alpha = mixup;
    mixing.cutmix_alpha = cutmix;
    rows.push_back(mixed_row(image, other, request, mixing, seed, number()));
  };
  add("batch", 0.8, 0);
  add("batch", 0, 1);
  add("pair", 0.8, 1);
  add("elem", 0.8, 1);
  return pasted(rows, request.size);
}

nlohmann::json box_json(const Box& box) { return {box.top, box.left, box.height, box.width}; }

nlohmann::json ops_json(const std::vector<DrawnOp>& ops) {
  nlohmann::json list = nlohmann::json::array();
  for (const DrawnOp& op : ops) list.push_back({name_of(op.op), op.argument});
  return list;
}

// What is drawn for one image; colour jitter from the numbers that the policy is drawn from, since only one of them
// acts.
nlohmann::json draw(const Image& image, const RandAugment& policy, const Augmentation& augmentation, uint64_t seed,
                    int64_t i) {
  Rng rng(seed, Stream::augmentation, static_cast<uint64_t>(i)), mixing(seed, Stream::mixing, static_cast<uint64_t>(i));
  const Region crop = draw_resized_crop(image.width, image.height, rng);
  nlohmann::json line = {{"crop", {crop.left, crop.top, crop.width, crop.height}}, {"flip", rng.chance(0.5)}};
  Rng jitter = rng;
  line["jitter"] = ops_json(draw_jitter(0.4, jitter));
  line["ops"] = ops_json(draw_ops(policy, rng));
  const ImagePlan plan = draw_plan(augmentation, 3, rng);
  line["boxes"] = nlohmann::json::array();
  for (int64_t b = 0; b < plan.boxes; ++b) line["boxes"].push_back(box_json(plan.erased[b].box));
  const Mix mix = draw_mix(augmentation, mixing);
  line["mix"] = {{"lambda", mix.lambda}, {"box", box_json(mix.box)}};
  return line;
}

void write_draws(const Request& request, uint64_t seed) {
  const Image image = read_image(request.in);
  const RandAugment policy = RandAugment::parse(request.policy);
  Augmentation augmentation;
  augmentation.image_size = request.size;
  augmentation.erase = 0.25;
  augmentation.mixup_alpha = 0.8;
  augmentation.cutmix_alpha = 1;
  std::ofstream out(request.out);
  for (int64_t i = 0; i < request.draws; ++i) out << draw(image, policy, augmentation, seed, i) << "\n";
  CHECK(out.flush().good(), "cannot write ", request.out);
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
  if (request.sheet) return contact_sheet(image, request, seed);
  Rng rng(seed, Stream::augmentation);
  if (request.jitter > 0) return view_of(image, request, nullptr, request.jitter, rng);
  const RandAugment policy = RandAugment::parse(request.policy);
  return view_of(image, request, &policy, 0, rng);
}

}  // namespace
}  // namespace entangle

int main(int argc, char** argv) {
  using namespace entangle;
  Program program("Augments one image as training does, and writes a PNG.",
                  "  ./augment_image photo.jpg sheet.png --sheet           what training makes of it, 64 times\n"
                  "  ./augment_image photo.jpg out.png --op rotate --arg -27 --interpolation bilinear\n"
                  "  ./augment_image photo.jpg out.png --resized-crop 5,3,48,40,32,32\n"
                  "  ./augment_image photo.jpg out.png --eval 224\n"
                  "  ./augment_image photo.jpg out.png --policy rand-m9-mstd0.5-inc1 --seed 3\n"
                  "  ./augment_image photo.jpg out.png --jitter 0.4 --seed 3\n"
                  "  ./augment_image photo.jpg draws.jsonl --draws 20000    what is drawn, a line each\n");
  Request request;
  CLI::App& app = program.app();
  app.add_option("IN", request.in, "a JPEG, PNG or BMP image")->required();
  app.add_option("OUT", request.out, "the PNG to write, or with --draws the lines")->required();
  CLI::Option* op = app.add_option("--op", request.op, "one operation, such as rotate or solarize");
  app.add_option("--arg", request.argument, "its argument: degrees, bits, a threshold, a factor")->needs(op);
  app.add_option("--interpolation", request.interpolation, "bicubic (default) or bilinear");
  CLI::Option* region = app.add_option("--resized-crop", request.crop, "X,Y,W,H,OUT_W,OUT_H")->delimiter(',');
  CLI::Option* eval = program.number("--eval", request.eval, "the evaluation pipeline at that size");
  CLI::Option* policy =
      app.add_option("--policy", request.policy, "random crop, flip and RandAugment (default rand-m9-mstd0.5-inc1)");
  CLI::Option* jitter =
      app.add_option("--jitter", request.jitter, "random crop, flip and colour jitter by that amount");
  CLI::Option* sheet = app.add_flag("--sheet", request.sheet,
                                    "a contact sheet: the evaluation crop, such views, jitter, erasing and mixing");
  app.add_option("--partner", request.partner, "the image mixed with on the sheet (default: IN inverted)")
      ->needs(sheet);
  CLI::Option* draws = program.number("--draws", request.draws, "writes so many lines of what the recipe draws for IN");
  program.number("--size", request.size, "pixels of a side with --policy, --jitter, --sheet and --draws (default 224)");
  op->excludes(region, eval, policy, jitter, sheet, draws);
  region->excludes(eval, policy, jitter, sheet, draws);
  eval->excludes(policy, jitter, sheet, draws);
  jitter->excludes(policy, sheet, draws);
  sheet->excludes(draws);
  return program.run(argc, argv, [&] {
    if (request.draws > 0) {
      write_draws(request, program.seed().value_or(0));
    } else {
      write_png(request.out, made(request, program.seed().value_or(0)));
    }
    std::printf("%s\n", request.out.c_str());
  });
}
