// Cuts one architecture out of a supernet's weights into a file of its own.
#include <cstdio>
#include <optional>

#include "engine/check.h"
#include "nn/cost.h"
#include "tools/common/cli.h"
#include "tools/common/export.h"

namespace entangle {
namespace {

constexpr const char* kExamples =
    "  ./export_subnet --run runs/fashion-mnist --output best.safetensors\n"
    "  ./export_subnet --weights supernet-tiny.pth --config T --architecture published:T --data imagenet:DIR --output "
    "tiny.safetensors\n"
    "  ./export_subnet --run runs/T --form published --output published.safetensors\n"
    "  ./export_subnet --run runs/T --output best.onnx\n"
    "  g++ -O2 runner/runner.cpp -o runner && ./runner best.safetensors image.ppm\n";

struct Flags {
  std::string run, weights, architecture, config, output, form;
  std::optional<int64_t> images;
};

// Double loops over a graph are slow: for them a few images.
int64_t default_images(ExportForm form) { return form == ExportForm::onnx ? 4 : 32; }

// No data set is needed: without one, noise is compared.
std::optional<DataSource> data_of(const Config& config) {
  if (config.data.spec.empty()) return std::nullopt;
  return open_data_for(config);
}

void run_program(Flags flags, const std::vector<std::string>& settings) {
  if (!flags.run.empty()) {
    flags.weights = flags.run + "/checkpoint.safetensors";
    if (flags.architecture.empty()) flags.architecture = flags.run + "/best_architecture.json";
  }
  CHECK(!flags.weights.empty(), "no weights: give --weights FILE or --run DIR");
  const ExportForm form = export_form(flags.form, flags.output);
  const int64_t count = flags.images.value_or(default_images(form));
  CHECK(count >= 1 && count <= 1000, "--images is ", count, ", but must lie in 1 .. 1000");
  const LoadedModel model = load_model(flags.weights, flags.config, DeviceKind::cpu, settings);
  const Architecture architecture = resolve_architecture(flags.architecture, model.config);
  model.config.model.check_fits(architecture);
  const std::optional<DataSource> data = data_of(model.config);
  const DataSource* source = data ? &*data : nullptr;
  const Tensor images = images_to_check(model.config, source, count);
  const double difference = export_subnet(model, architecture, form, images, source, flags.output);
  std::printf("wrote %s: %lld parameters; on %lld %s its logits differ from the supernet's view by %.1e at most\n",
              flags.output.c_str(), static_cast<long long>(cost_of(model.config.model, architecture).params),
              static_cast<long long>(images.size(0)), source != nullptr ? "held-out images" : "images of noise",
              difference);
}

}  // namespace
}  // namespace entangle

int main(int argc, char** argv) {
  using namespace entangle;
  Program program("Cuts a subnet out of a supernet's weights, and checks that it answers as the supernet's view does.",
                  kExamples);
  Flags flags;
  CLI::App& app = program.app();
  CLI::Option* run = app.add_option("--run", flags.run, "directory of a run: its checkpoint and its best architecture");
  app.add_option("--weights", flags.weights, "a weights file, .safetensors or .pth")->excludes(run);
  app.add_option("--architecture", flags.architecture, "a file, min, mean, max or published:T|S|B");
  app.add_option("--config", flags.config, "a configuration, where the weights carry none");
  app.add_option("--output", flags.output, "the file to write")->required();
  app.add_option(
         "--form", flags.form,
         "dense: the subnet's own weights, for these programs and runner/ (default); published: of the supernet's "
         "shapes, with the QKV bias as the published code takes it for this architecture; onnx: a graph for ONNX "
         "Runtime and others (default where the output is called .onnx)")
      ->check(CLI::IsMember({"dense", "published", "onnx"}));
  program.setting("--data", "DATA.spec", "data set whose held-out images are compared, such as fashion-mnist:DIR");
  program.number("--images", flags.images, "images to compare (default 32, of an ONNX model 4)");
  return program.run(argc, argv, [&] { run_program(flags, program.settings()); });
}
