#include "cpu/table.h"

namespace fastconv::cpu {
namespace {

Operations make_table() {
  Operations table{};
  return table;
}

}  // namespace

const Operations& operations() {
  static const Operations table = make_table();
  return table;
}

}  // namespace fastconv::cpu
