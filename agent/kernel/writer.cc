#include "agent/kernel/writer.h"

#include <linux/membarrier.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <chrono>
#include <cstring>
#include <thread>

#include "agent/kernel/breaker.h"

namespace weft::kernel {
namespace {

using namespace reconcile;

std::uint64_t wall_ns() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(
             std::chrono::system_clock::now().time_since_epoch())
      .count();
}

// The incarnation first: from then on no socket of an earlier life touches the counters; one that
// had looked just before has ended its run by the time an id is given away (a grace period lies
// between).
void begin_life(weft_endpoint_state& state) {
  __atomic_fetch_add(&state.incarnation, 1, __ATOMIC_RELEASE);
  const auto incarnation = state.incarnation;
  state = {};
  state.incarnation = incarnation;
}

// As begin_life, for a service index.
void begin_life(weft_service_state& state) {
  const auto incarnation = state.incarnation + 1;
  __atomic_store_n(&state.incarnation, incarnation, __ATOMIC_RELEASE);
  state = {};
  state.incarnation = incarnation;
}

// One operation at a time, but for runs of hash upserts, which write() batches.
class Apply {
 public:
  Apply(Maps& maps, const MapWriter::BreakerMoved& moved) : maps_(maps), moved_(moved) {}

  absl::Status operator()(const BeginGeneration& op) {
    auto& meta = maps_.meta.at(0);
    meta.magic = WEFT_ABI_MAGIC;
    meta.layout = WEFT_ABI_LAYOUT;
    store(meta.next_generation, op.generation);
    return absl::OkStatus();
  }
  absl::Status operator()(const CommitGeneration& op) {
    auto& meta = maps_.meta.at(0);
    store(meta.applied_at_ns, wall_ns());
    store(meta.generation, op.generation);
    return absl::OkStatus();
  }
  absl::Status operator()(const WriteLabel& op) {
    weft_label label{};
    std::memcpy(label.text, op.text.data(), std::min(op.text.size(), sizeof label.text - 1));
    return maps_.labels.update(op.id, label);
  }
  absl::Status operator()(const WriteInfo& op) { return maps_.names.update(op.index, op.info); }
  absl::Status operator()(const WriteEndpoint& op) {
    auto& endpoint = maps_.endpoints.at(op.id);
    // A plan that is tried again finds what it already began: that life has its counters.
    const bool begun = load(endpoint.word) == op.endpoint.word &&
                       std::memcmp(&endpoint.addr, &op.endpoint.addr, sizeof endpoint.addr) == 0;
    auto& state = maps_.endpoint_states.at(op.id);
    if (op.fresh && !begun) begin_life(state);
    // Who takes traffic, and so is one of those that the floor is of (compile's count_candidates).
    const auto serves = [](std::uint64_t word, unsigned weight) {
      return weft_endpoint_flags(word) & WEFT_ENDPOINT_READY && weight;
    };
    const auto service = weft_endpoint_service(op.endpoint.word);
    const bool did = !op.fresh && serves(load(endpoint.word), endpoint.weight);
    const bool does = serves(op.endpoint.word, op.endpoint.weight);
    const bool comes = does && !(op.fresh ? begun : did);
    // Maps that a migration fills have the breakers already, and no words yet.
    const bool returns = comes && !op.fresh && load(endpoint.word);
    const auto told = returns ? come_back(maps_, op.id, service) : std::nullopt;
    if (comes && load(maps_.services.at(service)))
      begin_warmup(state);  // others serve already; all of a new service would warm up at once
    endpoint.addr = op.endpoint.addr;  // the same bytes again where the id is in use
    endpoint.weight = op.endpoint.weight;
    endpoint.zone = op.endpoint.zone;
    endpoint.node = op.endpoint.node;
    store(endpoint.word, op.endpoint.word);
    // After the word: a program that ejects looks at it first.
    if (did && !does) stop_counting(maps_, op.id, service);
    if (told && moved_) moved_(*told, endpoint);
    return absl::OkStatus();
  }
  absl::Status operator()(const WriteRange& op) {
    const auto slots = maps_.slots.values();
    for (std::size_t i = 0; i < op.words.size(); ++i) store(slots[op.base + i], op.words[i]);
    return absl::OkStatus();
  }
  absl::Status operator()(const WritePolicy& op) {
    maps_.policies.at(op.index) = op.policy;
    return absl::OkStatus();
  }
  absl::Status operator()(const PublishRecord& op) {
    if (op.fresh && load(maps_.services.at(op.index)) != op.word)
      begin_life(maps_.service_states.at(op.index));
    store(maps_.services.at(op.index), op.word);
    return absl::OkStatus();
  }
  absl::Status operator()(const UpsertFrontend& op) {
    return maps_.frontends.update(op.key, {op.index, weft_frontend_check(&op.key)});
  }
  absl::Status operator()(const EraseFrontend& op) {
    const auto value = maps_.frontends.lookup(op.key);
    if (absl::IsNotFound(value.status())) return absl::OkStatus();
    if (!value.ok()) return value.status();
    return value->service == op.index ? maps_.frontends.erase(op.key) : absl::OkStatus();
  }
  absl::Status operator()(const ClearEndpoint& op) {
    const auto endpoint = maps_.endpoints.at(op.id);
    store(maps_.endpoints.at(op.id).word, 0);
    // The life ends here: sockets that outlive it charge nobody.
    __atomic_fetch_add(&maps_.endpoint_states.at(op.id).incarnation, 1, __ATOMIC_RELEASE);
    const auto told = leave_rotation(maps_, op.id, weft_endpoint_service(endpoint.word));
    if (told && moved_) moved_(*told, endpoint);
    return absl::OkStatus();
  }
  absl::Status operator()(const ClearRecord& op) {
    store(maps_.services.at(op.index), 0);
    maps_.policies.at(op.index) = {};
    begin_life(maps_.service_states.at(op.index));
    return absl::OkStatus();
  }
  absl::Status operator()(const EraseInfo& op) { return maps_.names.erase(op.index); }
  absl::Status operator()(const EraseLabel& op) { return maps_.labels.erase(op.id); }

