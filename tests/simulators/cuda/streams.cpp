// Streams, events, host functions.
#include "simulator.h"

#include <algorithm>
#include <chrono>
#include <string>
#include <thread>

namespace {

using Clock = std::chrono::steady_clock;

double now_ms() {
  return std::chrono::duration<double, std::milli>(Clock::now().time_since_epoch()).count();
}

// Let time pass before an operation, so that another order of the streams is seen.
void pause(Stream& stream, std::unique_lock<std::mutex>& lock) {
  State& s = state();
  if (s.max_delay_us == 0 || stream.pace == Pace::kEager) return;
  if (stream.pace == Pace::kRandom) {
    unsigned delay_us = stream.random() % (2 * s.max_delay_us);
    if (delay_us < s.max_delay_us) {
      lock.unlock();
      std::this_thread::sleep_for(std::chrono::microseconds(delay_us));
      lock.lock();
    }
    return;
  }
  // as late as possible: only when a host thread waits, or after a long time
  s.changed.wait_for(lock, std::chrono::microseconds(15 * s.max_delay_us),
                     [&] { return s.hosts_waiting > 0; });
}

void execute(std::shared_ptr<Stream> stream) {
  State& s = state();
  std::unique_lock<std::mutex> lock(s.mutex);
  while (true) {
    s.changed.wait(lock, [&] { return stream->destroyed || !stream->queue.empty(); });
    if (stream->queue.empty()) return;
    Operation& next = stream->queue.front();
    s.changed.wait(lock,
                   [&] { return std::all_of(next.after.begin(), next.after.end(), reached); });
    pause(*stream, lock);
    if (!stream->context->lost && next.life == stream->context->life) {
      s.running++;
      lock.unlock();
      int error = next.run();
      lock.lock();
      s.running--;
      if (error && !stream->context->lost) stream->context->lost = error;
    }
    stream->queue.pop_front();
    stream->completed++;
    s.changed.notify_all();
  }
}

std::shared_ptr<Event> find_event(void* handle) {
  auto found = state().events.find(reinterpret_cast<uint64_t>(handle));
  return found == state().events.end() ? nullptr : found->second;
}

}  // namespace

std::shared_ptr<Stream> new_stream(Context* context, bool blocking) {
  State& s = state();
  auto made = std::make_shared<Stream>();
  made->id = new_handle();
  made->context = context;
  made->blocking = blocking;
  made->random.seed(s.random());
  made->pace = static_cast<Pace>(made->random() % 3);
  std::thread(execute, made).detach();
  return made;
}

int find_stream(Context* context, void* handle, std::shared_ptr<Stream>* found) {
  State& s = state();
  uint64_t id = reinterpret_cast<uint64_t>(handle);
  if (id <= 1) {  // null and CU_STREAM_LEGACY
    *found = context->legacy;
  } else if (id == 2) {  // CU_STREAM_PER_THREAD
    auto& mine = context->per_thread[this_thread()];
    if (!mine) mine = new_stream(context, true);
    *found = mine;
  } else {
    auto at = s.streams.find(id);
    if (at == s.streams.end()) {
      violation("use of a stream that was destroyed or never made");
      return kInvalidHandle;
    }
    if (at->second->context != context) return kInvalidHandle;
    *found = at->second;
  }
  return kSuccess;
}

bool reached(const Point& point) {
  return point.stream == nullptr || point.stream->completed >= point.count;
}

int enqueue(const std::shared_ptr<Stream>& stream, Work work, std::vector<Point> after) {
  State& s = state();
  if (stream->capture) {
    if (stream->capture->invalidated) return kCaptureInvalidated;
    stream->capture->recorded.push_back(std::move(work));
    return kSuccess;
  }
  Context* context = stream->context;
  if (stream->is_legacy) {
    for (auto& [id, other] : s.streams) {
      if (!other->blocking || other->context != context) continue;
      if (other->capture) {
        invalidate(*other);
        return kCaptureImplicit;
      }
      after.push_back(other->tail());
    }
    for (auto& [thread, other] : context->per_thread) after.push_back(other->tail());
  } else if (stream->blocking) {
    after.push_back(context->legacy->tail());
  }
  stream->queue.push_back({std::move(work), std::move(after), context->life});
  stream->issued++;
  s.changed.notify_all();
  return kSuccess;
}

