// Detects changed values: the tape saves arrays for the gradient, and must notice a change between
// forward and backward.
//
// Every storage has a version. Operations that write in place raise it (Array::written). NumPy
// writes without telling anybody, so while a NumPy view of the storage exists, the version depends
// on a fingerprint of the values, taken when an array is saved and compared when it is used.
#pragma once

#include <atomic>
#include <cstdint>
#include <vector>

#include "core/array.h"

namespace fastconv {

// Stored in the control block of the storage's shared_ptr.
class Version {
 public:
  // lent: somebody outside may write for as long as the storage exists.
  explicit Version(bool lent = false) : views_(lent ? 1 : 0) {}
  Version(const Version& other) : views_(other.views_.load()) {}  // of a new storage
  Version& operator=(const Version&) = delete;

  void raise() { state_.fetch_add(kOne); }
  // The version now; `x` is all of the storage.
  uint32_t now(const Array& x);

  bool is_saved() const { return saved_.load() > 0; }
  void save() { saved_.fetch_add(1); }
  void release() { saved_.fetch_sub(1); }
  // Whether somebody outside may write.
  bool is_lent() const { return views_.load() > 0; }
  // A writable NumPy view is created, and destroyed.
  void lend(const Array& x);
  void take_back(const Array& x);

 private:
  static constexpr uint64_t kOne = uint64_t{1} << 32;

  std::atomic<uint64_t> state_{0};  // high half: the version; low half: the fingerprint
  std::atomic<int32_t> saved_{0}, views_;
};

// Arrays that a gradient needs, with their present versions. Undefined ones are allowed.
class Saved {
 public:
  explicit Saved(std::vector<Array> arrays);
  ~Saved();
  Saved(const Saved&) = delete;
  Saved& operator=(const Saved&) = delete;

  // The first array whose values have changed since; -1 if none has.
  int64_t changed() const;
  const Array& operator[](int64_t i) const { return arrays_[static_cast<size_t>(i)]; }

 private:
  std::vector<Array> arrays_;
  std::vector<uint32_t> versions_;
};

// Held by a NumPy view of an array as long as the view exists.
class Lent {
 public:
  explicit Lent(Array x);
  ~Lent();
  Lent(const Lent&) = delete;
  Lent& operator=(const Lent&) = delete;

 private:
  Array x_;
};

}  // namespace fastconv
