#include "program/program.h"

#include <algorithm>
#include <iterator>
#include <sstream>
#include <unordered_set>
#include <utility>

#include "core/errors.h"
#include "program/recorder.h"

namespace fastconv::program {
namespace {

// Leaves out what computes values that nobody uses and writes nothing.
void drop_unused(Instructions& instructions, const std::vector<Slot>& outputs) {
  std::unordered_set<Slot> used(outputs.begin(), outputs.end());
  Instructions kept;  // from behind
  for (; !instructions.empty(); instructions.pop_back()) {
    std::unique_ptr<Instruction>& last = instructions.back();
    const std::vector<Slot>& results = last->results;
    if (!last->writes && std::none_of(results.begin(), results.end(),
                                      [&](Slot slot) { return used.count(slot) > 0; }))
      continue;
    used.insert(last->operands.begin(), last->operands.end());
    kept.push_back(std::move(last));
  }
  std::move(kept.rbegin(), kept.rend(), std::back_inserter(instructions));
}

// What is returned and larger than what it is made of is made last: gradients of wide linear
// layers, while activations are as many as they ever are.
void postpone_large_outputs(Instructions& instructions, const std::vector<Slot>& outputs) {
  // `used` and `written` by what comes later.
  std::unordered_set<Slot> used, written, returned(outputs.begin(), outputs.end());
  const auto all_in = [](const std::vector<Slot>& slots, const std::unordered_set<Slot>& set) {
    return std::all_of(slots.begin(), slots.end(), [&](Slot slot) { return set.count(slot) > 0; });
  };
  const auto any_in = [](const std::vector<Slot>& slots, const std::unordered_set<Slot>& set) {
    return std::any_of(slots.begin(), slots.end(), [&](Slot slot) { return set.count(slot) > 0; });
  };
  Instructions sooner, last;  // from behind
  while (!instructions.empty()) {
    std::unique_ptr<Instruction> instruction = std::move(instructions.back());
    instructions.pop_back();
    const bool waits = instruction->grows && all_in(instruction->results, returned) &&
                       !any_in(instruction->results, used) &&
                       !any_in(instruction->operands, written);
    used.insert(instruction->operands.begin(), instruction->operands.end());
    if (instruction->writes)
      written.insert(instruction->operands.begin(), instruction->operands.end());
    (waits ? last : sooner).push_back(std::move(instruction));
  }
  std::move(sooner.rbegin(), sooner.rend(), std::back_inserter(instructions));
  std::move(last.rbegin(), last.rend(), std::back_inserter(instructions));
}

// Writes down, for every slot, after which instruction nobody needs it any more.
void plan_releases(Instructions& instructions, const std::vector<Slot>& outputs, size_t slots) {
  std::vector<bool> needed(slots, false);
  const auto first_sight = [&](Slot slot) {
    if (slot < 0 || needed[static_cast<size_t>(slot)]) return false;
    needed[static_cast<size_t>(slot)] = true;
    return true;
  };
  for (const Slot slot : outputs) first_sight(slot);
  for (auto last = instructions.rbegin(); last != instructions.rend(); ++last) {
    Instruction& instruction = **last;
    for (const auto& used : {instruction.results, instruction.operands})
      for (const Slot slot : used)
        if (first_sight(slot)) instruction.finished.push_back(slot);
  }
}

void print(std::ostream& out, const std::vector<Slot>& slots) {
  const char* separator = "";
  for (const Slot slot : slots) {
    out << separator << (slot < 0 ? "@" : "%") << (slot < 0 ? ~slot : slot);
    separator = ", ";
  }
}

}  // namespace

Array Frame::take(Slot slot) {
  const auto count = [slot](const std::vector<Slot>& slots) {
    return std::count(slots.begin(), slots.end(), slot);
  };
  if (count(instruction_->finished) == 0 || count(instruction_->operands) > 1) return (*this)[slot];
  return std::move((*this)[slot]);
}

Program::Program(Instructions instructions, Arrays constants, const Arrays& inputs,
                 std::vector<Slot> outputs, size_t slots, size_t seeds)
    : instructions_(std::move(instructions)),
      constants_(std::move(constants)),
      outputs_(std::move(outputs)),
      slots_(slots),
      seeds_(seeds) {
  for (const Array& x : inputs) inputs_.push_back({x.shape(), x.dtype(), x.layout()});
  drop_unused(instructions_, outputs_);
  postpone_large_outputs(instructions_, outputs_);
  plan_releases(instructions_, outputs_, slots_);
}

Arrays Program::run(const Arrays& inputs, const Seeds& seeds) {
  check(inputs, seeds);
  if (Recorder* outer = Recorder::active()) outer->refuse("a recorded program runs inside");
  Frame frame(slots_, constants_, seeds);
  for (size_t i = 0; i < inputs.size(); ++i) frame[static_cast<Slot>(i)] = inputs[i];
  for (const auto& instruction : instructions_) {
    frame.begin(*instruction);
    instruction->run(frame);
    for (const Slot slot : instruction->finished) frame[slot] = Array();
  }
  Arrays outputs;
  outputs.reserve(outputs_.size());
  for (const Slot slot : outputs_) outputs.push_back(frame[slot]);
  return outputs;
}

void Program::check(const Arrays& inputs, const Seeds& seeds) const {
  if (inputs.size() != inputs_.size() || seeds.size() != seeds_)
    throw std::invalid_argument(message("[program] expected ", inputs_.size(), " inputs and ",
                                        seeds_, " seeds, got ", inputs.size(), " and ",
                                        seeds.size()));
  for (size_t i = 0; i < inputs.size(); ++i) {
    const Array& x = inputs[i];
    const Form& form = inputs_[i];
    if (x.shape() != form.shape || x.dtype() != form.dtype || x.layout() != form.layout)
      throw ShapeError(message("[program] input ", i, " was recorded as ", form.shape, " ",
                               name_of(form.dtype), " ", name_of(form.layout), ", got ", x.shape(),
                               " ", name_of(x.dtype()), " ", name_of(x.layout())));
  }
}

std::string Program::str() const {
  std::ostringstream out;
  for (const auto& instruction : instructions_) {
    print(out, instruction->results);
    out << (instruction->results.empty() ? "" : " = ") << instruction->name() << "(";
    print(out, instruction->operands);
    out << ")\n";
  }
  out << "return ";
  print(out, outputs_);
  return out.str();
}

}  // namespace fastconv::program
