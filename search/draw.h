// Drawing architectures: the operators of an evolutionary search. Each is a function of its arguments and of the
// generator's position; none knows about limits or about what was drawn before.
#pragma once

#include "engine/rng.h"
#include "nn/architecture.h"

namespace entangle {

// With probability `shape` a new depth, of which blocks beyond the parent's are random and the others cut; then each
// ratio and each number of heads is redrawn with probability `block`, and embed_dim with probability `shape`. What is
// redrawn is uniform over the choices and may keep its value.
Architecture mutate(const SearchSpace& space, const Architecture& parent, double block, double shape, Rng& rng);

// Each gene from either parent with equal probability. Throws Error when their depths differ.
Architecture cross(const Architecture& a, const Architecture& b, Rng& rng);

}  // namespace entangle
