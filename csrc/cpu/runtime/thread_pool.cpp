// A call opens a gate. Workers that see it open enter and claim tasks, the caller does too; then it
// closes the gate and waits for those inside. A worker that is still asleep costs nothing.
//
// Workers spin for a moment after a call, because inside a training step the next call comes a few
// microseconds later; then they sleep.
#include "cpu/runtime/thread_pool.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <exception>
#include <memory>
#include <mutex>
#include <new>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include "core/errors.h"
#include "cpu/runtime/cpu_count.h"

#if defined(__x86_64__) || defined(_M_X64)
#include <immintrin.h>
#define FASTCONV_X86_64
#endif
#if !defined(_WIN32)
#include <pthread.h>
#include <signal.h>
#endif
#if defined(__linux__)
#include <sched.h>
#endif

namespace fastconv {
namespace {

constexpr auto kSpin = std::chrono::microseconds(100);

inline void relax() {
#if defined(FASTCONV_X86_64)
  _mm_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#else
  std::this_thread::yield();
#endif
}

// Spins until done() or for kSpin; returns done().
template <class Condition>
bool spin_until(const Condition& done) {
  const auto end = std::chrono::steady_clock::now() + kSpin;
  do {
    for (int i = 0; i < 64; ++i) {
      if (done()) return true;
      relax();
    }
  } while (std::chrono::steady_clock::now() < end);
  return done();
}

#if defined(__linux__)
int current_cpu() { return sched_getcpu(); }

// Moves this thread to an allowed CPU that is not among the n `taken`, if there is one.
void leave_cpus(const int* taken, size_t n) {
  cpu_set_t allowed;
  if (sched_getaffinity(0, sizeof allowed, &allowed) != 0) return;
  cpu_set_t rest = allowed;
  for (size_t i = 0; i < n; ++i)
    if (taken[i] >= 0 && taken[i] < CPU_SETSIZE) CPU_CLR(static_cast<size_t>(taken[i]), &rest);
  if (CPU_COUNT(&rest) > 0 && sched_setaffinity(0, sizeof rest, &rest) == 0)
    sched_setaffinity(0, sizeof allowed, &allowed);  // moved; may move again
}
#else
int current_cpu() { return -1; }
void leave_cpus(const int*, size_t) {}
#endif

// Blocks all signals in this thread for the length of a scope, and for good in threads it starts.
class BlockSignals {
 public:
#if !defined(_WIN32)
  BlockSignals() {
    sigset_t all;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before_);
  }
  ~BlockSignals() { pthread_sigmask(SIG_SETMASK, &before_, nullptr); }

 private:
  sigset_t before_;
#else
  BlockSignals() {}
#endif
  BlockSignals(const BlockSignals&) = delete;
  BlockSignals& operator=(const BlockSignals&) = delete;
};

// Flushes denormals to zero for the length of a scope: arithmetic on them is a hundred times
// slower, and gradients that small do not matter.
class FlushDenormals {
 public:
#if defined(FASTCONV_X86_64)
  FlushDenormals() : before_(_mm_getcsr()) { _mm_setcsr(before_ | 0x8040); }  // FTZ | DAZ
  ~FlushDenormals() { _mm_setcsr(before_); }

 private:
  unsigned before_;
#elif defined(__aarch64__) && !defined(_MSC_VER)
  FlushDenormals() {
    asm volatile("mrs %0, fpcr" : "=r"(before_));
    asm volatile("msr fpcr, %0" : : "r"(before_ | (uint64_t{1} << 24)));  // FZ
  }
  ~FlushDenormals() { asm volatile("msr fpcr, %0" : : "r"(before_)); }

 private:
  uint64_t before_;
#else
  FlushDenormals() {}
#endif
  FlushDenormals(const FlushDenormals&) = delete;
  FlushDenormals& operator=(const FlushDenormals&) = delete;
};

void run_here(int64_t tasks, FunctionRef<void(int64_t)> body) {
  const FlushDenormals flush;
  for (int64_t task = 0; task < tasks; ++task) body(task);
}

class Pool {
 public:
  explicit Pool(int threads)
      : chunks_(static_cast<size_t>(threads)), spins_(threads <= available_cpus()) {
    chunks_[0].cpu.store(current_cpu(), std::memory_order_relaxed);
    const BlockSignals block;  // Ctrl-C belongs to the thread that runs Python
    try {
      workers_.reserve(static_cast<size_t>(threads) - 1);
      for (int i = 1; i < threads; ++i) workers_.emplace_back([this, i] { work(i); });
    } catch (const std::system_error&) {  // no more threads: the existing ones do all tasks
    } catch (const std::bad_alloc&) {
    }
  }