void invalidate(Stream& stream) {
  if (stream.capture) stream.capture->invalidated = true;
}

int check_unsafe() {
  if (exchange_mode == kRelaxed) return kSuccess;
  int error = kSuccess;
  for (auto& [id, stream] : state().streams) {
    if (!stream->capture || stream->capture->mode == kRelaxed) continue;
    bool mine = stream->capture->thread == this_thread();
    if (mine || (exchange_mode == kGlobal && stream->capture->mode == kGlobal)) {
      invalidate(*stream);
      error = kCaptureUnsupported;
    }
  }
  return error;
}

bool wait_for_all(Call& call, Context* context) {
  std::vector<Point> ends;
  for (auto& [id, stream] : state().streams)
    if (stream->context == context) ends.push_back(stream->tail());
  for (auto& [thread, stream] : context->per_thread) ends.push_back(stream->tail());
  ends.push_back(context->legacy->tail());
  bool done = call.wait([&] { return std::all_of(ends.begin(), ends.end(), reached); });
  settle_pools();
  return done;
}

EXPORT int cuStreamCreate(void** made, unsigned flags) {
  Call call("cuStreamCreate", kContext);
  if (call.error) return call.error;
  auto stream = new_stream(call.context, !(flags & 1));
  state().streams[stream->id] = stream;
  *made = reinterpret_cast<void*>(stream->id);
  return kSuccess;
}

EXPORT int cuStreamCreateWithPriority(void** made, unsigned flags, int) {
  return cuStreamCreate(made, flags);
}

EXPORT int cuStreamDestroy_v2(void* handle) {
  Call call("cuStreamDestroy", kContext | kReleases);
  if (call.error) return call.error;
  auto at = state().streams.find(reinterpret_cast<uint64_t>(handle));
  if (at == state().streams.end()) {
    violation("a stream was destroyed twice");
    return kInvalidHandle;
  }
  at->second->destroyed = true;  // its thread ends once its work is done
  state().streams.erase(at);
  state().changed.notify_all();
  return kSuccess;
}

EXPORT int cuStreamSynchronize(void* handle) {
  StreamCall call("cuStreamSynchronize", handle);
  if (call.error) return call.error;
  auto& stream = call.stream;
  if (stream->capture) {
    invalidate(*stream);
    return kCaptureUnsupported;
  }
  std::vector<Point> ends{stream->tail()};
  if (stream->is_legacy)
    for (auto& [id, other] : state().streams)
      if (other->blocking && other->context == call.context) ends.push_back(other->tail());
  call.wait([&] { return std::all_of(ends.begin(), ends.end(), reached); });
  settle_pools();
  return call.context->lost;
}

EXPORT int cuStreamQuery(void* handle) {
  StreamCall call("cuStreamQuery", handle);
  if (call.error) return call.error;
  auto& stream = call.stream;
  if (stream->capture) {
    invalidate(*stream);
    return kCaptureUnsupported;
  }
  return reached(stream->tail()) ? kSuccess : kNotReady;
}

EXPORT int cuStreamGetCtx(void* handle, void** context) {
  StreamCall call("cuStreamGetCtx", handle);
  if (call.error) return call.error;
  auto& stream = call.stream;
  *context = reinterpret_cast<void*>(stream->context->id);
  return kSuccess;
}

EXPORT int cuStreamGetFlags(void* handle, unsigned* flags) {
  StreamCall call("cuStreamGetFlags", handle);
  if (call.error) return call.error;
  auto& stream = call.stream;
  *flags = stream->blocking ? 0 : 1;
  return kSuccess;
}

EXPORT int cuStreamGetPriority(void*, int* priority) {
  *priority = 0;
  return kSuccess;
}

