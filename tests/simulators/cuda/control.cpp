// What tests ask of the simulator, beyond the driver's functions: names that begin with `sim`.
#include "simulator.h"

#include <cstring>

namespace {

// Texts live until the next call from any thread, which suffices for tests.
const char* keep(std::string text) {
  static std::string* kept = new std::string;
  *kept = std::move(text);
  return kept->c_str();
}

std::string joined(const std::vector<std::string>& lines) {
  std::string text;
  for (auto& line : lines) text += line + "\n";
  return text;
}

// What a lost context held is gone with it, as at the end of a process.
void forget(Context* context, std::unique_lock<std::mutex>& lock) {
  State& s = state();
  context->life++;
  // what has begun still uses its memory
  s.changed.wait(lock, [&] { return s.running == 0; });
  for (auto at = s.streams.begin(); at != s.streams.end();) {
    if (at->second->context != context) {
      ++at;
      continue;
    }
    at->second->destroyed = true;
    at->second->capture.reset();
    at = s.streams.erase(at);
  }
  std::erase_if(s.blocks, [&](auto& entry) { return entry.second.context == context; });
  std::erase_if(s.events, [&](auto& entry) { return entry.second->context == context; });
  s.graphs.clear();
  s.plain_bytes = 0;
  for (auto& [id, pool] : s.pools) pool->used = pool->reserved = 0;
  s.changed.notify_all();
}

Work with_failure(const char* name, Work work) {
  return [=] {
    {
      std::lock_guard<std::mutex> lock(state().mutex);
      if (int error = failure_on_demand(name)) return error;
    }
    return work();
  };
}

int bad_address(const char* what) {
  std::lock_guard<std::mutex> lock(state().mutex);
  violation(std::string(what) + " touched memory that is not allocated");
  return kIllegalAddress;
}

}  // namespace

// Start a test: a new seed and settings, no failures, an empty log, lost contexts work again.
EXPORT void simReset(unsigned seed, int devices, int sm, uint64_t bytes, unsigned delay_us) {
  State& s = state();
  std::unique_lock<std::mutex> lock(s.mutex);
  for (auto& [id, context] : s.contexts)
    if (context->lost) forget(context.get(), lock);
  s.random.seed(seed);
  s.devices = devices;
  s.sm = sm;
  s.total_bytes = bytes;
  s.max_delay_us = delay_us;
  s.failures.clear();
  s.violations.clear();
  s.log.clear();
  s.made.clear();
  for (auto& [id, context] : s.contexts) {
    context->lost = 0;
    context->legacy->random.seed(s.random());
    context->legacy->pace = static_cast<Pace>(context->legacy->random() % 3);
  }
}

// Drop everything, as at the end of a process.
EXPORT void simForget() {
  std::unique_lock<std::mutex> lock(state().mutex);
  for (auto& [id, context] : state().contexts) forget(context.get(), lock);
}

// The `count`-th call of `name` from now returns `error`. For "kernel" it is the execution that
// fails, later, on the stream, and the context is lost.
EXPORT void simFail(const char* name, int64_t count, int error) {
  std::lock_guard<std::mutex> lock(state().mutex);
  state().failures.push_back({name, count, error});
}

EXPORT uint64_t simMade(const char* name) {
  std::lock_guard<std::mutex> lock(state().mutex);
  return state().made[name];
}

EXPORT const char* simLog() {
  std::lock_guard<std::mutex> lock(state().mutex);
  std::string text = joined(state().log);
  state().log.clear();
  return keep(text);
}

EXPORT const char* simViolations() {
  std::lock_guard<std::mutex> lock(state().mutex);
  return keep(joined(state().violations));
}

