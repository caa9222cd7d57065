// Device, pinned and pool memory.
#include "simulator.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace {

constexpr size_t kSpace = size_t{1} << 36;  // addresses of all devices together
constexpr size_t kAlignment = 512;
constexpr uint8_t kFresh = 0xA5, kFreed = 0xDB;
constexpr size_t kMaxPoisoned = size_t{1} << 20;

struct Space {
  uint8_t* device;   // what programs see; the host cannot touch it
  uint8_t* content;  // where the bytes are
  size_t used = kAlignment;
};

Space& space() {
  static Space* one = [] {
    auto map = [](int access) {
      void* at = mmap(nullptr, kSpace, access, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
      if (at == MAP_FAILED) {
        std::fprintf(stderr, "CUDA simulator: no address space\n");
        std::abort();
      }
      return static_cast<uint8_t*>(at);
    };
    return new Space{map(PROT_NONE), map(PROT_READ | PROT_WRITE)};
  }();
  return *one;
}

size_t rounded(size_t size) { return (size + kAlignment - 1) / kAlignment * kAlignment; }

uint8_t* content_of(uint64_t address) {
  return space().content + (reinterpret_cast<uint8_t*>(address) - space().device);
}

uint64_t held_bytes() {
  uint64_t sum = state().plain_bytes;
  for (auto& [id, pool] : state().pools) sum += pool->reserved;
  return sum;
}

// Addresses are sometimes reused at once, so that a late access meets somebody else's bytes.
uint64_t new_address(size_t size) {
  State& s = state();
  auto& freed = s.reusable[rounded(size)];
  if (!freed.empty() && s.random() % 2) {
    uint64_t address = freed.back();
    freed.pop_back();
    return address;
  }
  Space& where = space();
  // a gap, so that an access beyond the end meets no other block
  uint64_t address = reinterpret_cast<uint64_t>(where.device) + where.used;
  where.used += rounded(size) + kAlignment;
  if (where.used > kSpace) {
    std::fprintf(stderr, "CUDA simulator: all device addresses are used up\n");
    std::abort();
  }
  return address;
}

void poison(uint64_t address, size_t size, uint8_t value) {
  std::memset(content_of(address), value, std::min(size, kMaxPoisoned));
}

void reclaim(uint64_t address, size_t size) {
  poison(address, size, kFreed);
  if (size > kMaxPoisoned) {
    size_t start = (reinterpret_cast<uint64_t>(content_of(address)) + 4095) / 4096 * 4096;
    size_t end = reinterpret_cast<uint64_t>(content_of(address)) + size;
    if (end > start) madvise(reinterpret_cast<void*>(start), (end - start) / 4096 * 4096, MADV_DONTNEED);
  }
  state().reusable[rounded(size)].push_back(address);
}

Pool* pool_of(int device) {
  State& s = state();
  Pool*& found = s.default_pools[device];
  if (found == nullptr) {
    auto made = std::make_unique<Pool>();
    made->id = new_handle();
    made->device = device;
    found = made.get();
    s.pools[made->id] = std::move(made);
  }
  return found;
}

int allocate_from(Call& call, uint64_t* address, size_t size, Pool* pool, void* handle) {
  State& s = state();
  std::shared_ptr<Stream> stream;
  if (int error = find_stream(call.context, handle, &stream)) return error;
  if (stream->capture) {
    violation("an allocation was captured, which is not simulated");
    return kCaptureUnsupported;
  }
  uint64_t grown = std::max(pool->reserved, pool->used + size) - pool->reserved;
  if (held_bytes() + grown > s.total_bytes) return kOutOfMemory;
  *address = new_address(size);
  pool->used += size;
  pool->reserved = std::max(pool->reserved, pool->used);
  s.blocks[*address] = {Kind::kPool, size, call.context, pool, false};
  uint64_t at = *address;
  return enqueue(stream, [at, size] {
    std::lock_guard<std::mutex> lock(state().mutex);
    state().blocks[at].live = true;
    poison(at, size, kFresh);
    return kSuccess;
  });
}

Pool* find_pool(void* handle) {
  auto at = state().pools.find(reinterpret_cast<uint64_t>(handle));
  return at == state().pools.end() ? nullptr : at->second.get();
}

}  // namespace

void settle_pools() {
  for (auto& [id, pool] : state().pools)
    pool->reserved = std::max(pool->used, std::min(pool->reserved, pool->threshold));
}

bool is_device(uint64_t address) {
  auto start = reinterpret_cast<uint64_t>(space().device);
  return start <= address && address < start + kSpace;
}

Block* block_of(uint64_t address) {
  auto& blocks = state().blocks;
  auto next = blocks.upper_bound(address);
  if (next == blocks.begin()) return nullptr;
  --next;
  return address < next->first + next->second.size ? &next->second : nullptr;
}

bool is_pinned(uint64_t address, size_t) {
  Block* block = is_device(address) ? nullptr : block_of(address);
  return block != nullptr;
}

