#!/usr/bin/env bash
# The kernel tests under AddressSanitizer and UndefinedBehaviorSanitizer:
#
#     tests/sanitize.sh [PYTHON]      default: python; needs '.[test]', pybind11, cmake, ninja and GCC
#
# Builds the extension with the sanitizers into a temporary folder (every array then ends at a guarded
# zone of its own, see core/arena.cpp) and runs the tests of everything that touches memory there.
# Exit status 0 only when all tests pass and the sanitizers stay silent.
set -euo pipefail

python=${1:-python}
root=$(cd "$(dirname "$0")/.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

echo "sanitize: building in $work"
cp -r "$root/fastconv" "$root/tests" "$root/pyproject.toml" "$work/"
rm -f "$work"/fastconv/*.so
"$python" -m cmake --version >/dev/null 2>&1 && cmake=("$python" -m cmake) || cmake=(cmake)
"${cmake[@]}" -S "$root" -B "$work/build" -G Ninja -DCMAKE_BUILD_TYPE=RelWithDebInfo \
  -DCMAKE_CXX_FLAGS_RELWITHDEBINFO="-O1 -g1" \
  -DFASTCONV_SANITIZE=address,undefined -DPython_EXECUTABLE="$(command -v "$python")" \
  -Dpybind11_DIR="$("$python" -m pybind11 --cmakedir)" >"$work/cmake.log" || {
  cat "$work/cmake.log"
  exit 1
}
"${cmake[@]}" --build "$work/build" -j 2 >"$work/build.log" || {
  tail -40 "$work/build.log"
  exit 1
}
cp "$work"/build/_core*.so "$work/fastconv/"

tests=(layout conv2d linear pool activation norm loss movement optim properties gradients core_errors arrays)
echo "sanitize: testing ${tests[*]}"
cd "$work"
# Python itself is not instrumented: the sanitizer's runtime must come first, and the C++ runtime
# beside it, for exceptions. Leaks are those of the interpreter.
export LD_PRELOAD="$(g++ -print-file-name=libasan.so) $(g++ -print-file-name=libstdc++.so.6)"
export ASAN_OPTIONS=detect_leaks=0:allocator_may_return_null=1:halt_on_error=1:detect_stack_use_after_return=0
export UBSAN_OPTIONS=print_stacktrace=1:halt_on_error=1
export PYTHONPATH=$work PYTHONDONTWRITEBYTECODE=1 PYTHONMALLOC=malloc
unset FASTCONV_DATA FASTCONV_ISA FASTCONV_NUM_THREADS
files=("${tests[@]/%/.py}")
"$python" -m pytest -q -p no:cacheprovider --capture=sys "${files[@]/#/tests/test_}"
