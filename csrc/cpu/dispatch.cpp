#include "cpu/dispatch.h"

#include <atomic>
#include <cstdlib>
#include <stdexcept>

#include "core/errors.h"
#include "cpu/runtime/cpu_features.h"

namespace fastconv::cpu {

// One table an instruction set, filled in kernels/table.cpp.
namespace scalar {
extern const Kernels table;
}
#if defined(FASTCONV_HAS_AVX2)
namespace avx2 {
extern const Kernels table;
}
#endif
#if defined(FASTCONV_HAS_AVX512)
namespace avx512 {
extern const Kernels table;
}
#endif

namespace {

// Built here and runnable on this machine; worst first.
std::vector<const Kernels*> available() {
  [[maybe_unused]] const CpuFeatures features = cpu_features();
  std::vector<const Kernels*> tables{&scalar::table};
#if defined(FASTCONV_HAS_AVX2)
  if (features.avx2) tables.push_back(&avx2::table);
#endif
#if defined(FASTCONV_HAS_AVX512)
  if (features.avx512) tables.push_back(&avx512::table);
#endif
  return tables;
}

std::string choices() {
  std::string names;
  for (const Kernels* table : available())
    names += (names.empty() ? "" : ", ") + std::string(table->name);
  return names;
}

const Kernels* find(const std::string& name) {
  for (const Kernels* table : available())
    if (name == table->name) return table;
  return nullptr;
}

const Kernels* choose() {
  const char* name = std::getenv("FASTCONV_ISA");
  if (name == nullptr || *name == '\0') return available().back();
  if (const Kernels* table = find(name)) return table;
  throw std::runtime_error(message("[isa] FASTCONV_ISA is \"", name,
                                   "\", but this build on this machine can run: ", choices(),
                                   "; set it to one of these or unset it"));
}

std::atomic<const Kernels*> chosen{nullptr};

}  // namespace

const Kernels& kernels() {
  const Kernels* table = chosen.load(std::memory_order_acquire);
  if (table == nullptr) {
    const Kernels* first = choose();
    // Another thread may have chosen, or set_isa been called, in between: theirs stands.
    if (chosen.compare_exchange_strong(table, first)) table = first;
  }
  return *table;
}

std::string isa() { return kernels().name; }

std::vector<std::string> available_isas() {
  std::vector<std::string> names;
  for (const Kernels* table : available()) names.emplace_back(table->name);
  return names;
}

void set_isa(const std::string& name) {
  const Kernels* table = find(name);
  if (table == nullptr)
    throw std::invalid_argument(
        message("[set_isa] \"", name,
                "\" cannot run here; this build on this machine can run: ", choices()));
  chosen.store(table);
}

}  // namespace fastconv::cpu
