// Typed access to pinned BPF maps. Opening one compares the sizes of K and V with the kernel's, so
// that a map of another layout is refused instead of misread.
#pragma once

#include <absl/status/status.h>
#include <absl/status/statusor.h>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "mesh/base/fd.h"

namespace weft::kernel {

// The kernel compares keys byte for byte: padding in a key is a lookup that misses.
template <class K>
concept MapKey = std::has_unique_object_representations_v<K>;
template <class V>
concept MapValue = std::is_trivially_copyable_v<V>;

enum class Access { kReadOnly, kReadWrite };

namespace internal {

struct RawMap {
  base::Fd fd;
  std::uint32_t max_entries = 0;
  std::string name;
};
absl::StatusOr<RawMap> open_map(const std::string& path, std::size_t key_size,
                                std::size_t value_size, Access access);
absl::StatusOr<std::byte*> map_memory(const RawMap& map, std::size_t bytes, Access access);
void unmap_memory(std::byte* memory, std::size_t bytes);
absl::Status update(const RawMap& map, const void* key, const void* value);
absl::Status update_batch(const RawMap& map, const void* keys, const void* values,
                          std::uint32_t count);
absl::Status erase(const RawMap& map, const void* key);                // absent is OK
absl::Status lookup(const RawMap& map, const void* key, void* value);  // absent is NotFound
// Visits every entry by batches, or one by one where the kernel has no batches for this map.
absl::Status for_each(
    const RawMap& map, std::size_t key_size, std::size_t value_size,
    const std::function<void(const std::byte* key, const std::byte* value)>& visit);

}  // namespace internal

// An mmap-able array: reading and writing it is memory access, no system call. Values of 8 bytes
// must be stored with store(): one atomic release, which is what programs rely on.
template <MapValue V>
class ArrayMap {
 public:
  ArrayMap() = default;
  static absl::StatusOr<ArrayMap> open(const std::string& path, Access access) {
    ArrayMap map;
    // Always for writing: of a read-only descriptor the kernel makes the mapping private, which it
    // then refuses (EINVAL). Read-only access is the mapping's protection.
    auto raw = internal::open_map(path, sizeof(std::uint32_t), sizeof(V), Access::kReadWrite);
    if (!raw.ok()) return raw.status();
    map.raw_ = *std::move(raw);
    auto memory = internal::map_memory(map.raw_, map.bytes(), access);
    if (!memory.ok()) return memory.status();
    map.memory_ = *memory;
    return map;
  }
  ArrayMap(ArrayMap&& other) noexcept
      : raw_(std::move(other.raw_)), memory_(std::exchange(other.memory_, nullptr)) {}
  ArrayMap& operator=(ArrayMap&& other) noexcept {
    ArrayMap taken(std::move(other));
    std::swap(raw_, taken.raw_);
    std::swap(memory_, taken.memory_);
    return *this;
  }
  ~ArrayMap() {
    if (memory_) internal::unmap_memory(memory_, bytes());
  }

  std::uint32_t size() const { return raw_.max_entries; }
  int fd() const { return raw_.fd.get(); }
  const std::string& name() const { return raw_.name; }
  std::span<V> values() const {
    static_assert(sizeof(V) % 8 == 0, "array elements lie 8 bytes apart");
    return {reinterpret_cast<V*>(memory_), size()};
  }
  V& at(std::uint32_t index) const { return values()[index]; }

 private:
  std::size_t bytes() const { return std::size_t{raw_.max_entries} * sizeof(V); }

  internal::RawMap raw_;
  std::byte* memory_ = nullptr;
};

// The kernel's __u64 and std::uint64_t are two types of one size.
template <class Word>
concept Word64 = std::is_unsigned_v<Word> && sizeof(Word) == 8;
template <Word64 Word>
void store(Word& word, std::uint64_t value) {
  __atomic_store_n(&word, value, __ATOMIC_RELEASE);
}
template <Word64 Word>
std::uint64_t load(const Word& word) {
  return __atomic_load_n(&word, __ATOMIC_ACQUIRE);
}

template <MapKey K, MapValue V>
class HashMap {
 public:
  HashMap() = default;
  static absl::StatusOr<HashMap> open(const std::string& path, Access access) {
    HashMap map;
    auto raw = internal::open_map(path, sizeof(K), sizeof(V), access);
    if (!raw.ok()) return raw.status();
    map.raw_ = *std::move(raw);
    return map;
  }

  std::uint32_t max_entries() const { return raw_.max_entries; }
  int fd() const { return raw_.fd.get(); }
  const std::string& name() const { return raw_.name; }

  absl::Status update(const K& key, const V& value) { return internal::update(raw_, &key, &value); }
  absl::Status update_batch(const std::vector<K>& keys, const std::vector<V>& values) {
    return internal::update_batch(raw_, keys.data(), values.data(), keys.size());
  }
  absl::Status erase(const K& key) { return internal::erase(raw_, &key); }
  absl::StatusOr<V> lookup(const K& key) const {
    V value;
    auto status = internal::lookup(raw_, &key, &value);
    if (!status.ok()) return status;
    return value;
  }
  template <class F>
  absl::Status for_each(F&& visit) const {
    return internal::for_each(raw_, sizeof(K), sizeof(V),
                              [&](const std::byte* k, const std::byte* v) {
                                K key;
                                V value;
                                __builtin_memcpy(&key, k, sizeof key);
                                __builtin_memcpy(&value, v, sizeof value);
                                visit(key, value);
                              });
  }

 private:
  internal::RawMap raw_;
};

}  // namespace weft::kernel
