#include "program/recorder.h"

#include <algorithm>
#include <stdexcept>
#include <utility>

#include "core/errors.h"

namespace fastconv::program {
namespace {

thread_local Recorder* recording = nullptr;

constexpr Slot kUndefined = ~0;  // the first constant: an undefined array

int64_t bytes_of(const Array& x) { return x.stored() * static_cast<int64_t>(size_of(x.dtype())); }

}  // namespace

Recorder* Recorder::active() { return recording; }

Recorder::Recorder(Arrays inputs) : inputs_(std::move(inputs)), constants_(1) {
  for (const Array& x : inputs_) {
    define(x, static_cast<Slot>(varies_.size()));
    varies_.push_back(true);
    bytes_.push_back(bytes_of(x));
  }
}

void Recorder::start() {
  if (recording_) throw std::runtime_error("[program] this recorder is recording already");
  if (recording != nullptr) recording->refuse("another recording begins inside");
  outer_ = recording;
  recording = this;
  recording_ = true;
}

void Recorder::stop() {
  if (!recording_) return;
  recording = outer_;
  recording_ = false;
}

void Recorder::refuse(const std::string& reason) {
  if (reason_.empty()) reason_ = reason;
}

std::unique_ptr<Program> Recorder::finish(const Arrays& outputs) {
  stop();
  if (!reason_.empty()) throw std::runtime_error("[program] cannot be recorded: " + reason_);
  std::vector<Slot> slots;
  for (const Array& x : outputs) slots.push_back(slot_of(x));
  return std::make_unique<Program>(std::move(instructions_), std::move(constants_), inputs_,
                                   std::move(slots), varies_.size(), seeds_.size());
}

bool Recorder::varies(const Array& x) {
  const Slot slot = slot_of(x);
  return slot < 0 || varies_[static_cast<size_t>(slot)];
}

Slot Recorder::operand(const Array& x) {
  operands_.push_back(slot_of(x));
  return operands_.back();
}

// Forward and backward of dropout are given the same one.
int32_t Recorder::seed(Seed seed) {
  seeded_ = true;
  return seeds_.emplace(seed.value, static_cast<int32_t>(seeds_.size())).first->second;
}

void Recorder::append(std::unique_ptr<Instruction> instruction,
                      const std::vector<const Array*>& results) {
  instruction->operands = std::move(operands_);
  operands_.clear();
  const auto varying = [&](Slot slot) {
    return slot < 0 ? slot != kUndefined : varies_[static_cast<size_t>(slot)];
  };
  const std::vector<Slot>& operands = instruction->operands;
  const bool varies = seeded_ || std::any_of(operands.begin(), operands.end(), varying);
  seeded_ = false;
  int64_t taken = 0, made = 0;
  for (const Slot slot : operands) taken += slot < 0 ? 0 : bytes_[static_cast<size_t>(slot)];
  // An operation may write into its operands.
  if (varies)
    for (const Slot slot : operands)
      if (slot >= 0) varies_[static_cast<size_t>(slot)] = true;
  for (const Array* x : results) {
    const Known* before = x->defined() ? find(*x) : nullptr;
    const bool is_operand = before != nullptr && std::find(operands.begin(), operands.end(),
                                                           before->slot) != operands.end();
    instruction->results.push_back(static_cast<Slot>(varies_.size()));
    // A result that is an operand itself goes by the operand's number.
    if (x->defined() && !is_operand) define(*x, instruction->results.back());
    varies_.push_back(varies);
    bytes_.push_back(bytes_of(*x));
    made += bytes_.back();
  }
  instruction->grows = made > taken;
  instructions_.push_back(std::move(instruction));
}

Recorder::Known* Recorder::find(const Array& x) {
  const auto same_storage = known_.find(x.data<void>());
  if (same_storage == known_.end()) return nullptr;
  for (Known& known : same_storage->second)
    if (known.shape == x.shape() && known.dtype == x.dtype() && known.layout == x.layout())
      return &known;
  return nullptr;
}

// Memory is used again when its first owner is gone: the newest owner counts.
void Recorder::define(const Array& x, Slot slot) {
  if (Known* before = find(x)) {
    before->slot = slot;
    return;
  }
  known_[x.data<void>()].push_back({x.shape(), x.dtype(), x.layout(), slot});
}

Slot Recorder::slot_of(const Array& x) {
  if (!x.defined()) return kUndefined;
  if (const Known* known = find(x)) return known->slot;
  constants_.push_back(x);
  const Slot slot = ~static_cast<Slot>(constants_.size() - 1);
  define(x, slot);
  return slot;
}

}  // namespace fastconv::program
