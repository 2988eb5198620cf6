// A recorded program: the operations of a forward pass, or of forward and backward, as a list that
// runs from the first to the last without Python in between. program/recorder.h makes one.
//
// The values of a run live in numbered slots and are let go after their last use, so that the arena
// hands their memory to later operations: in every run the same requests in the same order,
// which makes its free lists a plan of all buffers. What nobody uses is left out, and large outputs
// are made last. Constants are what was there before: parameters and buffers, whose storage the
// program shares with their owners. They may change between two runs.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "contract/operations.h"

namespace fastconv::program {

using Seeds = std::vector<uint64_t>;

// From 0: a value of this run. Below 0: constant number ~slot.
using Slot = int32_t;

class Instruction;

// What one run works on.
class Frame {
 public:
  Frame(size_t slots, Arrays& constants, const Seeds& seeds)
      : values_(slots), constants_(constants.data()), seeds_(seeds.data()) {}

  // What a recorded program runs next.
  void begin(const Instruction& instruction) { instruction_ = &instruction; }

  Array& operator[](Slot slot) { return slot < 0 ? constants_[~slot] : values_[at(slot)]; }
  // For an operation that takes an Array by value: the array itself after its last use, else a
  // copy.
  Array take(Slot slot);
  Seed seed(int32_t number) const { return {seeds_[number]}; }

 private:
  static size_t at(Slot slot) { return static_cast<size_t>(slot); }

  Arrays values_;
  Array* constants_;
  const uint64_t* seeds_;
  const Instruction* instruction_ = nullptr;
};

// One operation with its arguments; program/recorded.h has the only kind there is.
class Instruction {
 public:
  explicit Instruction(const char* name) : name_(name) {}
  virtual ~Instruction() = default;
  virtual void run(Frame& frame) const = 0;
  const char* name() const { return name_; }

  std::vector<Slot> operands, results;
  bool writes = false;         // whether it may write into its operands
  bool grows = false;          // whether the results are larger than the operands of this run
  std::vector<Slot> finished;  // slots that nobody needs after this instruction

 private:
  const char* name_;
};

using Instructions = std::vector<std::unique_ptr<Instruction>>;

class Program {
 public:
  // The first `inputs.size()` slots are the inputs; of `inputs` only what they look like is kept.
  Program(Instructions instructions, Arrays constants, const Arrays& inputs,
          std::vector<Slot> outputs, size_t slots, size_t seeds);

  // Inputs must look like those recorded. Safe in several threads at once, as far as the operations
  // are that write into constants. An exception of an operation comes through.
  Arrays run(const Arrays& inputs, const Seeds& seeds);

  size_t seeds() const { return seeds_; }
  std::string str() const;  // one instruction a line: "%3 = relu(%2, @0)", constants with @

 private:
  struct Form {
    Shape shape;
    DType dtype;
    Layout layout;
  };

  void check(const Arrays& inputs, const Seeds& seeds) const;

  Instructions instructions_;
  Arrays constants_;
  std::vector<Form> inputs_;
  std::vector<Slot> outputs_;
  size_t slots_, seeds_;
};

}  // namespace fastconv::program