// What was made and not released; primary contexts and default pools stay, as with CUDA's runtime.
EXPORT const char* simLeaks() {
  State& s = state();
  std::unique_lock<std::mutex> lock(s.mutex);
  // pool memory goes when its stream gets there
  s.hosts_waiting++;
  s.changed.notify_all();
  s.changed.wait_for(lock, std::chrono::seconds(5), [&] {
    for (auto& [id, context] : s.contexts) {
      if (!context->legacy->queue.empty()) return false;
      for (auto& [thread, stream] : context->per_thread)
        if (!stream->queue.empty()) return false;
    }
    for (auto& [id, stream] : s.streams)
      if (!stream->queue.empty()) return false;
    return true;
  });
  s.hosts_waiting--;
  std::vector<std::string> lines;
  const char* kinds[] = {"device", "pool", "pinned", "write-combined"};
  for (auto& [address, block] : s.blocks)
    lines.push_back(std::string(kinds[static_cast<int>(block.kind)]) + " memory of " +
                    std::to_string(block.size) + " bytes");
  lines.insert(lines.end(), s.streams.size(), "stream");
  lines.insert(lines.end(), s.events.size(), "event");
  lines.insert(lines.end(), s.graphs.size(), "graph");
  return keep(joined(lines));
}

EXPORT const char* simMemory() {
  std::lock_guard<std::mutex> lock(state().mutex);
  const char* kinds[] = {"device", "pool", "pinned", "write-combined"};
  std::vector<std::string> lines;
  for (auto& [address, block] : state().blocks)
    lines.push_back(std::string(kinds[static_cast<int>(block.kind)]) + " " +
                    std::to_string(block.size));
  return keep(joined(lines));
}

EXPORT int simStreams() {
  std::lock_guard<std::mutex> lock(state().mutex);
  return static_cast<int>(state().streams.size());
}

// A kernel that copies its input to scratch memory.
EXPORT int simStage(void* handle, uint64_t source, uint64_t scratch, size_t bytes) {
  StreamCall call("simStage", handle);
  if (call.error) return call.error;
  auto& stream = call.stream;
  return enqueue(stream, with_failure("kernel", [=] {
                   uint8_t *from = host_view(source, bytes), *to = host_view(scratch, bytes);
                   if (!from || !to) return bad_address("a kernel");
                   std::memcpy(to, from, bytes);
                   return static_cast<int>(kSuccess);
                 }));
}

// A kernel that repeats pixels: (outer, height, width, inner bytes) to (outer, height * scale,
// width * scale, inner bytes). With `sums`, each byte is first added to its neighbors to the right
// and below, so that results depend on what surrounds a picture; zeros surround the input.
EXPORT int simRepeat(void* handle, uint64_t source, uint64_t target, size_t outer, size_t height,
                     size_t width, size_t inner, size_t scale, int sums) {
  StreamCall call("simRepeat", handle);
  if (call.error) return call.error;
  auto& stream = call.stream;
  size_t bytes = outer * height * width * inner;
  return enqueue(stream, [=] {
    uint8_t *from = host_view(source, bytes), *to = host_view(target, bytes * scale * scale);
    if (!from || !to) return bad_address("a kernel");
    for (size_t o = 0; o < outer; o++)
      for (size_t y = 0; y < height; y++) {
        uint8_t* row = to + (o * height + y) * scale * width * scale * inner;
        std::vector<uint8_t> line(from + (o * height + y) * width * inner,
                                  from + (o * height + y + 1) * width * inner);
        if (sums) {
          const uint8_t* below = y + 1 < height ? from + (o * height + y + 1) * width * inner : nullptr;
          for (size_t i = 0; i < width * inner; i++) {
            uint8_t right = i + inner < width * inner ? from[(o * height + y) * width * inner + i + inner] : 0;
            line[i] = static_cast<uint8_t>(line[i] + right + (below ? below[i] : 0));
          }
        }
        for (size_t x = 0; x < width; x++)
          for (size_t k = 0; k < scale; k++)
            std::memcpy(row + (x * scale + k) * inner, line.data() + x * inner, inner);
        for (size_t k = 1; k < scale; k++)
          std::memcpy(row + k * width * scale * inner, row, width * scale * inner);
      }
    return static_cast<int>(kSuccess);
  });
}

// A kernel that is a function of the test; unlike a host function it may touch device memory.
EXPORT int simKernel(void* handle, void (*function)(void*), void* data) {
  StreamCall call("simKernel", handle);
  if (call.error) return call.error;
  auto& stream = call.stream;
  return enqueue(stream, with_failure("kernel", [=] {
                   function(data);
                   return static_cast<int>(kSuccess);
                 }));
}

// Where the content of live device memory can be read and written; null: it is not allocated.
EXPORT uint8_t* simContent(uint64_t address, size_t size) { return host_view(address, size); }
