# Finds dlpack.h, the header of the exchange format: DLPack_FOUND, DLPack_VERSION, DLPack::DLPack.
# Looks into DLPACK_INCLUDE_DIR, then into the Python package that ships it (apache-tvm-ffi), then
# into the system. Debian's own libdlpack-dev is of the old, unversioned kind and is passed over.
set(DLPACK_INCLUDE_DIR "" CACHE PATH "Folder that holds dlpack/dlpack.h, version 1.1 or later")

set(hints ${DLPACK_INCLUDE_DIR})
if(Python_EXECUTABLE)
  execute_process(
    COMMAND ${Python_EXECUTABLE} -c
      "import importlib.util as u; print(u.find_spec('tvm_ffi').submodule_search_locations[0])"
    OUTPUT_VARIABLE tvm_ffi OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
  if(tvm_ffi)
    list(APPEND hints ${tvm_ffi}/include)
  endif()
endif()
find_path(DLPack_FOUND_DIR dlpack/dlpack.h HINTS ${hints} NO_CACHE)

if(DLPack_FOUND_DIR)
  file(STRINGS ${DLPack_FOUND_DIR}/dlpack/dlpack.h lines REGEX "DLPACK_(MAJOR|MINOR)_VERSION [0-9]")
  string(REGEX REPLACE ".*MAJOR_VERSION ([0-9]+).*MINOR_VERSION ([0-9]+).*" "\\1.\\2"
         DLPack_VERSION "${lines}")
  if(NOT DLPack_VERSION)
    set(DLPack_VERSION 0)
  endif()
endif()

include(FindPackageHandleStandardArgs)
find_package_handle_standard_args(DLPack REQUIRED_VARS DLPack_FOUND_DIR VERSION_VAR DLPack_VERSION)
if(DLPack_FOUND AND NOT TARGET DLPack::DLPack)
  add_library(DLPack::DLPack INTERFACE IMPORTED)
  target_include_directories(DLPack::DLPack SYSTEM INTERFACE ${DLPack_FOUND_DIR})
endif()