  ~Pool() { stop(); }

  // Threads requested and threads running, both with the caller.
  int asked_for() const { return static_cast<int>(chunks_.size()); }
  int threads() const { return static_cast<int>(workers_.size()) + 1; }

  void run(int64_t tasks, FunctionRef<void(int64_t)> body) {
    body_ = &body;
    const auto count = static_cast<int64_t>(chunks_.size());
    for (int64_t i = 0; i < count; ++i) {
      Chunk& chunk = chunks_[static_cast<size_t>(i)];
      chunk.next.store(tasks / count * i + std::min(i, tasks % count), std::memory_order_relaxed);
      chunk.end = tasks / count * (i + 1) + std::min(i + 1, tasks % count);
    }
    chunks_[0].cpu.store(current_cpu(), std::memory_order_relaxed);
    gate_.fetch_or(kOpen);
    calls_.fetch_add(1);
    if (sleeping_.load() > 0) wake(tasks - 1);
    {
      const FlushDenormals flush;
      claim_tasks(0);
    }
    gate_.fetch_and(~kOpen);
    wait_for_workers();
    if (error_) std::rethrow_exception(std::exchange(error_, nullptr));
  }

 private:
  static constexpr uint32_t kOpen = 1u << 31;

  // The chunk of tasks that a thread does first, before it helps others with theirs. Operations on
  // the same array are split alike, so a thread mostly finds in its caches what it wrote before.
  struct alignas(64) Chunk {
    std::atomic<int64_t> next{0};
    int64_t end = 0;
    std::atomic<int> cpu{-1};  // where its thread was last
  };

  // Linux may wake a thread on the CPU of the one that woke it and leave it there for tens of
  // milliseconds while another CPU is idle; both together are then no faster than one. So a worker
  // moves away by itself, at most once a millisecond in case it is moved back.
  class Place {
   public:
    Place(std::vector<Chunk>& chunks, size_t thread) : chunks_(chunks), thread_(thread) {}

    void take() {
      const int cpu = current_cpu();
      chunks_[thread_].cpu.store(cpu, std::memory_order_relaxed);
      bool shared = false;
      for (size_t i = 0; i < thread_; ++i) {
        const int other = chunks_[i].cpu.load(std::memory_order_relaxed);
        shared = shared || (other >= 0 && other == cpu);
      }
      if (!shared || std::chrono::steady_clock::now() < again_) return;
      int taken[kMaxThreads];  // no allocation, which could fail here
      for (size_t i = 0; i < thread_; ++i) taken[i] = chunks_[i].cpu.load();
      leave_cpus(taken, thread_);
      chunks_[thread_].cpu.store(current_cpu(), std::memory_order_relaxed);
      again_ = std::chrono::steady_clock::now() + std::chrono::milliseconds(1);
    }

   private:
    std::vector<Chunk>& chunks_;
    size_t thread_;
    std::chrono::steady_clock::time_point again_{};
  };

  void claim_tasks(size_t thread) {
    for (size_t i = 0; i < chunks_.size(); ++i) {
      Chunk& chunk = chunks_[(thread + i) % chunks_.size()];
      for (;;) {
        const int64_t task = chunk.next.fetch_add(1, std::memory_order_relaxed);
        if (task >= chunk.end) break;
        try {
          (*body_)(task);
        } catch (...) {
          for (Chunk& any : chunks_) any.next.store(any.end, std::memory_order_relaxed);
          const std::lock_guard<std::mutex> lock(mutex_);
          if (!error_) error_ = std::current_exception();
        }
      }
    }
  }

