#include "agent/kernel/close.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <sched.h>
#include <unistd.h>

#include <cerrno>
#include <memory>
#include <thread>

#include "agent/kernel/libbpf_log.h"
#include "close_sockets.skel.h"
#include "mesh/base/fd.h"

namespace weft::kernel {
namespace {

using Skeleton = std::unique_ptr<close_sockets, decltype(&close_sockets__destroy)>;

Skeleton open_skeleton() { return {close_sockets__open(), close_sockets__destroy}; }

// The storage of sockets is the data path's: its values are what they connected to.
absl::Status reuse(bpf_map* map, const Pins& pins) {
  const std::string path = pins.map(bpf_map__name(map));
  const base::Fd fd(bpf_obj_get(path.c_str()));
  if (!fd || bpf_map__reuse_fd(map, fd.get()))
    return absl::ErrnoToStatus(errno, "cannot use map " + path);
  return absl::OkStatus();
}

template <class Key, class Value>
absl::Status put(const bpf_map* map, const Key& key, const Value& value) {
  if (bpf_map__update_elem(map, &key, sizeof key, &value, sizeof value, BPF_ANY))
    return absl::ErrnoToStatus(errno, "cannot say what is to be closed");
  return absl::OkStatus();
}

absl::Status fill(const Skeleton& skeleton, std::span<const ClosingTarget> targets,
                  std::span<const weft_frontend_key> own) {
  absl::Status status;
  for (const auto& target : targets)
    status.Update(put(skeleton->maps.closing_endpoints, target.endpoint,
                      weft_closing{target.incarnation, 0}));
  for (const auto& key : own)
    status.Update(put(skeleton->maps.closing_addresses, key, std::uint32_t{0}));
  return status;
}

// Walks the sockets of the calling thread's namespace: the programs do the rest, and print nothing.
absl::Status walk(int link) {
  const base::Fd walk(bpf_iter_create(link));
  if (!walk) return absl::ErrnoToStatus(errno, "cannot walk the sockets");
  for (;;) {
    char none[64];
    const auto got = read(walk.get(), none, sizeof none);
    // EAGAIN: a million sockets were passed, and there are more.
    if (got > 0 || (got < 0 && (errno == EAGAIN || errno == EINTR))) continue;
    return got == 0 ? absl::OkStatus() : absl::ErrnoToStatus(errno, "cannot walk the sockets");
  }
}

absl::Status walk_in(int netns, std::span<const int> links) {
  if (setns(netns, CLONE_NEWNET)) return absl::ErrnoToStatus(errno, "cannot enter a namespace");
  absl::Status status;
  for (const int link : links) status.Update(walk(link));
  return status;
}

// On a thread of its own: the namespaces it enters end with it.
absl::Status walk_all(std::span<const int> namespaces, std::span<const int> links) {
  absl::Status status;
  std::thread([&] {
    for (const int netns : namespaces) status.Update(walk_in(netns, links));
  }).join();
  return status;
}

base::Fd link_of(const bpf_program* program) {
  return base::Fd(bpf_link_create(bpf_program__fd(program), 0, BPF_TRACE_ITER, nullptr));
}

Closed read_counts(const Skeleton& skeleton, std::span<const ClosingTarget> targets,
                   std::span<const weft_frontend_key> own) {
  Closed closed;
  for (const auto& target : targets) {
    weft_closing value{};
    bpf_map__lookup_elem(skeleton->maps.closing_endpoints, &target.endpoint, sizeof target.endpoint,
                         &value, sizeof value, 0);
    closed.sockets.push_back(value.closed);
  }
  for (const auto& key : own) {
    std::uint32_t count = 0;
    bpf_map__lookup_elem(skeleton->maps.closing_addresses, &key, sizeof key, &count, sizeof count,
                         0);
    closed.own += count;
  }
  return closed;
}

}  // namespace

absl::StatusOr<Closed> close_connections(const Pins& pins, std::span<const ClosingTarget> targets,
                                         std::span<const weft_frontend_key> own,
                                         std::span<const int> namespaces) {
  const LibbpfLog log;
  const Skeleton skeleton = open_skeleton();
  if (!skeleton) return absl::ErrnoToStatus(errno, "cannot open the embedded programs");
  for (auto* map : {skeleton->maps.weft_sockets, skeleton->maps.weft_own_sockets})
    if (auto status = reuse(map, pins); !status.ok()) return status;
  if (close_sockets__load(skeleton.get()))
    return absl::ErrnoToStatus(errno, "cannot load the programs: " + log.text());
  if (auto status = fill(skeleton, targets, own); !status.ok()) return status;
  const base::Fd tcp = link_of(skeleton->progs.weft_close_tcp);
  const base::Fd udp = link_of(skeleton->progs.weft_close_udp);
  if (!tcp || !udp) return absl::ErrnoToStatus(errno, "cannot make a socket iterator");
  const int links[] = {tcp.get(), udp.get()};
  if (auto status = walk_all(namespaces, links); !status.ok()) return status;
  return read_counts(skeleton, targets, own);
}

Feature probe_sock_destroy() {
  const LibbpfLog log;
  const Skeleton skeleton = open_skeleton();
  if (skeleton && close_sockets__load(skeleton.get()) == 0) return {"sock_destroy", true, ""};
  return {"sock_destroy", false,
          "no bpf_sock_destroy for socket iterators (6.5): connections to endpoints that go stay "
          "until their owners end them (weft.mesh/drain-deadline)"};
}

}  // namespace weft::kernel
