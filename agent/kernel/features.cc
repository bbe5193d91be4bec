#include "agent/kernel/features.h"

#include <bpf/bpf.h>
#include <linux/bpf.h>
#include <linux/membarrier.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstddef>
#include <initializer_list>

namespace weft::kernel {
namespace {

constexpr bpf_insn call(bpf_func_id helper) {
  return {.code = BPF_JMP | BPF_CALL, .dst_reg = 0, .src_reg = 0, .off = 0, .imm = helper};
}
constexpr bpf_insn move(std::uint8_t to, std::int32_t value) {
  return {.code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = to, .src_reg = 0, .off = 0, .imm = value};
}
constexpr bpf_insn load_field(std::uint8_t to, std::uint8_t from, std::size_t offset) {
  return {.code = BPF_LDX | BPF_MEM | BPF_DW,
          .dst_reg = to,
          .src_reg = from,
          .off = static_cast<std::int16_t>(offset),
          .imm = 0};
}
constexpr bpf_insn skip_if_zero(std::uint8_t reg, std::int16_t count) {
  return {.code = BPF_JMP | BPF_JEQ | BPF_K, .dst_reg = reg, .src_reg = 0, .off = count, .imm = 0};
}
constexpr bpf_insn leave() {
  return {.code = BPF_JMP | BPF_EXIT, .dst_reg = 0, .src_reg = 0, .off = 0, .imm = 0};
}

bool loads(bpf_prog_type type, bpf_attach_type attach, std::initializer_list<bpf_insn> program) {
  LIBBPF_OPTS(bpf_prog_load_opts, options, .expected_attach_type = attach);
  const base::Fd fd(
      bpf_prog_load(type, "weft_probe", "Dual BSD/GPL", program.begin(), program.size(), &options));
  return static_cast<bool>(fd);
}

Feature feature(const char* name, bool enabled, const char* loss) {
  return {name, enabled, enabled ? "" : loss};
}

}  // namespace

std::uint32_t own_tgid() {
  const bpf_insn program[] = {
      call(BPF_FUNC_get_current_pid_tgid),
      {.code = BPF_ALU64 | BPF_RSH | BPF_K, .dst_reg = 0, .src_reg = 0, .off = 0, .imm = 32},
      leave()};
  const base::Fd fd(bpf_prog_load(BPF_PROG_TYPE_RAW_TRACEPOINT, "weft_self", "Dual BSD/GPL",
                                  program, std::size(program), nullptr));
  // Run here and now, in this very process (Linux 5.10).
  LIBBPF_OPTS(bpf_test_run_opts, options);
  if (!fd || bpf_prog_test_run_opts(fd.get(), &options)) return 0;
  return options.retval;
}

Probed probe_features() {
  Probed probed;
  probed.set_retval = feature(
      "set_retval",
      loads(BPF_PROG_TYPE_CGROUP_SOCK_ADDR, BPF_CGROUP_INET4_CONNECT,
            {move(1, -111), call(BPF_FUNC_set_retval), move(0, 0), leave()}),
      "no bpf_set_retval in this kernel (5.18): refused connects see EPERM, not ECONNREFUSED");
  probed.v6only = feature(
      "v6only",
      loads(BPF_PROG_TYPE_CGROUP_SOCK_ADDR, BPF_CGROUP_INET6_CONNECT,
            {load_field(1, 1, offsetof(bpf_sock_addr, sk)), skip_if_zero(1, 1),
             call(BPF_FUNC_skc_to_tcp6_sock), move(0, 1), leave()}),
      "bpf_skc_to_tcp6_sock is refused in connect: a V6ONLY socket turned to an IPv4 endpoint gets "
      "ENETUNREACH, uncounted");
  probed.sock_error =
      feature("sock_error",
              loads(BPF_PROG_TYPE_SOCK_OPS, BPF_CGROUP_SOCK_OPS,
                    {load_field(1, 1, offsetof(bpf_sock_ops, sk)), skip_if_zero(1, 1),
                     call(BPF_FUNC_skc_to_tcp_sock), move(0, 1), leave()}),
              "bpf_skc_to_tcp_sock is refused in sockops: every failed connect counts as refused");
  probed.membarrier =
      feature("membarrier", syscall(SYS_membarrier, MEMBARRIER_CMD_GLOBAL, 0, 0) == 0,
              "membarrier(GLOBAL) is refused (nohz_full?): freed map ranges wait a second");
  probed.self =
      feature("self", own_tgid() != 0,
              "a raw tracepoint cannot be test-run (Linux 5.10, CAP_PERFMON): where weftd "
              "itself lives below --cgroup its own connections are balanced too");
  return probed;
}

}  // namespace weft::kernel
