#include "contract/tap_table.h"

namespace fastconv {

TapTable TapTable::transposed(int64_t inputs) const {
  TapTable t;
  t.begin_.assign(static_cast<size_t>(inputs) + 1, 0);
  t.index_.resize(index_.size());
  t.weight_.resize(weight_.size());
  for (const int64_t input : index_) ++t.begin_[static_cast<size_t>(input) + 1];
  for (size_t i = 1; i < t.begin_.size(); ++i) t.begin_[i] += t.begin_[i - 1];
  std::vector<int64_t> next(t.begin_.begin(), t.begin_.end() - 1);
  for (int64_t output = 0; output < outputs(); ++output)
    for (auto tap = static_cast<size_t>(begin_[static_cast<size_t>(output)]);
         tap < static_cast<size_t>(begin_[static_cast<size_t>(output) + 1]); ++tap) {
      const auto to = static_cast<size_t>(next[static_cast<size_t>(index_[tap])]++);
      t.index_[to] = output;
      t.weight_[to] = weight_[tap];
    }
  return t;
}

void TapTable::divide_by(const std::vector<float>& divisor) {
  for (size_t output = 0; output + 1 < begin_.size(); ++output)
    for (auto tap = begin_[output]; tap < begin_[output + 1]; ++tap)
      weight_[static_cast<size_t>(tap)] /= divisor[output];
}

}  // namespace fastconv
