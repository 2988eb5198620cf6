# Fails the build when a kernel object of one instruction set offers the linker a symbol that another
# object may take: a copy compiled with AVX instructions would then run on every CPU, and stop those
# without AVX (numpy/numpy#25274).
#
#   cmake -DNM=nm -DISA=avx2 "-DOBJECTS=a.o|b.o" -P check_symbols.cmake
#
# Allowed: global symbols in fastconv::cpu::<ISA>. Not allowed: weak symbols (inline functions and
# templates with external linkage) and global symbols anywhere else.
string(REPLACE "|" ";" objects "${OBJECTS}")
string(LENGTH "${ISA}" length)
set(own "^_?_ZN8fastconv3cpu${length}${ISA}")

set(leaks "")
foreach(object IN LISTS objects)
  execute_process(COMMAND "${NM}" -g -P "${object}" OUTPUT_VARIABLE output COMMAND_ERROR_IS_FATAL ANY)
  string(REGEX MATCHALL "[^\n]+" lines "${output}")
  foreach(line IN LISTS lines)
    if(NOT line MATCHES "^([^ ]+) ([A-Za-z])")
      continue()
    endif()
    set(symbol "${CMAKE_MATCH_1}")
    set(type "${CMAKE_MATCH_2}")
    if(type MATCHES "[Uwv]") # defined elsewhere
      continue()
    endif()
    if(type MATCHES "[WVu]" OR NOT symbol MATCHES "${own}")
      string(APPEND leaks "  ${object}: ${type} ${symbol}\n")
    endif()
  endforeach()
endforeach()

if(leaks)
  message(FATAL_ERROR
    "Kernel objects for ${ISA} define symbols that other objects could pick up:\n${leaks}"
    "Put helpers into an anonymous namespace and use no standard library templates "
    "(csrc/cpu/simd.h says why).")
endif()
