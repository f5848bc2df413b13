// The CPU's stream: order, events, failures, forks.
#include "memory/host_stream.h"

#include <array>
#include <atomic>
#include <chrono>
#include <memory>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include <doctest/doctest.h>
#include <sys/wait.h>
#include <unistd.h>

#include "memory/allocation_count.h"

namespace poolgrad::memory {
namespace {

/// Work that waits until told to go on.
struct Gate {
  std::atomic<bool> open = false;
  void wait() { open.wait(false); }
  void let_go() {
    open = true;
    open.notify_all();
  }
};

TEST_CASE("host stream: work is done in order, on one thread that is not the caller's") {
  std::vector<int> done;
  std::vector<std::thread::id> threads;
  HostStream stream;
  for (int i = 0; i < 1000; ++i) {  // more than the queue's first length
    stream.enqueue([&, i] {
      done.push_back(i);
      threads.push_back(std::this_thread::get_id());
    });
  }
  stream.synchronize();
  REQUIRE(done.size() == 1000);
  for (int i = 0; i < 1000; ++i) CHECK(done[static_cast<std::size_t>(i)] == i);
  for (const std::thread::id id : threads) CHECK(id == threads[0]);
  CHECK(threads[0] != std::this_thread::get_id());
}

TEST_CASE("host stream: is destroyed only when all work is done") {
  int done = 0;
  {
    HostStream stream;
    for (int i = 0; i < 100; ++i) stream.enqueue([&] { ++done; });
  }
  CHECK(done == 100);
}

TEST_CASE("host stream: an event is done when the work before it is, not when all is") {
  Gate first, second;
  HostStream stream;
  stream.enqueue([&] { first.wait(); });
  Event event(stream.stream());
  stream.enqueue([&] { second.wait(); });
  CHECK_FALSE(event.done());
  first.let_go();
  event.wait();
  CHECK(event.done());
  event.record(stream.stream());
  CHECK_FALSE(event.done());
  second.let_go();
  stream.synchronize();
  CHECK(event.done());
}

TEST_CASE("host stream: an event outlives its stream, and then is done") {
  Event event;
  {
    HostStream stream;
    stream.enqueue([] {});
    event.record(stream.stream());
  }
  CHECK(event.done());
  event.wait();
}

TEST_CASE("host stream: what is queued behind a wait comes after the other's work") {
  Gate gate;
  std::atomic<int> order = 0;
  int one = 0, other = 0, early = 0;
  HostStream first, second;
  first.enqueue([&] {
    gate.wait();
    one = ++order;
  });
  second.enqueue([&] { early = ++order; });
  Event event(first.stream());
  second.stream().wait(event);
  second.enqueue([&] { other = ++order; });
  event.record(second.stream());  // the wait is for the event as it was
  while (order < 1) std::this_thread::yield();
  gate.let_go();
  second.synchronize();
  first.synchronize();
  CHECK(early == 1);
  CHECK(one == 2);
  CHECK(other == 3);
}

TEST_CASE("host stream: the first exception reaches synchronize, and drops what stands behind it") {
  HostStream stream;
  int done = 0;
  stream.enqueue([&] { ++done; });
  stream.enqueue([] { throw std::runtime_error("first"); });
  stream.enqueue([] { throw std::runtime_error("second"); });
  stream.enqueue([&] { ++done; });
  CHECK_THROWS_WITH_AS(stream.synchronize(), "first", std::runtime_error);
  CHECK(done == 1);
  stream.enqueue([&] { ++done; });
  stream.synchronize();
  CHECK(done == 2);
}

TEST_CASE("host stream: waits are kept behind work that threw") {
  Gate gate;
  HostStream slow, failing;
  slow.enqueue([&] { gate.wait(); });
  failing.enqueue([] { throw std::runtime_error("no"); });
  failing.stream().wait(Event(slow.stream()));
  const Event event(failing.stream());
  std::this_thread::sleep_for(std::chrono::milliseconds(5));
  CHECK_FALSE(event.done());
  gate.let_go();
  CHECK_THROWS_AS(failing.synchronize(), std::runtime_error);
  CHECK(event.done());
}

TEST_CASE("host stream: what work captured is destroyed before it counts as done") {
  HostStream stream;
  auto shared = std::make_shared<int>(1);
  auto unique = std::make_unique<int>(2);
  int sum = 0;
  stream.enqueue([&sum, shared, unique = std::move(unique)] { sum = *shared + *unique; });
  stream.synchronize();
  CHECK(sum == 3);
  CHECK(shared.use_count() == 1);
}

TEST_CASE("host stream: large captures work too, small ones do not allocate") {
  HostStream stream;
  std::array<int, 100> numbers{};
  numbers[99] = 7;
  int seen = 0;
  stream.enqueue([&seen, numbers] { seen = numbers[99]; });
  stream.synchronize();
  CHECK(seen == 7);
  Event event(stream.stream());
  const AllocationWindow window;
  for (int i = 0; i < 1000; ++i) {
    stream.enqueue([&seen, i] { seen = i; });
    event.record(stream.stream());
    stream.synchronize();
  }
  CHECK(window.counts().ours == 0);
  CHECK(seen == 999);
}

TEST_CASE("host stream: several threads queue, all is done") {
  HostStream stream;
  int count = 0;  // not atomic: only the worker touches it
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&] {
      for (int i = 0; i < 1000; ++i) stream.enqueue([&] { ++count; });
    });
  }
  for (std::thread& thread : threads) thread.join();
  stream.synchronize();
  CHECK(count == 4000);
}

TEST_CASE("host stream: its own work may not wait for it") {
  HostStream stream;
  stream.enqueue([&] { stream.synchronize(); });
  CHECK_THROWS_WITH_AS(stream.synchronize(),
                       "host stream: its own work called synchronize(), which would wait for "
                       "itself; call it from another thread",
                       std::logic_error);
}

#if !defined(__SANITIZE_THREAD__)  // which does not follow a fork with threads
TEST_CASE("host stream: a forked child is told that the thread is not there") {
  Gate gate;
  auto stream = std::make_unique<HostStream>();
  stream->enqueue([&] { gate.wait(); });
  const Event event(stream->stream());
  const pid_t child = fork();
  if (child == 0) {
    int right = event.done() ? 1 : 0;
    try {
      stream->enqueue([] {});
    } catch (const std::runtime_error& error) {
      right += std::string(error.what()) ==
                       "host stream: this process was forked off from the one that made the "
                       "stream, whose thread is not here; make another one"
                   ? 2
                   : 0;
    }
    try {
      stream->synchronize();
    } catch (const std::runtime_error&) {
      right += 4;
    }
    stream.reset();
    _exit(right);
  }
  int status = 0;
  REQUIRE(waitpid(child, &status, 0) == child);
  CHECK(WEXITSTATUS(status) == 7);
  CHECK_FALSE(event.done());
  gate.let_go();
}
#endif

}  // namespace
}  // namespace poolgrad::memory
