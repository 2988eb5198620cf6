// Into how many output channels a group is divided for tasks of a small batch.
#pragma once

#include "core/shape.h"

namespace fastconv::cpu {

// Of a task, where there are `tasks` without dividing the OC channels of a group: halved while
// there are too few tasks and channels enough.
inline int64_t channels_of_task(int64_t OC, int64_t tasks) {
  constexpr int64_t kTasks = 16, kFewestChannels = 16;
  int64_t parts = 1;
  while (2 * parts * tasks <= kTasks && 2 * parts * kFewestChannels <= OC) parts *= 2;
  return ceil_div(OC, parts);
}

}  // namespace fastconv::cpu
