// The state, what every call checks first, errors on demand.
#include "simulator.h"

#include <pthread.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>

uint64_t setting(const char* name, uint64_t otherwise) {
  const char* text = std::getenv(name);
  return text ? std::strtoull(text, nullptr, 10) : otherwise;
}

State& state() {
  static State* one = [] {
    auto made = new State;
    made->devices = static_cast<int>(setting("CUDA_SIMULATOR_DEVICES", 1));
    made->sm = static_cast<int>(setting("CUDA_SIMULATOR_SM", 90));
    made->total_bytes = setting("CUDA_SIMULATOR_BYTES", uint64_t{1} << 30);
    made->max_delay_us = static_cast<unsigned>(setting("CUDA_SIMULATOR_DELAY_US", 50));
    made->random.seed(static_cast<unsigned>(setting("CUDA_SIMULATOR_SEED", 0)));
    // the child of a fork has the lock as it was, but not the thread that holds it
    pthread_atfork([] { state().mutex.lock(); }, [] { state().mutex.unlock(); },
                   [] { state().mutex.unlock(); });
    return made;
  }();
  return *one;
}

uint64_t this_thread() {
  static std::atomic<uint64_t> next{1};
  thread_local uint64_t id = next++;
  return id;
}

std::vector<Context*>& context_stack() {
  thread_local std::vector<Context*> stack;
  return stack;
}

thread_local bool in_host_function = false;
thread_local int exchange_mode = kGlobal;

uint64_t new_handle() {
  State& s = state();
  s.next_handle += 0x10;
  return s.next_handle;
}

void violation(const std::string& text) { state().violations.push_back(text); }

int failure_on_demand(const std::string& name) {
  for (auto& failure : state().failures)
    if (failure.name == name && failure.countdown > 0 && --failure.countdown == 0)
      return failure.error;
  return kSuccess;
}

bool is_sticky(int error) { return error == kIllegalAddress || error == kLaunchFailed; }

Call::Call(const char* name, unsigned needs) : lock(state().mutex) {
  State& s = state();
  s.made[name]++;
  s.log.emplace_back(name);
  if (!context_stack().empty()) context = context_stack().back();
  if (in_host_function) {
    error = kNotPermitted;
  } else if (!s.initialized || s.process != getpid()) {
    error = kNotInitialized;  // as in the child of a process that used the GPU
  } else if (needs & kContext) {
    if (context == nullptr)
      error = kInvalidContext;
    else if (context->lost)
      error = context->lost;
  }
  if (!error && (needs & kUnsafe)) error = check_unsafe();
  if (!error && !(needs & kReleases)) error = failure_on_demand(name);
  if (is_sticky(error) && context != nullptr) context->lost = error;
}

bool Call::wait(const std::function<bool()>& condition) {
  State& s = state();
  s.hosts_waiting++;
  s.changed.notify_all();
  bool done = true;
  while (!condition()) {
    if (s.changed.wait_for(lock, std::chrono::seconds(30)) == std::cv_status::timeout &&
        !condition()) {
      std::fprintf(stderr, "CUDA simulator: deadlock, no operation can run\n");
      std::abort();
    }
  }
  s.hosts_waiting--;
  return done;
}
