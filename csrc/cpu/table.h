// What the CPU can do (contract/operations.h).
#pragma once

#include "contract/operations.h"

namespace fastconv::cpu {

const Operations& operations();

}  // namespace fastconv::cpu
