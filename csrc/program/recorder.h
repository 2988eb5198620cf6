// Recorder: writes down the operations of one thread while they run as usual.
//
// It sits at the door between Python and the operations (program/recorded.h), so it sees everything
// that makes an Array or writes into one. An Array is known by its storage, shape and layout. What
// the operations did not make and what is no input is a constant: a parameter or a buffer.
//
// Python decides what runs next, so a recording holds only as long as Python does not look at
// values that may differ in the next run. Whatever lets it look, or brings values from outside,
// refuses the recording; the reason can be asked.
#pragma once

#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "program/program.h"

namespace fastconv::program {

class Recorder {
 public:
  explicit Recorder(Arrays inputs);
  ~Recorder() { stop(); }
  Recorder(const Recorder&) = delete;
  Recorder& operator=(const Recorder&) = delete;

  // The one that is recording in this thread, or null.
  static Recorder* active();

  void start();  // refuses a recording that is under way in this thread
  void stop();

  // The program that computes `outputs`; std::runtime_error when the recording was refused. Ends
  // the recording.
  std::unique_ptr<Program> finish(const Arrays& outputs);

  void refuse(const std::string& reason);  // the first reason stays
  bool refused() const { return !reason_.empty(); }
  const std::string& reason() const { return reason_; }

  // Whether the values depend on an input, a constant or a seed, so that they may differ in the
  // next run.
  bool varies(const Array& x);

  // ---- for program/recorded.h: the arguments of an instruction, then the instruction
  Slot operand(const Array& x);
  int32_t seed(Seed seed);
  void append(std::unique_ptr<Instruction> instruction, const std::vector<const Array*>& results);

 private:
  struct Known {
    Shape shape;
    DType dtype;
    Layout layout;
    Slot slot;
  };

  Known* find(const Array& x);
  void define(const Array& x, Slot slot);
  Slot slot_of(const Array& x);

  Instructions instructions_;
  Arrays inputs_, constants_;
  std::unordered_map<const void*, std::vector<Known>> known_;
  std::unordered_map<uint64_t, int32_t> seeds_;
  std::vector<bool> varies_;    // by slot
  std::vector<int64_t> bytes_;  // by slot
  std::vector<Slot> operands_;  // of the instruction that is being made
  bool seeded_ = false;         // it too
  std::string reason_;
  Recorder* outer_ = nullptr;
  bool recording_ = false;
};

}  // namespace fastconv::program
