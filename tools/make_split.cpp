// make_split: lists the training images that a search shall rank on, and training leave out.
#include <cstdio>
#include <string>

#include "data/dataset.h"
#include "data/split_list.h"
#include "engine/check.h"
#include "tools/common/cli.h"

namespace entangle {
namespace {

struct Request {
  std::string data, output;
  std::optional<int64_t> count, per_class;
};

void run_program(const Request& request, uint64_t seed) {
  CHECK(request.count || request.per_class, "say how many: --count N in all, or --per-class N");
  const DataSource source = open_data(request.data);
  const Dataset& train = *source.train;
  const Split split =
      request.count ? make_split(train, *request.count, seed) : make_class_split(train, *request.per_class, seed);
  const std::string how =
      request.count ? concat("--count ", *request.count) : concat("--per-class ", *request.per_class);
  write_split_list(request.output, train, split.held_out,
                   concat("held out of training for the search, by make_split ", how, " --seed ", seed));
  std::printf("%zu of %lld training images held out in %s, %zu left; train with --set DATA.split=%s\n",
              split.held_out.size(), static_cast<long long>(train.size()), request.output.c_str(), split.train.size(),
              request.output.c_str());
}

}  // namespace
}  // namespace entangle

int main(int argc, char** argv) {
  using namespace entangle;
  Program program("Lists training images for a search to rank on; training leaves them out (DATA.split).",
                  "  ./make_split --data imagenet:DIR --count 10k --output split.txt\n"
                  "  ./make_split --data imagenet:DIR --per-class 100 --seed 1 --output split.txt\n"
                  "  ./train_supernet --config T --data imagenet:DIR --set DATA.split=split.txt\n");
  Request request;
  program.app().add_option("--data", request.data, "data set, such as imagenet:DIR")->required();
  CLI::Option* count = program.number("--count", request.count, "images in all, equally many of each class");
  program.number("--per-class", request.per_class, "images of each class")->excludes(count);
  program.app().add_option("--output", request.output, "the list to write")->required();
  return program.run(argc, argv, [&] { run_program(request, program.seed().value_or(0)); });
}