  void work(int number) {
    const auto thread = static_cast<size_t>(number);
    const FlushDenormals flush;
    Place place(chunks_, thread);
    if (spins_) place.take();
    uint64_t seen = 0;
    for (;;) {
      const auto called = [&] { return calls_.load(std::memory_order_acquire) != seen; };
      if (!(spins_ && spin_until(called))) {
        std::unique_lock<std::mutex> lock(mutex_);
        sleeping_.fetch_add(1);
        called_.wait(lock, called);
        sleeping_.fetch_sub(1);
      }
      seen = calls_.load();
      if (stopping_.load()) return;
      if (gate_.fetch_add(1) & kOpen) {
        if (spins_) place.take();
        claim_tasks(thread);
      }
      // The last one to leave through a closed gate wakes the caller, if it sleeps.
      if (gate_.fetch_sub(1) == 1 && caller_sleeps_.load()) {
        const std::lock_guard<std::mutex> lock(mutex_);
        emptied_.notify_one();
      }
    }
  }

  void wake(int64_t wanted) {
    // A worker between its look at calls_ and its sleep holds the lock: wait until it sleeps.
    std::unique_lock<std::mutex>(mutex_).unlock();
    if (wanted >= threads() - 1) return called_.notify_all();
    for (; wanted > 0; --wanted) called_.notify_one();
  }

  void wait_for_workers() {
    const auto empty = [&] { return gate_.load() == 0; };
    if (empty() || (spins_ && spin_until(empty))) return;
    std::unique_lock<std::mutex> lock(mutex_);
    caller_sleeps_.store(true);
    emptied_.wait(lock, empty);
    caller_sleeps_.store(false);
  }

  void stop() {
    stopping_.store(true);
    calls_.fetch_add(1);
    wake(threads());
    for (std::thread& worker : workers_) worker.join();
  }

  // All that a call passes between threads is on one cache line: a worker fetches one line.
  alignas(64) std::atomic<uint64_t> calls_{0};
  const FunctionRef<void(int64_t)>* body_ = nullptr;
  std::atomic<uint32_t> gate_{0};  // kOpen + workers inside

  alignas(64) std::atomic<int> sleeping_{0};
  std::atomic<bool> caller_sleeps_{false}, stopping_{false};
  std::mutex mutex_;
  std::condition_variable called_, emptied_;
  std::exception_ptr error_;
  std::vector<Chunk> chunks_;  // by thread; the caller is number 0
  const bool spins_;
  std::vector<std::thread> workers_;
};

// Never destroyed: at exit the operating system ends the workers, which touch only the pool.
Pool* the_pool = nullptr;  // whoever holds `busy` owns it
std::atomic<bool> busy{false};
std::atomic<int> wanted_threads{0};  // 0: not yet known

// A child of fork() has only the thread that forked. The pool's threads are gone and its locks are
// as they were, so the pool is abandoned and a new one made when needed.
void forget_pool() {
  the_pool = nullptr;
  busy.store(false);
}
#if !defined(_WIN32)
[[maybe_unused]] const int registered = pthread_atfork(nullptr, nullptr, forget_pool);
#endif

Pool& pool_of(int threads) {
  if (the_pool == nullptr || the_pool->asked_for() != threads) {
    delete the_pool;
    the_pool = nullptr;
    the_pool = new Pool(threads);
  }
  return *the_pool;
}

struct Release {
  ~Release() { busy.store(false, std::memory_order_release); }
};

}  // namespace

int get_num_threads() {
  if (const int n = wanted_threads.load(std::memory_order_relaxed); n > 0) return n;
  int none = 0;
  wanted_threads.compare_exchange_strong(none, default_num_threads());
  return wanted_threads.load();
}

void set_num_threads(int n) {
  if (n < 1 || n > kMaxThreads)
    throw std::invalid_argument(
        message("[set_num_threads] expected 1 to ", kMaxThreads, " threads, got ", n));
  wanted_threads.store(n);
}

void parallel_for(int64_t tasks, FunctionRef<void(int64_t task)> body) {
  if (tasks <= 0) return;
  const int threads = get_num_threads();
  if (tasks == 1 || threads == 1 || busy.exchange(true, std::memory_order_acquire))
    return run_here(tasks, body);
  const Release release;
  pool_of(threads).run(tasks, body);
}

void parallel_ranges(int64_t n, int64_t grain, FunctionRef<void(int64_t begin, int64_t end)> body) {
  const int64_t step = (std::max<int64_t>(grain, 1) + 15) / 16 * 16;
  parallel_for((n + step - 1) / step,
               [&](int64_t range) { body(range * step, std::min(n, (range + 1) * step)); });
}

}  // namespace fastconv
