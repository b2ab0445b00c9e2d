# Programs whose objects are those of the build that is there, but for the parts that a sanitizer watches. They are built on
# demand (target `sanitized`), and CTest knows their tests in its configuration of that name:
#   cmake --build --preset sanitized && ctest --preset sanitized
add_custom_target(sanitized)
set(watched -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer -O1 -g1)

# All tests of a program but those of the filters that follow, by several processes.
function(polar_sanitized_test name program processes)
  add_dependencies(sanitized ${program})
  list(JOIN ARGN ":" left_out)
  math(EXPR last "${processes} - 1")
  foreach(process RANGE ${last})
    add_test(NAME sanitized.${name}.${process} CONFIGURATIONS sanitized
      COMMAND ${program} --gtest_brief=1 --gtest_filter=-${left_out})
    set_tests_properties(sanitized.${name}.${process} PROPERTIES LABELS sanitized TIMEOUT 900 ENVIRONMENT
      "OMP_NUM_THREADS=1;OMP_WAIT_POLICY=passive;OPENBLAS_NUM_THREADS=1;GTEST_TOTAL_SHARDS=${processes};GTEST_SHARD_INDEX=${process};POLAR_TEST_BINARY=$<TARGET_FILE:polartrain_hostile>")
  endforeach()
endfunction()

# What reads files that others wrote, and the CPU backend, under the address and undefined-behaviour sanitizers. Objects,
# not archives, and before those of the tests: of what is there twice the linker takes the first, and so the watched one.
set(sources)
foreach(layer base tensor config data checkpoint model eval report cpu)
  get_target_property(of_layer polar_${layer} SOURCES)
  get_target_property(folder polar_${layer} SOURCE_DIR)
  list(TRANSFORM of_layer PREPEND ${folder}/ REGEX "^[^/]")
  list(APPEND sources ${of_layer})
endforeach()
add_library(polar_hostile OBJECT EXCLUDE_FROM_ALL ${sources})
target_compile_options(polar_hostile PRIVATE ${watched})
target_link_libraries(polar_hostile PRIVATE polar_eval polar_report polar_ops OpenMP::OpenMP_CXX PkgConfig::OPENBLAS)
add_executable(polartrain_hostile EXCLUDE_FROM_ALL $<TARGET_OBJECTS:polar_hostile>)
target_link_libraries(polartrain_hostile PRIVATE polar_command polar_backend)
target_link_options(polartrain_hostile PRIVATE -fsanitize=address,undefined)
foreach(part config checkpoint data fault eval report tools)
  add_executable(test_${part}_hostile EXCLUDE_FROM_ALL $<TARGET_OBJECTS:polar_hostile> $<TARGET_OBJECTS:test_${part}>)
  target_link_libraries(test_${part}_hostile PRIVATE polar_testing polar_train polar_backend)
  target_link_options(test_${part}_hostile PRIVATE -fsanitize=address,undefined)
  polar_sanitized_test(${part} test_${part}_hostile 1)
endforeach()
add_dependencies(test_tools_hostile polartrain_hostile)
if(NOT POLAR_EMULATE)
  return()
endif()

# The emulator and the CUDA backend with it (kernels/emulator): `overruns` under the same sanitizers; `races` under the thread
# sanitizer, with the kernels alone watched, each once or more. Left out is what takes minutes so, or adds no accesses that are
# not made elsewhere.
get_target_property(emulator_tests test_emulator SOURCES)
get_target_property(cuda_libraries test_cuda LINK_LIBRARIES)
foreach(kind overruns races)
  add_executable(test_emulator_${kind} EXCLUDE_FROM_ALL ${emulator_tests})
  target_link_libraries(test_emulator_${kind} PRIVATE polar_testing polar_emulator_${kind})
  target_compile_options(test_emulator_${kind} PRIVATE ${POLAR_KERNEL_OPTIONS} ${POLAR_${kind}_OPTIONS})
  polar_sanitized_test(emulator.${kind} test_emulator_${kind} 1)
  add_executable(test_cuda_${kind} EXCLUDE_FROM_ALL $<TARGET_OBJECTS:test_cuda>)
  list(TRANSFORM cuda_libraries REPLACE "polar_cuda_emulated" "polar_cuda_${kind}" OUTPUT_VARIABLE libraries)
  target_link_libraries(test_cuda_${kind} PRIVATE ${libraries})
endforeach()
set(left_out *Command* *Ranks* CudaLaunches* *Bits* *OfMany* *OfMillions *TheRing* CudaSolver*
  CudaAttentionChoice*)  # which measures times
polar_sanitized_test(cuda.overruns test_cuda_overruns 2 ${left_out} *EveryOrder* *AnyOrder* *FiveSteps* *TrainsInBf16*)
polar_sanitized_test(cuda.races test_cuda_races 4 ${left_out} *Model* *Gemm* CudaRuntime* *Qwen* CudaAttention.Decoding*
  CudaCrossEntropy.Agrees* CudaRmsNorm.BackwardAccumulates CudaEmbedding.BackwardAddsInTheOrderOfPositions)