 private:
  Maps& maps_;
  const MapWriter::BreakerMoved& moved_;
};

// The run of operations of type Op at the front of `ops`, as keys and values.
template <class Op, class K, class V, class F>
std::size_t collect(std::span<const MapOp> ops, std::vector<K>& keys, std::vector<V>& values,
                    F&& split) {
  while (keys.size() < ops.size()) {
    const auto* op = std::get_if<Op>(&ops[keys.size()]);
    if (!op) break;
    auto [key, value] = split(*op);
    keys.push_back(key);
    values.push_back(value);
  }
  return keys.size();
}

}  // namespace

absl::Status MapWriter::write(std::span<const MapOp> ops) {
  Apply apply(maps_, moved_);
  while (!ops.empty()) {
    std::size_t done = 1;
    absl::Status status;
    if (std::holds_alternative<UpsertFrontend>(ops[0]) && ops.size() > 1) {
      std::vector<weft_frontend_key> keys;
      std::vector<weft_frontend> values;
      done = collect<UpsertFrontend>(ops, keys, values, [](const UpsertFrontend& op) {
        return std::pair(op.key, weft_frontend{op.index, weft_frontend_check(&op.key)});
      });
      status = maps_.frontends.update_batch(keys, values);
    } else if (std::holds_alternative<WriteInfo>(ops[0]) && ops.size() > 1) {
      std::vector<std::uint32_t> keys;
      std::vector<weft_service_info> values;
      done = collect<WriteInfo>(ops, keys, values,
                                [](const WriteInfo& op) { return std::pair(op.index, op.info); });
      status = maps_.names.update_batch(keys, values);
    } else {
      status = std::visit(apply, ops[0]);
    }
    if (!status.ok()) return status;
    ops = ops.subspan(done);
  }
  return absl::OkStatus();
}

void wait_for_grace_period() {
  // MEMBARRIER_CMD_GLOBAL is synchronize_rcu() by its implementation (kernel/sched/membarrier.c),
  // and socket programs run inside an RCU read section. Kernels booted with nohz_full refuse it: a
  // second is orders of magnitude over any program's run there.
  if (syscall(SYS_membarrier, MEMBARRIER_CMD_GLOBAL, 0, 0))
    std::this_thread::sleep_for(std::chrono::seconds(1));
}

}  // namespace weft::kernel
