// FNV-1a, 64 bits: a short hash whose value means the same on every machine and in every version.
// Source: G. Fowler, L. C. Noll and K.-P. Vo, 1991; "The FNV Non-Cryptographic Hash Algorithm", draft-eastlake-fnv.
#pragma once

#include <cstdint>

namespace entangle {

inline constexpr uint64_t kEmptyHash = 14695981039346656037ull;

// The hash of what `hash` is of, with one unit behind it: a byte, or a word where all that is hashed are words.
constexpr uint64_t hash_on(uint64_t hash, uint64_t unit) { return (hash ^ unit) * 1099511628211ull; }

}  // namespace entangle
