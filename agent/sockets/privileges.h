// weft-sockets enters namespaces and does nothing else that needs a privilege.
#pragma once

#include <absl/status/status.h>

namespace weft::sockets {

// Keeps CAP_SYS_ADMIN (setns) alone, for good: nothing this process starts gets more. As many
// descriptors as the hard limit allows: namespaces are one each.
absl::Status keep_what_is_needed();

}  // namespace weft::sockets
