// What the proxy gives up once it has all it needs: what reads strangers' bytes shall not be able
// to make sockets of its own, start programs or look into others.
#pragma once

#include <absl/status/status.h>

namespace weft::net {

// For this thread and those it makes. No new privileges; no socket() but AF_UNIX; no execve, bpf,
// ptrace, setns, mount and their like: those fail with EPERM.
absl::Status enter_sandbox();

}  // namespace weft::net
