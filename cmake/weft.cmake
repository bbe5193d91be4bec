# Flag targets and the two functions every folder uses. Libraries are found here, once.
find_package(absl REQUIRED)
find_package(GTest REQUIRED)
find_package(benchmark REQUIRED)
find_package(Threads REQUIRED)
find_package(PkgConfig REQUIRED)
pkg_check_modules(LIBBPF REQUIRED IMPORTED_TARGET libbpf)
pkg_check_modules(RE2 REQUIRED IMPORTED_TARGET re2)
pkg_check_modules(PROTOBUF_LITE REQUIRED IMPORTED_TARGET protobuf-lite)
# Their -pthread means nothing here but that precompiled headers do not fit.
set_target_properties(PkgConfig::RE2 PkgConfig::PROTOBUF_LITE PROPERTIES INTERFACE_COMPILE_OPTIONS "")
find_program(PROTOC protoc REQUIRED)
pkg_check_modules(LIBFYAML REQUIRED IMPORTED_TARGET libfyaml)
find_package(simdjson REQUIRED)
find_package(nlohmann_json REQUIRED)
find_package(CLI11 REQUIRED)
find_package(OpenSSL REQUIRED)

add_library(weft_flags INTERFACE)
target_compile_options(weft_flags INTERFACE -Wall -Wextra -Wpedantic -Werror -Wshadow -Wnon-virtual-dtor
  -Wno-missing-field-initializers)
# GCC 12 is wrong about temporaries of aggregates that hold a shared_ptr (its bug 105562) and about joined
# strings (105329, 105651).
target_compile_options(weft_flags INTERFACE "$<$<CXX_COMPILER_ID:GNU>:-Wno-maybe-uninitialized;-Wno-array-bounds;-Wno-restrict;-Wno-stringop-overflow>")
target_compile_definitions(weft_flags INTERFACE WEFT_VERSION="${PROJECT_VERSION}")
target_include_directories(weft_flags INTERFACE ${PROJECT_SOURCE_DIR} ${PROJECT_SOURCE_DIR}/bpf)
if(WEFT_SANITIZE STREQUAL thread)
  set(WEFT_SANITIZERS thread)
  # It does not understand fences, and GCC says so of Asio's, which guard nothing but Asio's own mutexes.
  target_compile_options(weft_flags INTERFACE $<$<COMPILE_LANG_AND_ID:CXX,GNU>:-Wno-tsan>)
elseif(WEFT_SANITIZE)
  set(WEFT_SANITIZERS address,undefined)
endif()
if(WEFT_SANITIZERS)
  target_compile_options(weft_flags INTERFACE -fsanitize=${WEFT_SANITIZERS} -fno-sanitize-recover=all
    -fno-omit-frame-pointer)
  target_link_options(weft_flags INTERFACE -fsanitize=${WEFT_SANITIZERS})
endif()

# Two precompiled headers for everything: what nearly every file includes anyway, and the same with
# GoogleTest. A target whose flags differ simply does without.
file(WRITE ${CMAKE_BINARY_DIR}/pch.cc "")
set(WEFT_COMMON_HEADERS <algorithm> <array> <chrono> <functional> <map> <memory> <optional> <set> <span> <string>
  <string_view> <unordered_map> <variant> <vector> <absl/status/statusor.h>)
add_library(weft_pch STATIC ${CMAKE_BINARY_DIR}/pch.cc)
target_link_libraries(weft_pch PUBLIC weft_flags absl::status absl::statusor absl::strings)
target_precompile_headers(weft_pch PRIVATE ${WEFT_COMMON_HEADERS})
add_library(weft_test_pch STATIC ${CMAKE_BINARY_DIR}/pch.cc)
target_link_libraries(weft_test_pch PUBLIC weft_flags absl::status absl::statusor absl::strings GTest::gtest)
target_precompile_headers(weft_test_pch PRIVATE ${WEFT_COMMON_HEADERS} <gtest/gtest.h>)

# weft_library(NAME sources...): warnings as errors, and abseil's Status for everybody.
function(weft_library name)
  add_library(${name} STATIC ${ARGN})
  target_link_libraries(${name} PUBLIC weft_flags absl::status absl::statusor absl::strings)
  target_precompile_headers(${name} REUSE_FROM weft_pch)
endfunction()

# weft_test(NAME LIBS a b SOURCES x_test.cc ...): one gtest binary, one ctest entry in the suite
# "unit". An entry per binary and not per TEST: 2 cores, and starting a process costs more than most
# of the tests.
function(weft_test name)
  cmake_parse_arguments(T "" "SUITE" "LIBS;SOURCES" ${ARGN})
  if(NOT T_SUITE)
    set(T_SUITE unit)
  endif()
  add_executable(${name} ${T_SOURCES})
  target_link_libraries(${name} PRIVATE weft_flags ${T_LIBS} GTest::gtest_main Threads::Threads)
  target_precompile_headers(${name} REUSE_FROM weft_test_pch)
  set_target_properties(${name} PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/tests)
  add_test(NAME ${T_SUITE}.${name} COMMAND ${name} WORKING_DIRECTORY ${PROJECT_SOURCE_DIR})
  set_tests_properties(${T_SUITE}.${name} PROPERTIES LABELS ${T_SUITE} TIMEOUT 600)
endfunction()

# weft_threaded(TARGET...): programs of more than one thread, and their tests: what scripts/test builds with
# ThreadSanitizer, as the target "threaded", and the tests with the label "threads" that it then runs.
add_custom_target(threaded)
function(weft_threaded)
  add_dependencies(threaded ${ARGN})
  foreach(name ${ARGN})
    if(TEST unit.${name})
      set_property(TEST unit.${name} APPEND PROPERTY LABELS threads)
    endif()
  endforeach()
endfunction()

# weft_proto(NAME weft/v1/x.proto): the messages of a file below proto/, included as <weft/v1/x.pb.h>.
# Generated code is nobody's style: no warnings, and a system header for who includes it.
function(weft_proto name file)
  string(REGEX REPLACE "\\.proto$" "" base ${file})
  set(out ${CMAKE_BINARY_DIR}/proto)
  file(MAKE_DIRECTORY ${out})
  add_custom_command(OUTPUT ${out}/${base}.pb.cc ${out}/${base}.pb.h
    COMMAND ${PROTOC} --proto_path=${PROJECT_SOURCE_DIR}/proto --cpp_out=${out} ${file}
    DEPENDS ${PROJECT_SOURCE_DIR}/proto/${file} VERBATIM)
  add_library(${name} STATIC ${out}/${base}.pb.cc ${out}/${base}.pb.h)
  target_include_directories(${name} SYSTEM PUBLIC ${out})
  target_compile_options(${name} PRIVATE -w)
  if(WEFT_SANITIZERS)
    target_compile_options(${name} PRIVATE -fsanitize=${WEFT_SANITIZERS} -fno-omit-frame-pointer)
  endif()
  target_link_libraries(${name} PUBLIC PkgConfig::PROTOBUF_LITE)
endfunction()
