// An architecture is a value; a search space is the set of its choices.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "engine/rng.h"

namespace entangle {

// The largest values an architecture or a supernet may name, far above any in use: files that ask for more are refused
// before anything is sized by them, and every product of a cost stays below 2^63.
struct LargestSize {
  static constexpr int depth = 256, embed_dim = 16384, num_heads = 256;
  static constexpr double mlp_ratio = 64;
};

// One subnet: how many blocks, how wide, and for each block its number of heads and its MLP's ratio. Published form.
struct Architecture {
  int depth = 0;
  int embed_dim = 0;
  std::vector<double> mlp_ratio;  // depth entries
  std::vector<int> num_heads;     // depth entries

  bool operator==(const Architecture& other) const;
  bool operator!=(const Architecture& other) const { return !(*this == other); }
  // {"depth":13,"embed_dim":192,"mlp_ratio":[3.5,...],"num_heads":[3,...]}: keys sorted, no spaces, integers without
  // a point. Equal architectures have equal text.
  std::string to_json() const;
  // Throws Error that says what is wrong: not JSON, a missing, unknown or repeated key, a value of the wrong type,
  // lists not of length depth, sizes that are not positive or beyond LargestSize.
  static Architecture from_json(const std::string& text);
  // Throws Error that names the value: lists not of length depth, sizes that are not positive or beyond LargestSize.
  void validate() const;
  // 64-bit FNV-1a of to_json().
  uint64_t hash() const;
  // Same subnet at every depth and width of a list: `heads` and `ratio` in every block.
  static Architecture uniform(int depth, int embed_dim, int heads, double ratio);
};

// Width of the MLP's hidden layer: int(embed_dim * ratio), truncated as published.
int64_t hidden_width(int64_t embed_dim, double ratio);

// The choices of a search. Each list is sorted, without repeats, and not empty.
struct SearchSpace {
  std::vector<int> depth;
  std::vector<int> embed_dim;
  std::vector<double> mlp_ratio;
  std::vector<int> num_heads;

  // Throws Error naming the list that is empty, unsorted, repeated or not positive.
  void validate() const;
  // Every gene uniform, drawn in this order: depth, `depth` ratios, `depth` numbers of heads, one embed_dim.
  Architecture sample(Rng& rng) const;
  Architecture smallest() const;
  Architecture largest() const;
  Architecture middle() const;  // the middle element, rounded up, of every list
  bool contains(const Architecture& architecture) const;
  // How many architectures the choices allow: sum over depths of (ratios * heads)^depth, times embed_dims.
  double count() const;
};

}  // namespace entangle