uint8_t* host_view(uint64_t address, size_t size) {
  if (!is_device(address)) return reinterpret_cast<uint8_t*>(address);
  std::lock_guard<std::mutex> lock(state().mutex);
  auto& blocks = state().blocks;
  auto next = blocks.upper_bound(address);
  if (next == blocks.begin()) return nullptr;
  --next;
  bool inside = address + size <= next->first + next->second.size;
  return inside && next->second.live ? content_of(address) : nullptr;
}

EXPORT int cuMemGetInfo_v2(size_t* free, size_t* total) {
  Call call("cuMemGetInfo", kContext);
  if (call.error) return call.error;
  *total = state().total_bytes;
  uint64_t held = held_bytes();
  *free = held > *total ? 0 : *total - held;
  return kSuccess;
}

EXPORT int cuMemAlloc_v2(uint64_t* address, size_t size) {
  Call call("cuMemAlloc", kContext | kUnsafe);
  if (call.error) return call.error;
  State& s = state();
  if (size == 0) return kInvalidValue;
  if (held_bytes() + size > s.total_bytes) return kOutOfMemory;
  s.plain_bytes += size;
  *address = new_address(size);
  s.blocks[*address] = {Kind::kDevice, size, call.context, nullptr, true};
  poison(*address, size, kFresh);
  return kSuccess;
}

EXPORT int cuMemFree_v2(uint64_t address) {
  Call call("cuMemFree", kContext | kUnsafe | kReleases);
  if (call.error) return call.error;
  State& s = state();
  auto at = s.blocks.find(address);
  if (at == s.blocks.end() || !is_device(address)) {
    violation("memory was freed twice, or never allocated");
    return kInvalidValue;
  }
  if (at->second.kind == Kind::kPool) {
    violation("memory of a pool was freed without a stream");
    return kInvalidValue;
  }
  wait_for_all(call, call.context);
  s.plain_bytes -= at->second.size;
  reclaim(address, at->second.size);
  s.blocks.erase(at);
  return call.context->lost;
}

EXPORT int cuMemHostAlloc(void** made, size_t size, unsigned flags) {
  Call call("cuMemHostAlloc", kContext | kUnsafe);
  if (call.error) return call.error;
  if (size == 0) return kInvalidValue;
  void* at = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (at == MAP_FAILED) return kOutOfMemory;
  std::memset(at, kFresh, std::min(size, kMaxPoisoned));
  Kind kind = flags & 4 ? Kind::kWriteCombined : Kind::kPinned;
  state().blocks[reinterpret_cast<uint64_t>(at)] = {kind, size, call.context, nullptr, true};
  *made = at;
  return kSuccess;
}

EXPORT int cuMemAllocHost_v2(void** made, size_t size) { return cuMemHostAlloc(made, size, 0); }

EXPORT int cuMemFreeHost(void* memory) {
  Call call("cuMemFreeHost", kContext | kUnsafe | kReleases);
  if (call.error) return call.error;
  State& s = state();
  auto at = s.blocks.find(reinterpret_cast<uint64_t>(memory));
  if (at == s.blocks.end() || is_device(at->first)) {
    violation("pinned memory was freed twice, or never allocated");
    return kInvalidValue;
  }
  wait_for_all(call, call.context);
  munmap(memory, at->second.size);  // a view that is still used ends the process, as it should
  s.blocks.erase(at);
  return call.context->lost;
}

EXPORT int cuMemAllocAsync(uint64_t* address, size_t size, void* stream) {
  Call call("cuMemAllocAsync", kContext);
  if (call.error) return call.error;
  return allocate_from(call, address, size, pool_of(call.context->device), stream);
}

EXPORT int cuMemAllocFromPoolAsync(uint64_t* address, size_t size, void* pool, void* stream) {
  Call call("cuMemAllocFromPoolAsync", kContext);
  if (call.error) return call.error;
  Pool* found = find_pool(pool);
  return found ? allocate_from(call, address, size, found, stream) : kInvalidValue;
}

EXPORT int cuMemFreeAsync(uint64_t address, void* handle) {
  StreamCall call("cuMemFreeAsync", handle, kContext | kReleases);
  if (call.error) return call.error;
  State& s = state();
  auto& stream = call.stream;
  auto at = s.blocks.find(address);
  if (at == s.blocks.end() || at->second.kind != Kind::kPool) {
    violation("pool memory was freed twice, or never allocated");
    return kInvalidValue;
  }
  return enqueue(stream, [address] {
    State& inner = state();
    std::lock_guard<std::mutex> lock(inner.mutex);
    Block block = inner.blocks[address];
    block.pool->used -= block.size;
    reclaim(address, block.size);
    inner.blocks.erase(address);
    return kSuccess;
  });
}

EXPORT int cuDeviceGetDefaultMemPool(void** pool, int device) {
  Call call("cuDeviceGetDefaultMemPool", kNothing);
  if (call.error) return call.error;
  *pool = reinterpret_cast<void*>(pool_of(device)->id);
  return kSuccess;
}

