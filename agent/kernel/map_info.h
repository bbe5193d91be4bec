// What the kernel tells about a map or a link, and small questions to the system around them.
#pragma once

#include <string>

namespace weft::kernel {

int possible_cpus();
// "hash", "array", ... as bpftool names them; "type 99" for one this build does not know.
std::string map_type_name(unsigned type);

}  // namespace weft::kernel
