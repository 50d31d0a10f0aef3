// Evaluates one architecture with inherited weights: on a data set, or on a file of images.
#include <algorithm>
#include <cmath>
#include <cstdio>

#include "engine/check.h"
#include "engine/safetensors.h"
#include "tools/common/cli.h"
#include "tools/common/evaluate.h"
#include "tools/common/models.h"

namespace entangle {
namespace {

constexpr const char* kExamples =
    "  ./evaluate_subnet --run runs/fashion-mnist\n"
    "  ./evaluate_subnet --weights runs/fashion-mnist/checkpoint.safetensors --architecture max\n"
    "  ./evaluate_subnet --weights supernet-tiny.pth --config T --architecture published:T --data "
    "imagenet:DIR\n"
    "  ./evaluate_subnet --weights W.safetensors --architecture A.json --input B.safetensors --output L.safetensors\n"
    "  mpirun -n 4 ./evaluate_subnet --run runs/T        four processes share the images of the data set\n";

struct Flags {
  std::string run, weights, architecture, config, split = "test", input, output;
  double rank_timeout = 600;
};

std::vector<int64_t> shape_of_images(const SafetensorsFile& file, const SupernetConfig& model) {
  CHECK(file.has("images"), file.path(), " has no tensor \"images\"");
  const std::vector<int64_t> shape = file.tensors().at("images").shape;
  const std::vector<int64_t> image = {model.in_channels, model.image_size, model.image_size};
  CHECK(shape.size() == 4 && std::equal(image.begin(), image.end(), shape.begin() + 1), file.path(),
        ": images must have the shape [B, ", image[0], ", ", image[1], ", ", image[2], "] of the model");
  return shape;
}

// Reads `images`, already normalised, and writes `logits`.
void evaluate_file(const Flags& flags, const LoadedModel& model, const Architecture& architecture) {
  const SafetensorsFile file(flags.input);
  const std::vector<int64_t> shape = shape_of_images(file, model.config.model);
  const std::vector<float> pixels = file.read_f32("images");
  const int64_t classes = model.config.model.num_classes, image = shape[1] * shape[2] * shape[3];
  std::vector<float> logits;
  for (int64_t begin = 0; begin < shape[0]; begin += kEvaluationBatch) {
    const int64_t count = std::min(kEvaluationBatch, shape[0] - begin);
    const auto first = pixels.begin() + begin * image;
    const Tensor images = Tensor::from({count, shape[1], shape[2], shape[3]}, {first, first + count * image});
    const std::vector<float> part = model.supernet->forward(images, architecture).to_vector();
    logits.insert(logits.end(), part.begin(), part.end());
  }
  const bool finite = std::all_of(logits.begin(), logits.end(), [](float x) { return std::isfinite(x); });
  CHECK(finite, "the logits are not finite: ", flags.input, " or ", flags.weights, " holds NaN or Inf");
  write_safetensors(flags.output, {{"logits", "F32", {shape[0], classes}, logits.data()}},
                    {{"architecture", architecture.to_json()}});
  std::printf("wrote the logits of %lld images to %s\n", static_cast<long long>(shape[0]), flags.output.c_str());
}

void evaluate_data(const Flags& flags, const LoadedModel& model, const Architecture& architecture,
                   Communicator& ranks) {
  const DataSource source = open_data_for(model.config);
  const bool test = flags.split == "test";
  const EvaluationSet set(test ? source.test : source.train, source,
                          test ? all_indices(*source.test) : ranking_images(model.config, source),
                          model.config.model.image_size, EvaluationSet::Keep::no);
  const Evaluation evaluation = evaluate(*model.supernet, architecture, set, kEvaluationBatch, &ranks);
  std::printf("%s  %s\n", flags.split.c_str(), evaluation.str().c_str());
}

void run_program(Flags flags, const std::vector<std::string>& settings, DeviceKind device) {
  const std::unique_ptr<Communicator> ranks = join_ranks(flags.rank_timeout);
  if (!flags.run.empty()) flags.weights = flags.run + "/checkpoint.safetensors";
  CHECK(!flags.weights.empty(), "no weights: give --weights FILE or --run DIR");
  const LoadedModel model = load_model(flags.weights, flags.config, device, settings);
  if (!flags.run.empty() && flags.architecture.empty() && !model.config.subnet) {
    flags.architecture = flags.run + "/best_architecture.json";
  }
  const Architecture architecture = resolve_architecture(flags.architecture, model.config);
  model.config.model.check_fits(architecture);
  if (flags.input.empty()) {
    evaluate_data(flags, model, architecture, *ranks);
  } else if (ranks->first()) {  // a file of images is no work to share
    evaluate_file(flags, model, architecture);
  }
}

}  // namespace
}  // namespace entangle

int main(int argc, char** argv) {
  using namespace entangle;
  Program program("Evaluates a subnet with the supernet's weights: top-1, top-5, loss.", kExamples);
  Flags flags;
  CLI::App& app = program.app();
  CLI::Option* run = app.add_option("--run", flags.run, "directory of a run: its checkpoint and its best architecture");
  app.add_option("--weights", flags.weights, "a weights file, .safetensors or .pth")->excludes(run);
  app.add_option("--architecture", flags.architecture, "a file, min, mean, max or published:T|S|B");
  app.add_option("--config", flags.config, "a configuration, where the weights carry none");
  app.add_option("--split", flags.split, "test, or ranking: the held-out images that a search ranks on")
      ->check(CLI::IsMember({"test", "ranking"}));
  CLI::Option* input = app.add_option("--input", flags.input, "file with a tensor images [B, C, H, W], normalised");
  CLI::Option* output = app.add_option("--output", flags.output, "file for the tensor logits [B, classes]");
  input->needs(output);
  output->needs(input);
  program.setting("--data", "DATA.spec", "data set, such as fashion-mnist:DIR");
  program.number_setting("--images", "SEARCH.images", "images of --split ranking");
  program.rank_timeout_option(flags.rank_timeout);
  return program.run(argc, argv, [&] { run_program(flags, program.settings(), program.device()); });
}
