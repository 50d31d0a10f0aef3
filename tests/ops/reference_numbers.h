// What the reference computes with: arrays, and the number type that turns a reference into its own tolerance.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace entangle::reference {

// A value and the size of what fp32 may get wrong on the way to it, in units of eps: running error analysis to first
// order (Higham, "Accuracy and Stability of Numerical Algorithms", 2002, section 3.3). Inputs are exact. A product,
// quotient or function adds its own rounding, |result|, and passes the errors of its arguments on through its
// derivative. A sum counts the sizes of its terms, not its partial sums: a kernel may add in any order. Thus a dot
// product has error sum |x||w|, and roundings, which are independent, stay far inside of 8 times that.
struct Bounded {
  double value = 0, error = 0;

  Bounded() = default;
  Bounded(double exact) : value(exact) {}
  Bounded(double v, double e) : value(v), error(e) {}
  double term() const { return std::max(std::fabs(value), error); }
};

inline Bounded operator-(const Bounded& a) { return {-a.value, a.error}; }
inline Bounded operator+(const Bounded& a, const Bounded& b) { return {a.value + b.value, a.term() + b.term()}; }
inline Bounded operator-(const Bounded& a, const Bounded& b) { return a + -b; }
// A known number is subtracted with one rounding, whatever the size of the terms.
inline Bounded operator-(const Bounded& a, double b) { return {a.value - b, a.error + std::fabs(a.value - b)}; }
inline Bounded operator*(const Bounded& a, const Bounded& b) {
  const double value = a.value * b.value;
  return {value, std::fabs(a.value) * b.error + std::fabs(b.value) * a.error + std::fabs(value)};
}
inline Bounded operator/(const Bounded& a, const Bounded& b) {
  const double value = a.value / b.value;
  return {value, (a.error + std::fabs(value) * b.error) / std::fabs(b.value) + std::fabs(value)};
}
inline Bounded& operator+=(Bounded& a, const Bounded& b) { return a = a + b; }
// What vanishes may stop at the smallest normal number of fp32 instead: that many eps.
inline constexpr double kUnderflow = 0x1p-126 / 0x1p-24;
inline Bounded exp(const Bounded& a) {
  const double value = std::exp(a.value);
  return {value, value * (a.error + 1) + kUnderflow};
}
inline Bounded log(const Bounded& a) {
  const double value = std::log(a.value);
  return {value, a.error / a.value + std::fabs(value)};
}
inline Bounded sqrt(const Bounded& a) {
  const double value = std::sqrt(a.value);
  return {value, (value > 0 ? a.error / (2 * value) : 0) + value};
}
inline Bounded erfc(const Bounded& a) {
  const double value = std::erfc(a.value);
  return {value, 2 / std::sqrt(M_PI) * std::exp(-a.value * a.value) * a.error + value + kUnderflow};
}

// To bf16, the nearest, ties to even: with double the identity, so that a reference stays differentiable.
inline double to_bf16(double a) { return a; }
inline double nearest_bf16(double a) {
  if (a == 0) return 0;
  const double unit = std::exp2(std::floor(std::log2(std::fabs(a))) - 7);  // 8 significant bits
  return std::nearbyint(a / unit) * unit;
}
// Exact for an exact argument. Where the argument's error may reach a boundary between two results, their distance.
inline Bounded to_bf16(const Bounded& a) {
  const double reach = 8 * 0x1p-24 * a.error;
  return {nearest_bf16(a.value), (nearest_bf16(a.value + reach) - nearest_bf16(a.value - reach)) / 0x1p-24};
}

// What a kernel may round to bf16, or not: the value as it is. The rounding moves an exact one by what it does, any
// other by at most half a unit in the last place of 8 significant bits, 2^-8 of it.
inline double maybe_bf16(double a) { return a; }
inline Bounded maybe_bf16(const Bounded& a) {
  const double moved = a.error == 0 ? std::fabs(nearest_bf16(a.value) - a.value) : 0x1p-8 * std::fabs(a.value);
  return {a.value, a.error + moved / 0x1p-24};
}

inline double value_of(double a) { return a; }
inline double value_of(const Bounded& a) { return a.value; }

using std::erfc, std::exp, std::log, std::sqrt;

template <class T>
using Array = std::vector<T>;
template <class T>
using Arrays = std::vector<Array<T>>;

inline size_t at(int64_t index) { return static_cast<size_t>(index); }

}  // namespace entangle::reference
