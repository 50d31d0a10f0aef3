// Strategies of training a supernet: which architectures a step trains, and on what. A plan is a function of (seed, step)
// alone.
//
//   uniform      one architecture a step, every gene uniform: Guo et al., "Single path one-shot neural architecture search
//                with uniform sampling", ECCV 2020; as AutoFormer trains.
//   sandwich     the largest, the smallest and some random architectures in every step, on the same images: Yu and Huang,
//                "Universally slimmable networks and improved training techniques", ICCV 2019; Yu et al., "BigNAS", ECCV
//                2020. With in-place distillation (the same papers) the largest learns the labels, and what it predicts is
//                what the others learn.
//   progressive  one uniform architecture a step, of a space that opens while the training goes on, the largest choices
//                first: the progressive shrinking of Cai et al., "Once-for-all", ICLR 2020.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "nn/architecture.h"

namespace entangle {

// One architecture of a step.
struct PlannedSubnet {
  Architecture architecture;
  double weight = 1;  // of its loss; those of a plan add up to 1
  int teacher = -1;   // the subnet of the plan, an earlier one, whose softmax it learns; -1: it learns the labels

  bool operator==(const PlannedSubnet& other) const {
    return architecture == other.architecture && weight == other.weight && teacher == other.teacher;
  }
};
// Not empty. Its length is the same in every step.
using StepPlan = std::vector<PlannedSubnet>;

// A strategy by name, and what some of them are told.
struct StrategyOptions {
  std::string name = "uniform";
  // Of sandwich.
  int64_t random_subnets = 2;  // beside the largest and the smallest; each of them counts the same
  bool inplace_distillation = false;
  // Of progressive. The dimensions open one after another, and each choice by choice from the second largest down. With n
  // choices to open, number i = 1 .. n opens after the share open_by * i / n of all steps: at first only the largest
  // architecture is trained, and after the share open_by every one is.
  std::string open_order = "depth, mlp_ratio, num_heads, embed_dim";
  double open_by = 0.5;

  // Throws Error naming the value: an unknown strategy or dimension, one that is missing or named twice, in-place
  // distillation of one architecture a step.
  void validate() const;
};

// Which subnets each step trains, as a function of the seed and the step.
class Strategy {
 public:
  // `total_steps` of the whole training. Throws Error as validate().
  Strategy(const StrategyOptions& options, const SearchSpace& space, int64_t total_steps, uint64_t seed);

  // The plan of step 0 .. total_steps - 1.
  StepPlan plan(int64_t step) const;
  // The choices that a step draws from: the whole space, or of the progressive strategy what is open.
  const SearchSpace& space_at(int64_t step) const;
  // Subnets of every plan.
  int64_t subnets() const { return options_.name == "sandwich" ? options_.random_subnets + 2 : 1; }

 private:
  void open_progressively(int64_t total_steps);

  StrategyOptions options_;
  uint64_t seed_;
  struct Stage {
    int64_t first_step;
    SearchSpace space;
  };
  std::vector<Stage> stages_;  // by rising first step, the first from step 0 on
};

}  // namespace entangle
