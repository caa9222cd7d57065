// Devices, contexts, errors, and how other libraries find the functions.
#include "simulator.h"

#include <dlfcn.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <utility>

namespace {

Context* new_context(int device, bool primary) {
  State& s = state();
  auto made = std::make_unique<Context>();
  Context* context = made.get();
  context->id = new_handle();
  context->device = device;
  context->primary = primary;
  context->legacy = new_stream(context, true);
  context->legacy->is_legacy = true;
  s.contexts[context->id] = std::move(made);
  return context;
}

int find_context(void* handle, Context** found) {
  *found = nullptr;
  if (handle == nullptr) return kSuccess;
  auto at = state().contexts.find(reinterpret_cast<uint64_t>(handle));
  if (at == state().contexts.end()) return kInvalidContext;
  *found = at->second.get();
  return kSuccess;
}

void* handle_of(Context* context) {
  return context ? reinterpret_cast<void*>(context->id) : nullptr;
}

const std::pair<int, const char*> kNames[] = {
    {0, "CUDA_SUCCESS"},
    {1, "CUDA_ERROR_INVALID_VALUE"},
    {2, "CUDA_ERROR_OUT_OF_MEMORY"},
    {3, "CUDA_ERROR_NOT_INITIALIZED"},
    {34, "CUDA_ERROR_STUB_LIBRARY"},
    {100, "CUDA_ERROR_NO_DEVICE"},
    {101, "CUDA_ERROR_INVALID_DEVICE"},
    {201, "CUDA_ERROR_INVALID_CONTEXT"},
    {400, "CUDA_ERROR_INVALID_HANDLE"},
    {500, "CUDA_ERROR_NOT_FOUND"},
    {600, "CUDA_ERROR_NOT_READY"},
    {700, "CUDA_ERROR_ILLEGAL_ADDRESS"},
    {709, "CUDA_ERROR_CONTEXT_IS_DESTROYED"},
    {719, "CUDA_ERROR_LAUNCH_FAILED"},
    {800, "CUDA_ERROR_NOT_PERMITTED"},
    {801, "CUDA_ERROR_NOT_SUPPORTED"},
    {900, "CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED"},
    {901, "CUDA_ERROR_STREAM_CAPTURE_INVALIDATED"},
    {905, "CUDA_ERROR_STREAM_CAPTURE_ISOLATION"},
    {906, "CUDA_ERROR_STREAM_CAPTURE_IMPLICIT"},
    {907, "CUDA_ERROR_CAPTURED_EVENT"},
    {999, "CUDA_ERROR_UNKNOWN"},
    {908, "CUDA_ERROR_STREAM_CAPTURE_WRONG_THREAD"},
};

int name_of(int error, const char** name) {
  for (auto& [code, text] : kNames)
    if (code == error) {
      *name = text;
      return kSuccess;
    }
  *name = nullptr;
  return kInvalidValue;
}

}  // namespace

EXPORT int cuInit(unsigned) {
  State& s = state();
  std::lock_guard<std::mutex> lock(s.mutex);
  if (s.process && s.process != getpid()) return kNotInitialized;
  if (s.devices == 0) return kNoDevice;
  if (int error = failure_on_demand("cuInit")) return error;
  s.initialized = true;
  s.process = getpid();
  return kSuccess;
}

EXPORT int cuDriverGetVersion(int* version) {
  *version = static_cast<int>(setting("CUDA_SIMULATOR_DRIVER", 13000));
  return kSuccess;
}

EXPORT int cuDeviceGetCount(int* count) {
  Call call("cuDeviceGetCount", kNothing);
  *count = state().devices;
  return call.error;
}

EXPORT int cuDeviceGet(int* device, int ordinal) {
  Call call("cuDeviceGet", kNothing);
  if (call.error) return call.error;
  *device = ordinal;
  return 0 <= ordinal && ordinal < state().devices ? kSuccess : kInvalidDevice;
}

EXPORT int cuDeviceGetName(char* name, int length, int device) {
  Call call("cuDeviceGetName", kNothing);
  if (call.error) return call.error;
  std::string text = "Simulated GPU " + std::to_string(device);
  std::strncpy(name, text.c_str(), static_cast<size_t>(length));
  return kSuccess;
}

EXPORT int cuDeviceTotalMem_v2(size_t* bytes, int) {
  Call call("cuDeviceTotalMem", kNothing);
  *bytes = state().total_bytes;
  return call.error;
}

EXPORT int cuDeviceGetAttribute(int* value, int attribute, int) {
  Call call("cuDeviceGetAttribute", kNothing);
  if (call.error) return call.error;
  switch (attribute) {
    case 75: *value = state().sm / 10; break;
    case 76: *value = state().sm % 10; break;
    case 1: *value = 1024; break;   // threads of a block
    case 10: *value = 32; break;    // threads of a warp
    case 16: *value = 1; break;     // multiprocessors
    case 19:                        // maps host memory
    case 40:                        // asynchronous copy engines
    case 41:                        // unified addresses
    case 115: *value = 1; break;    // memory pools
    default: *value = 0;
  }
  return kSuccess;
}

EXPORT int cuDeviceGetUuid_v2(unsigned char* uuid, int device) {
  std::memset(uuid, 0, 16);
  uuid[15] = static_cast<unsigned char>(device);
  return kSuccess;
}

EXPORT int cuDeviceGetPCIBusId(char* text, int length, int device) {
  std::string id = "0000:00:0" + std::to_string(device) + ".0";
  std::strncpy(text, id.c_str(), static_cast<size_t>(length));
  return kSuccess;
}

