// recorded(name, function): the same function, which also writes itself down while a Recorder is
// active in this thread. Without one it costs a look at a pointer.
//
// Its arguments may be Arrays (optional ones and lists of them too), which an instruction keeps as
// slots, a Seed, and any values, which it keeps as they are. It may return nothing, an Array, or
// a pair or tuple of Arrays. A function that returns something else gives Python numbers to look at
// and refuses the recording.
//
// How a function takes its arrays says what it does to them: `const Array&` is read, `Array&` is
// written into, and so is an optional array by value. An Array by value may be, once nobody else
// has it. A function that returns nothing writes into its arrays.
#pragma once

#include <optional>
#include <string>
#include <tuple>
#include <type_traits>
#include <utility>

#include "program/recorder.h"

namespace fastconv::program {

// ---- arguments: how one of type T waits in an instruction, and what it is when that runs
template <class T>
struct Kept {
  T value;
  Kept(const T& argument, Recorder&) : value(argument) {}
  const T& get(Frame&) const { return value; }
};

template <>
struct Kept<Array> {
  Slot slot;
  Kept(const Array& argument, Recorder& recorder) : slot(recorder.operand(argument)) {}
  Array& get(Frame& frame) const { return frame[slot]; }
  Array take(Frame& frame) const { return frame.take(slot); }
};

template <>
struct Kept<std::optional<Array>> {
  std::optional<Slot> slot;
  Kept(const std::optional<Array>& argument, Recorder& recorder) {
    if (argument) slot = recorder.operand(*argument);
  }
  std::optional<Array> get(Frame& frame) const {
    return slot ? std::optional<Array>(frame[*slot]) : std::nullopt;
  }
};

template <>
struct Kept<Arrays> {
  std::vector<Slot> slots;
  Kept(const Arrays& argument, Recorder& recorder) {
    for (const Array& x : argument) slots.push_back(recorder.operand(x));
  }
  Arrays get(Frame& frame) const {
    Arrays arrays;
    for (const Slot slot : slots) arrays.push_back(frame[slot]);
    return arrays;
  }
};

// Its arrays are operands like others.
template <>
struct Kept<PostOps> {
  PostOps post;  // without arrays
  Slot add = 0, weight = 0, bias = 0, mean = 0, var = 0;

  Kept(const PostOps& argument, Recorder& recorder) : post(argument) {
    add = recorder.operand(std::exchange(post.add, Array()));
    if (!post.normalise) return;
    Normalise& n = *post.normalise;
    weight = recorder.operand(std::exchange(n.weight, Array()));
    bias = recorder.operand(std::exchange(n.bias, Array()));
    mean = recorder.operand(std::exchange(n.mean, Array()));
    var = recorder.operand(std::exchange(n.var, Array()));
  }
  PostOps get(Frame& frame) const {
    PostOps filled = post;
    filled.add = frame[add];
    if (filled.normalise)
      filled.normalise = {frame[weight], frame[bias], frame[mean], frame[var], post.normalise->eps};
    return filled;
  }
};

template <>
struct Kept<Seed> {
  int32_t number;
  Kept(Seed argument, Recorder& recorder) : number(recorder.seed(argument)) {}
  Seed get(Frame& frame) const { return frame.seed(number); }
};

// An array by value is given away after its last use.
template <class Arg, class T>
decltype(auto) passed(const Kept<T>& kept, Frame& frame) {
  if constexpr (std::is_same_v<Arg, Array>)
    return kept.take(frame);
  else
    return kept.get(frame);
}

// ---- results
template <class R>
constexpr bool made_of_arrays = false;
template <>
inline constexpr bool made_of_arrays<Array> = true;
template <class... Rs>
inline constexpr bool made_of_arrays<std::tuple<Rs...>> = (std::is_same_v<Rs, Array> && ...);
template <>
inline constexpr bool made_of_arrays<std::pair<Array, Array>> = true;

// Calls body(array) for each Array of a result.
template <class R, class Body>
void for_arrays(R& result, const Body& body) {
  if constexpr (std::is_same_v<std::remove_const_t<R>, Array>) {
    body(result);
  } else {
    std::apply([&](auto&... arrays) { (body(arrays), ...); }, result);
  }
}

// ---- the instruction
template <class F, class R, class... Args>
class Call final : public Instruction {
 public:
  Call(const char* name, const F& function, Recorder& recorder, const std::decay_t<Args>&... args)
      : Instruction(name), function_(function), kept_{Kept<std::decay_t<Args>>(args, recorder)...} {
    writes = std::is_void_v<R> ||
             ((std::is_same_v<Args, std::optional<Array>> || std::is_same_v<Args, Array&>) || ...);
  }

  void run(Frame& frame) const override {
    std::apply(
        [&](const auto&... kept) {
          if constexpr (std::is_void_v<R>) {
            function_(passed<Args>(kept, frame)...);
          } else {
            R result = function_(passed<Args>(kept, frame)...);
            const Slot* slot = results.data();
            for_arrays(result, [&](Array& array) { frame[*slot++] = std::move(array); });
          }
        },
        kept_);
  }

 private:
  F function_;
  std::tuple<Kept<std::decay_t<Args>>...> kept_;
};

// ---- the function
template <class F, class R, class... Args>
struct Recorded {
  const char* name;
  F function;

  R operator()(Args... args) const {
    Recorder* recorder = Recorder::active();
    if (recorder == nullptr || recorder->refused()) return function(std::forward<Args>(args)...);
    if constexpr (std::is_void_v<R>) {
      function(args...);
      append(*recorder, {}, args...);
    } else if constexpr (made_of_arrays<R>) {
      const R result = function(args...);
      std::vector<const Array*> arrays;
      for_arrays(result, [&](const Array& array) { arrays.push_back(&array); });
      append(*recorder, arrays, args...);
      return result;
    } else {
      recorder->refuse(std::string("Python looks at the result of ") + name);
      return function(args...);
    }
  }

 private:
  void append(Recorder& recorder, const std::vector<const Array*>& results,
              const std::decay_t<Args>&... args) const {
    auto call = std::make_unique<Call<F, R, Args...>>(name, function, recorder, args...);
    recorder.append(std::move(call), results);
  }
};

template <class R, class... Args>
auto recorded(const char* name, R (*function)(Args...)) {
  return Recorded<R (*)(Args...), R, Args...>{name, function};
}

template <class F, class R, class... Args>
auto recorded_as(const char* name, F function, R (F::*)(Args...) const) {
  return Recorded<F, R, Args...>{name, std::move(function)};
}

template <class F, class = decltype(&F::operator())>
auto recorded(const char* name, F function) {
  return recorded_as(name, std::move(function), &F::operator());
}

// Refuses the recording under way in this thread, if there is one.
inline void refuse_recording(const char* why) {
  if (Recorder* recorder = Recorder::active()) recorder->refuse(why);
}

}  // namespace fastconv::program
