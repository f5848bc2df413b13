# No program, shared library or Python extension that was built needs the driver's library, so that
# all start on a machine without a driver; and in a build without CUDA none of its libraries.
# Arguments: BUILD_DIR, WITH_CUDA (empty: without).
cmake_minimum_required(VERSION 3.25)
set(forbidden cuda nvidia-ml)
if(NOT WITH_CUDA)
  list(APPEND forbidden cudart nvrtc nvJitLink cublas cublasLt cudnn[a-z_]* nvToolsExt)
endif()
list(JOIN forbidden "|" forbidden)

file(GLOB binaries LIST_DIRECTORIES false ${BUILD_DIR}/bin/*)
file(GLOB_RECURSE libraries LIST_DIRECTORIES false ${BUILD_DIR}/*.so ${BUILD_DIR}/*.so.*)
list(FILTER libraries EXCLUDE REGEX "/(CMakeFiles|tests/package)/")
set(seen 0)
foreach(binary IN LISTS binaries libraries)
  execute_process(COMMAND readelf --dynamic ${binary} OUTPUT_VARIABLE dynamic RESULT_VARIABLE failed
                  ERROR_QUIET)
  if(failed OR NOT dynamic MATCHES "NEEDED")  # a script
    continue()
  endif()
  math(EXPR seen "${seen} + 1")
  string(REGEX MATCHALL "\\[lib(${forbidden})\\.so[^]]*\\]" found "${dynamic}")
  if(found)
    message(SEND_ERROR "${binary} needs ${found}")
  endif()
endforeach()
if(seen EQUAL 0)
  message(FATAL_ERROR "nothing in ${BUILD_DIR} to look at")
endif()
message(STATUS "${seen} programs and libraries")