EXPORT int cuDeviceComputeCapability(int* major, int* minor, int) {
  *major = state().sm / 10;
  *minor = state().sm % 10;
  return kSuccess;
}

EXPORT int cuDevicePrimaryCtxRetain(void** made, int device) {
  Call call("cuDevicePrimaryCtxRetain", kNothing);
  if (call.error) return call.error;
  if (device < 0 || device >= state().devices) return kInvalidDevice;
  Context*& found = state().primary[device];
  if (found == nullptr) found = new_context(device, true);
  found->retained++;
  *made = handle_of(found);
  return kSuccess;
}

EXPORT int cuDevicePrimaryCtxRelease_v2(int device) {
  Call call("cuDevicePrimaryCtxRelease", kReleases);
  if (call.error) return call.error;
  Context* found = state().primary[device];
  if (found == nullptr || found->retained == 0) return kInvalidContext;
  found->retained--;  // the context stays: other libraries of the process hold it, too
  return kSuccess;
}

EXPORT int cuDevicePrimaryCtxGetState(int device, unsigned* flags, int* active) {
  Call call("cuDevicePrimaryCtxGetState", kNothing);
  if (call.error) return call.error;
  *flags = 0;
  Context* found = state().primary[device];
  *active = found != nullptr && found->retained > 0;
  return kSuccess;
}

EXPORT int cuDevicePrimaryCtxSetFlags_v2(int, unsigned) { return kSuccess; }

EXPORT int cuCtxCreate_v2(void** made, unsigned, int device) {
  Call call("cuCtxCreate", kNothing);
  if (call.error) return call.error;
  Context* context = new_context(device, false);
  context->retained = 1;
  context_stack().push_back(context);
  *made = handle_of(context);
  return kSuccess;
}

EXPORT int cuCtxCreate_v4(void** made, void*, unsigned flags, int device) {
  return cuCtxCreate_v2(made, flags, device);
}

EXPORT int cuCtxDestroy_v2(void* handle) {
  Call call("cuCtxDestroy", kReleases);
  if (call.error) return call.error;
  Context* context;
  if (int error = find_context(handle, &context)) return error;
  auto& stack = context_stack();
  if (!stack.empty() && stack.back() == context) stack.pop_back();
  context->retained = 0;
  return kSuccess;
}

EXPORT int cuCtxDetach(void* handle) { return cuCtxDestroy_v2(handle); }

EXPORT int cuCtxPushCurrent_v2(void* handle) {
  Call call("cuCtxPushCurrent", kNothing);
  Context* context;
  if (int error = find_context(handle, &context)) return error;
  if (call.error) {
    if (is_sticky(call.error) && context) context->lost = call.error;
    return call.error;
  }
  context_stack().push_back(context);
  return kSuccess;
}

EXPORT int cuCtxPopCurrent_v2(void** handle) {
  Call call("cuCtxPopCurrent", kReleases);
  if (call.error) return call.error;
  auto& stack = context_stack();
  if (stack.empty()) return kInvalidContext;
  if (handle) *handle = handle_of(stack.back());
  stack.pop_back();
  return kSuccess;
}

EXPORT int cuCtxGetCurrent(void** handle) {
  Call call("cuCtxGetCurrent", kReleases);
  *handle = handle_of(call.context);
  return call.error;
}

EXPORT int cuCtxSetCurrent(void* handle) {
  Call call("cuCtxSetCurrent", kReleases);
  if (call.error) return call.error;
  Context* context;
  if (int error = find_context(handle, &context)) return error;
  auto& stack = context_stack();
  if (!stack.empty()) stack.pop_back();
  if (context) stack.push_back(context);
  return kSuccess;
}

EXPORT int cuCtxGetDevice(int* device) {
  Call call("cuCtxGetDevice", kReleases);
  if (call.error) return call.error;
  if (call.context == nullptr) return kInvalidContext;
  *device = call.context->device;
  return kSuccess;
}

EXPORT int cuCtxGetApiVersion(void*, unsigned* version) {
  *version = 3020;
  return kSuccess;
}

EXPORT int cuCtxGetFlags(unsigned* flags) {
  *flags = 0;
  return kSuccess;
}

EXPORT int cuCtxSynchronize() {
  Call call("cuCtxSynchronize", kContext | kUnsafe);
  if (call.error) return call.error;
  wait_for_all(call, call.context);
  return call.context->lost;
}

EXPORT int cuGetErrorName(int error, const char** name) { return name_of(error, name); }

EXPORT int cuGetErrorString(int error, const char** text) { return name_of(error, text); }

EXPORT int cuGetProcAddress_v2(const char* name, void** found, int, uint64_t, int* status) {
  static void* self = [] {
    Dl_info info;
    dladdr(reinterpret_cast<void*>(&cuInit), &info);
    return dlopen(info.dli_fname, RTLD_LAZY | RTLD_NOLOAD);
  }();
  *found = nullptr;
  std::string base = name;
  if (base == "cuGraphInstantiate") base = "cuGraphInstantiateWithFlags";
  for (const char* suffix : {"_v4", "_v3", "_v2", ""})
    if ((*found = dlsym(self, (base + suffix).c_str()))) break;
  if (status) *status = *found ? 0 : 1;
  return *found ? kSuccess : kNotFound;
}

EXPORT int cuGetProcAddress(const char* name, void** found, int version, uint64_t flags) {
  return cuGetProcAddress_v2(name, found, version, flags, nullptr);
}