EXPORT int cuCtxGetStreamPriorityRange(int* least, int* greatest) {
  *least = *greatest = 0;
  return kSuccess;
}

EXPORT int cuEventCreate(void** made, unsigned flags) {
  Call call("cuEventCreate", kContext);
  if (call.error) return call.error;
  auto event = std::make_shared<Event>();
  event->id = new_handle();
  event->context = call.context;
  event->timed = !(flags & 2);
  state().events[event->id] = event;
  *made = reinterpret_cast<void*>(event->id);
  return kSuccess;
}

EXPORT int cuEventDestroy_v2(void* handle) {
  Call call("cuEventDestroy", kContext | kReleases);
  if (call.error) return call.error;
  if (state().events.erase(reinterpret_cast<uint64_t>(handle))) return kSuccess;
  violation("an event was destroyed twice");
  return kInvalidHandle;
}

EXPORT int cuEventRecord(void* handle, void* stream_handle) {
  StreamCall call("cuEventRecord", stream_handle);
  if (call.error) return call.error;
  auto& stream = call.stream;
  auto event = find_event(handle);
  if (!event || event->context != call.context) return kInvalidHandle;
  if (stream->capture) {
    event->captured = true;
    return stream->capture->invalidated ? kCaptureInvalidated : kSuccess;
  }
  auto when_ms = event->when_ms;
  int error = enqueue(stream, [when_ms] {
    *when_ms = now_ms();
    return kSuccess;
  });
  if (error) return error;
  event->recorded = true;
  event->captured = false;
  event->point = stream->tail();
  return kSuccess;
}

EXPORT int cuStreamWaitEvent(void* stream_handle, void* handle, unsigned) {
  StreamCall call("cuStreamWaitEvent", stream_handle);
  if (call.error) return call.error;
  auto& stream = call.stream;
  auto event = find_event(handle);
  if (!event) return kInvalidHandle;
  if (stream->capture && !event->captured) {
    invalidate(*stream);
    return kCaptureIsolation;
  }
  if (event->captured) {
    if (stream->capture) return kSuccess;
    violation("a capture was forked to a second stream, which is not simulated");
    return kCaptureUnsupported;
  }
  if (!event->recorded) return kSuccess;
  return enqueue(stream, [] { return kSuccess; }, {event->point});
}

EXPORT int cuEventSynchronize(void* handle) {
  Call call("cuEventSynchronize", kContext);
  if (call.error) return call.error;
  auto event = find_event(handle);
  if (!event) return kInvalidHandle;
  if (event->captured) return kCapturedEvent;
  Point point = event->point;
  call.wait([&] { return reached(point); });
  settle_pools();
  return call.context->lost;
}

EXPORT int cuEventQuery(void* handle) {
  Call call("cuEventQuery", kContext);
  if (call.error) return call.error;
  auto event = find_event(handle);
  if (!event) return kInvalidHandle;
  if (event->captured) return kCapturedEvent;
  return reached(event->point) ? kSuccess : kNotReady;
}

EXPORT int cuEventElapsedTime_v2(float* ms, void* start, void* end) {
  Call call("cuEventElapsedTime", kContext);
  if (call.error) return call.error;
  auto first = find_event(start), last = find_event(end);
  if (!first || !last || !first->recorded || !last->recorded) return kInvalidHandle;
  if (!first->timed || !last->timed) return kInvalidHandle;
  if (!reached(first->point) || !reached(last->point)) return kNotReady;
  *ms = static_cast<float>(*last->when_ms - *first->when_ms);
  return kSuccess;
}

EXPORT int cuEventElapsedTime(float* ms, void* start, void* end) {
  return cuEventElapsedTime_v2(ms, start, end);
}

EXPORT int cuLaunchHostFunc(void* handle, void (*function)(void*), void* data) {
  StreamCall call("cuLaunchHostFunc", handle);
  if (call.error) return call.error;
  auto& stream = call.stream;
  return enqueue(stream, [function, data] {
    in_host_function = true;
    function(data);
    in_host_function = false;
    return kSuccess;
  });
}
