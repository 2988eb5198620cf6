#include "program/program.h"

#include <sstream>
#include <utility>

#include "core/errors.h"
#include "program/recorder.h"

namespace fastconv::program {
namespace {

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

Program::Program(Instructions instructions, Arrays constants, const Arrays& inputs,
                 std::vector<Slot> outputs, size_t slots, size_t seeds)
    : instructions_(std::move(instructions)),
      constants_(std::move(constants)),
      outputs_(std::move(outputs)),
      slots_(slots),
      seeds_(seeds) {
  for (const Array& x : inputs) inputs_.push_back({x.shape(), x.dtype(), x.layout()});
  plan_releases(instructions_, outputs_, slots_);
}

Arrays Program::run(const Arrays& inputs, const Seeds& seeds) {
  check(inputs, seeds);
  if (Recorder* outer = Recorder::active()) outer->refuse("a recorded program runs inside");
  Frame frame(slots_, constants_, seeds);
  for (size_t i = 0; i < inputs.size(); ++i) frame[static_cast<Slot>(i)] = inputs[i];
  for (const auto& instruction : instructions_) {
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
