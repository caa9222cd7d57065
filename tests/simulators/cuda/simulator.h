// The state of a simulated GPU, and what the files of the driver share.
//
// Each stream is a CPU thread that executes its queue with random delays. An operation waits for
// the operations that it depends on, and for nothing else. Device memory is an address range that
// the host cannot touch; its content lives in a second mapping at the same offset.
#pragma once

#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <random>
#include <set>
#include <string>
#include <vector>

// Values of CUresult, from the documentation of the driver API.
enum Result : int {
  kSuccess = 0,
  kInvalidValue = 1,
  kOutOfMemory = 2,
  kNotInitialized = 3,
  kNoDevice = 100,
  kInvalidDevice = 101,
  kInvalidContext = 201,
  kInvalidHandle = 400,
  kNotFound = 500,
  kNotReady = 600,
  kIllegalAddress = 700,
  kContextIsDestroyed = 709,
  kLaunchFailed = 719,
  kNotPermitted = 800,
  kNotSupported = 801,
  kCaptureUnsupported = 900,
  kCaptureInvalidated = 901,
  kCaptureUnmatched = 903,
  kCaptureIsolation = 905,
  kCaptureImplicit = 906,
  kCapturedEvent = 907,
  kCaptureWrongThread = 908,
};

enum CaptureMode : int { kGlobal = 0, kThreadLocal = 1, kRelaxed = 2 };

struct Context;
struct Stream;
using Work = std::function<int()>;  // returns a Result

// A position in a stream: reached when the stream has completed `count` operations.
struct Point {
  std::shared_ptr<Stream> stream;
  uint64_t count = 0;
};

struct Operation {
  Work run;
  std::vector<Point> after;
  uint64_t life;
};

struct Capture {
  uint64_t thread = 0;
  int mode = kGlobal;
  bool invalidated = false;
  std::vector<Work> recorded;
};

enum class Pace { kEager, kRandom, kLazy };

struct Stream : std::enable_shared_from_this<Stream> {
  uint64_t id = 0;
  Context* context = nullptr;
  bool blocking = true;  // waits for the legacy default stream, and is waited for by it
  bool is_legacy = false;
  bool destroyed = false;
  Pace pace = Pace::kEager;
  std::mt19937 random;
  std::deque<Operation> queue;
  uint64_t issued = 0, completed = 0;
  std::unique_ptr<Capture> capture;

  Point tail() { return {shared_from_this(), issued}; }
};

struct Event {
  uint64_t id = 0;
  Context* context = nullptr;
  bool timed = true;
  bool recorded = false;
  bool captured = false;
  Point point;
  std::shared_ptr<double> when_ms = std::make_shared<double>(0.0);
};

struct Graph {
  std::vector<Work> work;
  bool executable = false;
  Point last_launch;
};

struct Context {
  uint64_t id = 0;
  int device = 0;
  bool primary = false;
  int retained = 0;
  int lost = 0;       // the sticky error, or 0
  uint64_t life = 0;  // counts how often it was lost and works again, for another test
  std::shared_ptr<Stream> legacy;
  std::map<uint64_t, std::shared_ptr<Stream>> per_thread;
};

enum class Kind { kDevice, kPool, kPinned, kWriteCombined };

struct Pool {
  uint64_t id = 0;
  int device = 0;
  uint64_t threshold = 0, used = 0, reserved = 0;
};

struct Block {
  Kind kind = Kind::kDevice;
  size_t size = 0;
  Context* context = nullptr;
  Pool* pool = nullptr;
  bool live = true;  // memory of a pool lives from its allocation to its release on a stream
};

// Everything, never destroyed: threads of streams may outlive `main`.
struct State {
  std::mutex mutex;
  std::condition_variable changed;
  bool initialized = false;
  int process = 0;
  int devices = 1, sm = 90;
  uint64_t total_bytes = uint64_t{1} << 30;
  uint64_t plain_bytes = 0;
  unsigned max_delay_us = 200;
  std::mt19937 random{0};
  uint64_t next_handle = 0x1000;
  int hosts_waiting = 0;
  int running = 0;  // operations, outside of the lock
  std::map<uint64_t, std::unique_ptr<Context>> contexts;
  std::map<int, Context*> primary;
  std::map<uint64_t, std::shared_ptr<Stream>> streams;
  std::map<uint64_t, std::shared_ptr<Event>> events;
  std::map<uint64_t, std::shared_ptr<Graph>> graphs;
  std::map<uint64_t, Block> blocks;  // by address
  std::map<size_t, std::vector<uint64_t>> reusable;
  std::map<uint64_t, std::unique_ptr<Pool>> pools;
  std::map<int, Pool*> default_pools;
  std::map<std::string, uint64_t> made;
  std::vector<std::string> log;
  std::vector<std::string> violations;
  struct Failure {
    std::string name;
    int64_t countdown;
    int error;
  };
  std::vector<Failure> failures;
};

State& state();
uint64_t setting(const char* name, uint64_t otherwise);  // of the environment
uint64_t this_thread();
std::vector<Context*>& context_stack();
extern thread_local bool in_host_function;
extern thread_local int exchange_mode;

// What a call needs besides an initialized driver.
enum Needs : unsigned {
  kNothing = 0,
  kContext = 1,   // a current context without a sticky error
  kUnsafe = 2,    // is refused during a capture
  kReleases = 4,  // never fails on demand: the tests count leaks
};

int find_stream(Context* context, void* handle, std::shared_ptr<Stream>* found);

// One call of the API: holds the lock, and the error that the call must return at once.
struct Call {
  Call(const char* name, unsigned needs);
  std::unique_lock<std::mutex> lock;
  int error = kSuccess;
  Context* context = nullptr;

  // Wait until a condition holds; other threads run meanwhile. False: nothing can make it true.
  bool wait(const std::function<bool()>& condition);
};

bool is_sticky(int error);
// One call that names a stream; finds it.
struct StreamCall : Call {
  StreamCall(const char* name, void* handle, unsigned needs = kContext) : Call(name, needs) {
    if (!error) error = find_stream(context, handle, &stream);
  }
  std::shared_ptr<Stream> stream;
};

int failure_on_demand(const std::string& name);
void violation(const std::string& text);
uint64_t new_handle();

// Streams.
std::shared_ptr<Stream> new_stream(Context* context, bool blocking);
int enqueue(const std::shared_ptr<Stream>& stream, Work work, std::vector<Point> after = {});
bool reached(const Point& point);
bool wait_for_all(Call& call, Context* context);
int check_unsafe();
void invalidate(Stream& stream);

// Memory. `host_view` returns where the content of an address range lies, or null.
uint8_t* host_view(uint64_t address, size_t size);
bool is_device(uint64_t address);
bool is_pinned(uint64_t address, size_t size);
Block* block_of(uint64_t address);
void settle_pools();

// How a test tells the simulator from a driver: `extern "C"`, visible.
#define EXPORT extern "C" __attribute__((visibility("default")))
