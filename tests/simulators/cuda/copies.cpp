// Copies and fills, with the rules for pinned and pageable memory.
#include "simulator.h"

#include <cstring>

namespace {

// Rows of bytes; a plain copy is one row.
struct Rows {
  uint64_t address;
  size_t pitch;
};

size_t extent(size_t pitch, size_t width, size_t height) {
  return height == 0 ? 0 : (height - 1) * pitch + width;
}

int copy_now(Rows target, Rows source, size_t width, size_t height) {
  for (size_t row = 0; row < height; row++) {
    uint8_t* to = host_view(target.address + row * target.pitch, width);
    uint8_t* from = host_view(source.address + row * source.pitch, width);
    if (to == nullptr || from == nullptr) {
      std::lock_guard<std::mutex> lock(state().mutex);
      violation("a copy touched memory that is not allocated");
      return kIllegalAddress;
    }
    std::memmove(to, from, width);
  }
  return kSuccess;
}

// What the driver checks when a copy is enqueued: both ends are allocated, in this context.
int check_end(Context* context, Rows end, size_t width, size_t height) {
  if (end.pitch < width) return kInvalidValue;
  Block* block = block_of(end.address);
  if (!is_device(end.address)) return end.address == 0 ? kInvalidValue : kSuccess;
  if (block == nullptr) {
    violation("a copy was enqueued for memory that is not allocated");
    return kInvalidValue;
  }
  if (block->context != context && block->kind != Kind::kPool) return kInvalidValue;
  uint64_t last = end.address + extent(end.pitch, width, height) - 1;
  return block_of(last) == block ? kSuccess : kInvalidValue;
}

int copy(Call& call, const std::shared_ptr<Stream>& stream, Rows target, Rows source, size_t width,
         size_t height, bool wait) {
  if (width == 0 || height == 0) return kSuccess;
  if (int error = check_end(call.context, target, width, height)) return error;
  if (int error = check_end(call.context, source, width, height)) return error;
  bool from_pageable = !is_device(source.address) && !is_pinned(source.address, width);
  bool to_pageable = !is_device(target.address) && !is_pinned(target.address, width);
  Work work = [=] { return copy_now(target, source, width, height); };
  if (from_pageable && !stream->capture) {
    // staged: the source may be changed as soon as the call returns
    auto staged = std::make_shared<std::vector<uint8_t>>(width * height);
    for (size_t row = 0; row < height; row++)
      std::memcpy(staged->data() + row * width,
                  reinterpret_cast<uint8_t*>(source.address + row * source.pitch), width);
    work = [=] {
      Rows stage{reinterpret_cast<uint64_t>(staged->data()), width};
      return copy_now(target, stage, width, height);
    };
  }
  if (int error = enqueue(stream, std::move(work))) return error;
  if (wait || (to_pageable && !stream->capture)) {
    Point end = stream->tail();
    call.wait([&] { return reached(end); });
    return call.context->lost;
  }
  return kSuccess;
}

int copy_async(const char* name, uint64_t target, uint64_t source, size_t size, void* handle) {
  StreamCall call(name, handle);
  if (call.error) return call.error;
  auto& stream = call.stream;
  return copy(call, stream, {target, size}, {source, size}, size, 1, false);
}

int copy_sync(const char* name, uint64_t target, uint64_t source, size_t size) {
  Call call(name, kContext | kUnsafe);
  if (call.error) return call.error;
  return copy(call, call.context->legacy, {target, size}, {source, size}, size, 1, true);
}

int fill(const char* name, uint64_t target, uint8_t value, size_t size, void* handle, bool wait) {
  Call call(name, wait ? kContext | kUnsafe : kContext);
  if (call.error) return call.error;
  std::shared_ptr<Stream> stream;
  if (int error = find_stream(call.context, handle, &stream)) return error;
  if (int error = check_end(call.context, {target, size}, size, 1)) return error;
  int error = enqueue(stream, [=] {
    uint8_t* to = host_view(target, size);
    if (to == nullptr) return kIllegalAddress;
    std::memset(to, value, size);
    return kSuccess;
  });
  if (error || !wait) return error;
  Point end = stream->tail();
  call.wait([&] { return reached(end); });
  return call.context->lost;
}

uint64_t bits(const void* address) { return reinterpret_cast<uint64_t>(address); }

}  // namespace

// CUDA_MEMCPY2D of the documentation.
struct Copy2D {
  size_t source_x, source_y;
  unsigned source_kind;
  const void* source_host;
  uint64_t source_device;
  void* source_array;
  size_t source_pitch;
  size_t target_x, target_y;
  unsigned target_kind;
  void* target_host;
  uint64_t target_device;
  void* target_array;
  size_t target_pitch;
  size_t width, height;
};

EXPORT int cuMemcpy2DAsync_v2(const Copy2D* what, void* handle) {
  StreamCall call("cuMemcpy2DAsync", handle);
  if (call.error) return call.error;
  auto& stream = call.stream;
  if (what->source_kind == 3 || what->target_kind == 3) return kNotSupported;
  Rows source{what->source_kind == 1 ? bits(what->source_host) : what->source_device,
              what->source_pitch};
  Rows target{what->target_kind == 1 ? bits(what->target_host) : what->target_device,
              what->target_pitch};
  source.address += what->source_y * source.pitch + what->source_x;
  target.address += what->target_y * target.pitch + what->target_x;
  return copy(call, stream, target, source, what->width, what->height, false);
}

EXPORT int cuMemcpyHtoDAsync_v2(uint64_t target, const void* source, size_t size, void* stream) {
  return copy_async("cuMemcpyHtoDAsync", target, bits(source), size, stream);
}

EXPORT int cuMemcpyDtoHAsync_v2(void* target, uint64_t source, size_t size, void* stream) {
  return copy_async("cuMemcpyDtoHAsync", bits(target), source, size, stream);
}

EXPORT int cuMemcpyDtoDAsync_v2(uint64_t target, uint64_t source, size_t size, void* stream) {
  return copy_async("cuMemcpyDtoDAsync", target, source, size, stream);
}

EXPORT int cuMemcpyAsync(uint64_t target, uint64_t source, size_t size, void* stream) {
  return copy_async("cuMemcpyAsync", target, source, size, stream);
}

EXPORT int cuMemcpyHtoD_v2(uint64_t target, const void* source, size_t size) {
  return copy_sync("cuMemcpyHtoD", target, bits(source), size);
}

EXPORT int cuMemcpyDtoH_v2(void* target, uint64_t source, size_t size) {
  return copy_sync("cuMemcpyDtoH", bits(target), source, size);
}

EXPORT int cuMemcpyDtoD_v2(uint64_t target, uint64_t source, size_t size) {
  return copy_sync("cuMemcpyDtoD", target, source, size);
}

EXPORT int cuMemcpy(uint64_t target, uint64_t source, size_t size) {
  return copy_sync("cuMemcpy", target, source, size);
}

EXPORT int cuMemsetD8Async(uint64_t target, unsigned char value, size_t size, void* stream) {
  return fill("cuMemsetD8Async", target, value, size, stream, false);
}

EXPORT int cuMemsetD8_v2(uint64_t target, unsigned char value, size_t size) {
  return fill("cuMemsetD8", target, value, size, nullptr, true);
}
