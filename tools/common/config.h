// Configurations: a YAML file with the published sections SUPERNET, SEARCH_SPACE and RETRAIN, and ours: MODEL, TRAIN,
// DATA, SEARCH. What a file leaves out has the published value.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "data/loader.h"
#include "nn/architecture.h"
#include "nn/schedule.h"
#include "nn/supernet.h"
#include "search/search.h"
#include "search/strategy.h"

namespace entangle {

struct TrainConfig {
  int64_t epochs = 500, batch_size = 1024;
  // Parts of a process's share of a batch, computed one after another: less memory, the same step.
  int64_t accumulate = 1;
  // Shards of a batch, whose gradients are summed in a fixed tree: the same bits for any number of processes. 0: the batch is
  // not cut, and the bits depend on that number.
  int64_t shards = 0;
  Precision wire = Precision::fp32;  // of gradients between processes (engine/gradient_exchange.h)
  double lr = 5e-4;
  bool lr_scale_batch = true;  // the published rule: the peak is lr * batch_size / 512; otherwise it is lr
  double min_lr = 1e-5, warmup_lr = 1e-6, warmup_epochs = 20;
  bool per_epoch = false;  // the published schedule, constant within an epoch
  double weight_decay = 0.05, beta1 = 0.9, beta2 = 0.999, eps = 1e-8;
  double clip_norm = 0;  // 0: no clipping
  // Of fine-tuning. The learning rate of block i of d is lr * layer_decay^(d - i), that of the embeddings
  // lr * layer_decay^(d + 1), that of the last norm and the head lr. linear_probe trains the head alone.
  double layer_decay = 1;
  bool linear_probe = false;
  // Distillation from the weights in `teacher` (their largest architecture): targets become (1 - share) t + share q, with
  // q the teacher's softmax (soft) or its best class (hard), as in DeiT without its extra token. Empty: none.
  std::string teacher, distillation = "hard";
  double distillation_share = 0.5;
  // The average of the weights over steps, average = decay average + (1 - decay) weights; it is what held-out and test
  // images are shown to. 0: none.
  double average_decay = 0;
  StrategyOptions strategy;  // which subnets a step of a supernet trains
  uint64_t seed = 0;
  int64_t health_images = 1000;  // held-out images that the smallest, middle and largest subnet see after each epoch

  Schedule schedule(int64_t steps_per_epoch) const;
};

struct DataConfig {
  std::string spec;  // as --data; empty: to be given there
  // Training images that a search ranks on and training leaves out: those in the file `split` (data/split_list.h); without one
  // `held_out` of them, drawn with the seed.
  std::string split;
  int64_t held_out = 10000;
  uint64_t split_seed = 0;
  DataOptions options;
  // Of weights that say what their training held out, that record (load_model); it is no key of the file.
  std::string recorded_split;
  Augmentation augmentation;          // its image_size is the model's
  int64_t repeated_augmentation = 1;  // how often an image comes in a row, each time augmented anew
  bool published_order = false;       // Sampler::published
  double max_broken = 0.001;          // share of the images that may be broken before the run ends
};

struct SearchConfig {
  SearchOptions options;
  int64_t images = 10000;  // held-out images that rank the candidates
  int64_t batch_size = 1;  // of limits on activation memory and latency
};

struct Config {
  std::string name;  // of the built-in configuration, or the file's name without .yaml
  SupernetConfig model;
  SearchSpace space;
  Architecture retrain;               // the fixed subnet of section RETRAIN; depth 0: none
  bool subnet = false;                // MODEL.subnet: the weights are those of that subnet alone (model.dense)
  std::string sharing = "entangled";  // MODEL.sharing; classical: model.classical is the space
  TrainConfig train;
  DataConfig data;
  SearchConfig search;

  Config();
  // The configuration of one architecture's own weights; what is not of the network's shape stays as it is.
  Config dense(const Architecture& architecture) const;
  // The largest architecture that training draws.
  Architecture largest() const { return subnet ? model.dense : space.largest(); }
  // All of it, in the order of the table; parse_config() of it gives the same configuration.
  std::string to_yaml() const;
};

// `settings` are "SECTION.key=value", applied after the text. Throws Error naming `name`, the line, and: an unknown key
// with the nearest known one; a value of another type or out of range with what is allowed; choices that do not fit
// into the supernet; a key given twice; a required key missing; text that is not YAML.
Config parse_config(const std::string& text, const std::string& name, const std::vector<std::string>& settings = {});

// A built-in configuration's name, or a file. Throws Error naming the built-in ones when there is neither.
Config load_config(const std::string& name_or_path, const std::vector<std::string>& settings = {});

// The first value in which two configurations differ, "TRAIN.epochs is 8 before and 30 now"; empty when they are equal.
std::string first_difference(const Config& before, const Config& now);

struct BuiltinConfig {
  const char* name;
  const char* text;
};
// tools/configs/*.yaml, compiled in.
const std::vector<BuiltinConfig>& builtin_configs();

// The whole content of a file. Throws Error naming it and the reason when it cannot be read.
std::string read_text_file(const std::string& path);

}  // namespace entangle
