// What holds for streams of any kind: the calling thread's, and two kinds that meet.
#include "memory/stream.h"

#include <utility>
#include <vector>

#include <doctest/doctest.h>

#include "memory/host_stream.h"

namespace poolgrad::memory {
namespace {

/// A kind whose calls are only written down; its events are done once `passed` says so.
std::vector<const char*> calls;
bool passed = false;
int token = 0;

constexpr StreamOps kRecorded{
    .name = "recorded",
    .device = 3,
    .make_event = [](int device) -> void* {
      calls.push_back(device == 3 ? "make_event" : "make_event elsewhere");
      return &token;
    },
    .free_event = [](void*) noexcept { calls.push_back("free_event"); },
    .record = [](void*, void*) { calls.push_back("record"); },
    .done = [](void*) { return passed; },
    .await = [](void*) { calls.push_back("await"); },
    .make_wait = [](void*, void*) { calls.push_back("make_wait"); },
    .enqueue =
        [](void*, void (*work)(void*), void* data) {
          calls.push_back("enqueue");
          work(data);
        },
    .synchronize = [](void*) { calls.push_back("synchronize"); },
};

TEST_CASE("stream: the default one is the calling thread, whose events are done") {
  const Stream caller;
  CHECK(caller.is_caller());
  int done = 0;
  caller.enqueue([](void* data) { ++*static_cast<int*>(data); }, &done);
  CHECK(done == 1);
  const Event event(caller);
  CHECK(event.done());
  event.wait();
  caller.wait(event);
  caller.synchronize();
  CHECK(Event().done());
}

TEST_CASE(
    "stream: one kind waits for its own events by itself, for others' on the calling thread") {
  calls.clear();
  const Stream recorded{nullptr, &kRecorded};
  HostStream host;
  {
    Event event(recorded);
    event.record(recorded);
    CHECK_FALSE(event.done());
    recorded.wait(event);
    host.stream().wait(event);
    Stream{}.wait(event);
    recorded.wait(Event(host.stream()));
    recorded.enqueue([](void*) {}, nullptr);
    recorded.synchronize();
    event.record(host.stream());
    host.synchronize();
    CHECK(event.done());
  }
  CHECK(calls == std::vector<const char*>{"make_event", "record", "record", "make_wait", "await",
                                          "await", "enqueue", "synchronize", "free_event"});
}

TEST_CASE("stream: an event that moves is freed once") {
  calls.clear();
  {
    Event first(Stream{nullptr, &kRecorded});
    Event second = std::move(first);
    first = std::move(second);
    second = Event();
  }
  CHECK(calls == std::vector<const char*>{"make_event", "record", "free_event"});
}

}  // namespace
}  // namespace poolgrad::memory