EXPORT int cuDeviceGetMemPool(void** pool, int device) {
  return cuDeviceGetDefaultMemPool(pool, device);
}

EXPORT int cuMemPoolCreate(void** made, const int* properties) {
  Call call("cuMemPoolCreate", kNothing);
  if (call.error) return call.error;
  // allocType, handleTypes, location.type, location.id
  bool valid = properties[0] == 1 && properties[2] == 1 && 0 <= properties[3] &&
               properties[3] < state().devices;
  if (!valid) return kInvalidValue;
  auto pool = std::make_unique<Pool>();
  pool->id = new_handle();
  pool->device = properties[3];
  *made = reinterpret_cast<void*>(pool->id);
  state().pools[pool->id] = std::move(pool);
  return kSuccess;
}

EXPORT int cuMemPoolDestroy(void* handle) {
  Call call("cuMemPoolDestroy", kReleases);
  if (call.error) return call.error;
  return state().pools.erase(reinterpret_cast<uint64_t>(handle)) ? kSuccess : kInvalidValue;
}

EXPORT int cuMemPoolTrimTo(void* handle, size_t keep) {
  Call call("cuMemPoolTrimTo", kReleases);
  if (call.error) return call.error;
  Pool* pool = find_pool(handle);
  if (pool == nullptr) return kInvalidValue;
  pool->reserved = std::max<uint64_t>(pool->used, std::min<uint64_t>(pool->reserved, keep));
  return kSuccess;
}

EXPORT int cuMemPoolSetAttribute(void* handle, int attribute, void* value) {
  Call call("cuMemPoolSetAttribute", kNothing);
  if (call.error) return call.error;
  Pool* pool = find_pool(handle);
  if (pool == nullptr) return kInvalidValue;
  if (attribute == 4) std::memcpy(&pool->threshold, value, 8);
  return kSuccess;
}

EXPORT int cuMemPoolGetAttribute(void* handle, int attribute, void* value) {
  Call call("cuMemPoolGetAttribute", kNothing);
  if (call.error) return call.error;
  Pool* pool = find_pool(handle);
  if (pool == nullptr) return kInvalidValue;
  if (attribute < 4) {
    int one = 1;
    std::memcpy(value, &one, 4);
    return kSuccess;
  }
  uint64_t found = attribute == 4   ? pool->threshold
                   : attribute <= 6 ? pool->reserved
                                    : pool->used;
  std::memcpy(value, &found, 8);
  return kSuccess;
}

EXPORT int cuMemPoolSetAccess(void*, const void*, size_t) {
  Call call("cuMemPoolSetAccess", kNothing);
  return call.error;
}

EXPORT int cuPointerGetAttribute(void* data, int attribute, uint64_t address) {
  Call call("cuPointerGetAttribute", kNothing);
  if (call.error) return call.error;
  Block* block = block_of(address);
  if (block == nullptr) return kInvalidValue;
  bool there = is_device(address);
  uint64_t start = state().blocks.upper_bound(address) == state().blocks.begin()
                       ? 0
                       : std::prev(state().blocks.upper_bound(address))->first;
  switch (attribute) {
    case 1: *static_cast<uint64_t*>(data) = block->context->id; return kSuccess;
    case 2: *static_cast<unsigned*>(data) = there ? 2 : 1; return kSuccess;
    case 3: *static_cast<uint64_t*>(data) = address; return kSuccess;
    case 4:
      if (there) return kInvalidValue;
      *static_cast<uint64_t*>(data) = address;
      return kSuccess;
    case 8: *static_cast<unsigned*>(data) = 0; return kSuccess;
    case 9: *static_cast<int*>(data) = block->context->device; return kSuccess;
    case 11: *static_cast<uint64_t*>(data) = start; return kSuccess;
    case 12: *static_cast<size_t*>(data) = block->size; return kSuccess;
    default: return kInvalidValue;
  }
}

EXPORT int cuPointerGetAttributes(unsigned count, int* attributes, void** data, uint64_t address) {
  for (unsigned i = 0; i < count; i++)
    if (int error = cuPointerGetAttribute(data[i], attributes[i], address)) {
      if (error != kInvalidValue) return error;
      if (attributes[i] == 2 || attributes[i] == 8) *static_cast<unsigned*>(data[i]) = 0;
      else if (attributes[i] == 9) *static_cast<int*>(data[i]) = -2;
      else *static_cast<uint64_t*>(data[i]) = 0;
    }
  return kSuccess;
}

EXPORT int cuMemGetAddressRange_v2(uint64_t* base, size_t* size, uint64_t address) {
  Call call("cuMemGetAddressRange", kContext);
  if (call.error) return call.error;
  auto next = state().blocks.upper_bound(address);
  if (next == state().blocks.begin()) return kInvalidValue;
  --next;
  if (base) *base = next->first;
  if (size) *size = next->second.size;
  return kSuccess;
}
