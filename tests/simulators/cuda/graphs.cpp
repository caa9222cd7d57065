// Stream capture and graphs. A capture stays on one stream.
#include "simulator.h"

namespace {

std::shared_ptr<Graph> find_graph(void* handle, bool executable) {
  auto at = state().graphs.find(reinterpret_cast<uint64_t>(handle));
  if (at == state().graphs.end() || at->second->executable != executable) {
    violation("use of a graph that was destroyed or never made");
    return nullptr;
  }
  return at->second;
}

void* keep(std::shared_ptr<Graph> graph) {
  uint64_t id = new_handle();
  state().graphs[id] = std::move(graph);
  return reinterpret_cast<void*>(id);
}

int destroy(const char* name, void* handle, bool executable) {
  Call call(name, kContext | kReleases);
  if (call.error) return call.error;
  if (!find_graph(handle, executable)) return kInvalidValue;
  state().graphs.erase(reinterpret_cast<uint64_t>(handle));
  return kSuccess;
}

}  // namespace

EXPORT int cuStreamBeginCapture_v2(void* handle, int mode) {
  StreamCall call("cuStreamBeginCapture", handle);
  if (call.error) return call.error;
  auto& stream = call.stream;
  if (stream->is_legacy) return kCaptureUnsupported;
  if (stream->capture) return kInvalidValue;
  stream->capture = std::make_unique<Capture>();
  stream->capture->thread = this_thread();
  stream->capture->mode = mode;
  return kSuccess;
}

EXPORT int cuStreamEndCapture(void* handle, void** graph) {
  Call call("cuStreamEndCapture", kContext);
  *graph = nullptr;
  if (call.error && call.context == nullptr) return call.error;
  std::shared_ptr<Stream> stream;
  if (int error = find_stream(call.context, handle, &stream)) return error;
  if (call.error) {
    stream->capture.reset();  // whatever the error is, the capture is over
    return call.error;
  }
  if (!stream->capture) return kInvalidValue;
  if (stream->capture->mode != kRelaxed && stream->capture->thread != this_thread())
    return kCaptureWrongThread;
  auto capture = std::move(stream->capture);
  if (capture->invalidated) return kCaptureInvalidated;
  auto made = std::make_shared<Graph>();
  made->work = std::move(capture->recorded);
  *graph = keep(made);
  return kSuccess;
}

EXPORT int cuStreamIsCapturing(void* handle, int* status) {
  StreamCall call("cuStreamIsCapturing", handle);
  if (call.error) return call.error;
  auto& stream = call.stream;
  if (stream->is_legacy)
    for (auto& [id, other] : state().streams)
      if (other->capture && other->blocking && other->context == call.context)
        return kCaptureImplicit;
  *status = !stream->capture ? 0 : stream->capture->invalidated ? 2 : 1;
  return kSuccess;
}

EXPORT int cuThreadExchangeStreamCaptureMode(int* mode) {
  Call call("cuThreadExchangeStreamCaptureMode", kNothing);
  if (call.error) return call.error;
  std::swap(exchange_mode, *mode);
  return kSuccess;
}

EXPORT int cuGraphInstantiateWithFlags(void** made, void* handle, unsigned long long) {
  Call call("cuGraphInstantiate", kContext);
  if (call.error) return call.error;
  auto graph = find_graph(handle, false);
  if (!graph) return kInvalidValue;
  auto executable = std::make_shared<Graph>(*graph);
  executable->executable = true;
  *made = keep(executable);
  return kSuccess;
}

EXPORT int cuGraphLaunch(void* handle, void* stream_handle) {
  Call call("cuGraphLaunch", kContext);
  if (call.error) return call.error;
  auto graph = find_graph(handle, true);
  if (!graph) return kInvalidValue;
  std::shared_ptr<Stream> stream;
  if (int error = find_stream(call.context, stream_handle, &stream)) return error;
  // a graph does not run twice at the same time
  std::vector<Point> after{graph->last_launch};
  for (auto& work : graph->work) {
    if (int error = enqueue(stream, work, after)) return error;
    after.clear();
  }
  graph->last_launch = stream->tail();
  return kSuccess;
}

EXPORT int cuGraphDestroy(void* handle) { return destroy("cuGraphDestroy", handle, false); }

EXPORT int cuGraphExecDestroy(void* handle) { return destroy("cuGraphExecDestroy", handle, true); }
