// pack_dataset: a data set as tar shards, for reading in sequence.
#include <cstdio>
#include <string>

#include "data/dataset.h"
#include "tools/common/cli.h"
#include "tools/common/pack.h"
#include "tools/common/progress.h"

int main(int argc, char** argv) {
  using namespace entangle;
  Program program("Packs a data set into WebDataset tar shards, which --data wds:DIR reads in sequence.",
                  "  ./pack_dataset --data imagenet:DIR --output shards              the files as they are\n"
                  "  ./pack_dataset --data imagenet:DIR --output shards --short-side 256 --quality 92\n"
                  "  ./pack_dataset --data folder:DIR --output shards --megabytes 500\n"
                  "  ./train_supernet --config T --data wds:shards\n"
                  "After an interruption the same command goes on where it was.\n");
  std::string data;
  PackOptions options;
  int64_t megabytes = 0;
  double most_broken = 100 * options.most_broken;
  CLI::App& app = program.app();
  app.add_option("--data", data, "the data set, as in training")->required();
  app.add_option("--output", options.output, "folder of the shards")->required();
  program.number("--samples", options.samples, "of a shard at most (default 10k)");
  program.number("--megabytes", megabytes, "of a shard's images at most");
  program.number("--short-side", options.short_side, "resize larger images to it, as JPEG (default: files stay)");
  program.number("--quality", options.quality, "of those JPEGs, 1 to 100 (default 90; 85 takes a fifth less to store)");
  app.add_flag(
      "--in-order", options.in_order,
      "training images in the order of the data set instead of shuffled by --seed: a shard then has few classes");
  app.add_option("--max-broken", most_broken, "per cent of the images that may be broken and left out (default 0.1)");
  return program.run(argc, argv, [&] {
    watch_for_interrupts();
    options.bytes = megabytes * 1000000;
    options.most_broken = most_broken / 100;
    options.seed = program.seed().value_or(0);
    const PackSummary summary = pack(open_data(data), options);
    const std::string resumed =
        summary.resumed > 0 ? format(" (%lld of them were there)", static_cast<long long>(summary.resumed)) : "";
    std::printf("%s: %lld samples%s in %lld shards, %.1f MB of images, %lld broken images left out\n",
                options.output.c_str(), static_cast<long long>(summary.samples), resumed.c_str(),
                static_cast<long long>(summary.shards), 1e-6 * static_cast<double>(summary.bytes),
                static_cast<long long>(summary.broken));
    std::printf(summary.interrupted ? "stopped; the same command goes on\n" : "use it: --data wds:%s\n",
                options.output.c_str());
  });
}
