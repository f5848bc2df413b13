// What each adaptor adds. That bytes pass through unharmed is in resource_test.cpp.
#include "memory/adaptors.h"

#include <cmath>
#include <cstring>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include <doctest/doctest.h>

namespace poolgrad::memory {
namespace {

/// Claims to be on a GPU; never asked for bytes.
struct Elsewhere final : Resource {
  void* allocate_on(Stream, std::size_t, std::size_t) override { throw std::bad_alloc(); }
  void deallocate_on(Stream, void*, std::size_t, std::size_t) override {}
  [[nodiscard]] Place place() const override { return {Space::cuda, 1}; }
};

TEST_CASE("statistics: live, peak, total and calls are those of the requests") {
  HostResource host;
  Statistics statistics(host);
  void* const a = statistics.allocate(100, 64);
  void* const b = statistics.allocate(50, 64);
  statistics.deallocate(a, 100, 64);
  void* const c = statistics.allocate(20, 64);
  CHECK(statistics.live_bytes() == 70);
  CHECK(statistics.peak_bytes() == 150);
  CHECK(statistics.total_bytes() == 170);
  CHECK(statistics.allocations() == 3);
  CHECK(statistics.deallocations() == 1);
  statistics.reset_peak();
  CHECK(statistics.peak_bytes() == 70);
  statistics.deallocate(b, 50, 64);
  statistics.deallocate(c, 20, 64);
  CHECK(statistics.live_bytes() == 0);
  CHECK(statistics.peak_bytes() == 70);
}

TEST_CASE("statistics: several threads end with nothing alive and nothing lost") {
  HostResource host;
  Statistics statistics(host);
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&] {
      for (int k = 0; k < 1000; ++k) {
        void* const data = statistics.allocate(64, 64);
        statistics.deallocate(data, 64, 64);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  CHECK(statistics.live_bytes() == 0);
  CHECK(statistics.total_bytes() == std::size_t{4} * 1000 * 64);
  CHECK(statistics.allocations() == statistics.deallocations());
  CHECK(statistics.peak_bytes() >= 64);
  CHECK(statistics.peak_bytes() <= std::size_t{4} * 64);
}

TEST_CASE("statistics, limit: a failed allocation is not counted") {
  HostResource host;
  FailAt fail(host, 2);
  Limit limit(fail, 1000);
  Statistics statistics(limit);
  void* const data = statistics.allocate(100, 64);
  CHECK_THROWS_AS(static_cast<void>(statistics.allocate(100, 64)), OutOfMemory);
  CHECK(statistics.live_bytes() == 100);
  CHECK(statistics.allocations() == 1);
  CHECK(limit.in_use_bytes() == 100);
  statistics.deallocate(data, 100, 64);
  CHECK(limit.in_use_bytes() == 0);
}

TEST_CASE("limit: the last byte is given, the next refused with the figures") {
  HostResource host;
  Limit limit(host, 1000);
  void* const data = limit.allocate(600, 64);
  CHECK_THROWS_WITH_AS(
      static_cast<void>(limit.allocate(401, 64)),
      "limit: 401 bytes requested with 600 of 1000 in use; free some or raise the limit",
      OutOfMemory);
  void* const rest = limit.allocate(400, 64);
  CHECK(limit.in_use_bytes() == 1000);
  limit.deallocate(rest, 400, 64);
  limit.deallocate(data, 600, 64);
  try {
    static_cast<void>(limit.allocate(2000, 64));
    FAIL("expected OutOfMemory");
  } catch (const OutOfMemory& error) {
    CHECK(error.requested_bytes() == 2000);
    CHECK(error.in_use_bytes() == 0);
    CHECK(error.limit_bytes() == 1000);
  }
}

TEST_CASE("log: one line per event in RMM's columns") {
  HostResource host;
  FailAt fail(host, 2);
  std::ostringstream out;
  Log log(fail, out);
  int queue = 0;
  void* const data = log.allocate_on({&queue}, 1024, 64);
  CHECK_THROWS_AS(static_cast<void>(log.allocate(7, 64)), OutOfMemory);
  log.deallocate_on({&queue}, data, 1024, 64);

  std::istringstream in(out.str());
  std::string line;
  std::getline(in, line);
  CHECK(line == "Thread,Time,Action,Pointer,Size,Stream");
  std::ostringstream address, stream;
  address << data;
  stream << static_cast<void*>(&queue);
  for (const std::string& event : {"allocate," + address.str() + ",1024," + stream.str(),
                                   std::string("allocate failure,0x0,7,0x0"),
                                   "free," + address.str() + ",1024," + stream.str()}) {
    REQUIRE(std::getline(in, line));
    const std::size_t time = line.find(',') + 1;
    const std::size_t action = line.find(',', time) + 1;
    CHECK(line.find_first_not_of("0123456789") == time - 1);
    CHECK(action - time == std::string("12:34:56.123456,").size());
    CHECK(line.substr(action) == event);
  }
  CHECK(!std::getline(in, line));
}

TEST_CASE("poison: fresh bytes read as NaN, and so do freed ones") {
  HostResource host;
  struct Keeper final : Resource {  // does not give bytes back, so that they can be looked at
    explicit Keeper(Resource& r) : upstream(r) {}
    void* allocate_on(Stream s, std::size_t bytes, std::size_t on) override {
      return upstream.allocate_on(s, bytes, on);
    }
    void deallocate_on(Stream, void*, std::size_t, std::size_t) override {}
    Resource& upstream;
  } keeper(host);
  Poison poison(keeper);
  auto* const data = static_cast<float*>(poison.allocate(16, 64));
  for (int i = 0; i < 4; ++i) CHECK(std::isnan(data[i]));
  double wide = 0;
  std::memcpy(&wide, data, sizeof wide);
  CHECK(std::isnan(wide));
  for (int i = 0; i < 4; ++i) data[i] = 1.0F;
  poison.deallocate(data, 16, 64);
  for (int i = 0; i < 4; ++i) CHECK(std::isnan(data[i]));
  host.deallocate(data, 16, 64);
}

TEST_CASE("poison: refuses memory the host cannot fill") {
  Elsewhere elsewhere;
  CHECK_THROWS_AS(Poison{elsewhere}, std::invalid_argument);
}

TEST_CASE("adaptors: their place is upstream's") {
  Elsewhere elsewhere;
  Statistics statistics(elsewhere);
  Limit limit(statistics, 1);
  CHECK(limit.place() == Place{Space::cuda, 1});
}

TEST_CASE("fail-at: exactly the nth allocation fails") {
  HostResource host;
  for (std::size_t nth = 1; nth <= 5; ++nth) {
    FailAt fail(host, nth);
    for (std::size_t i = 1; i <= 5; ++i) {
      CAPTURE(nth);
      CAPTURE(i);
      void* data = nullptr;
      if (i == nth) {
        CHECK_THROWS_AS(data = fail.allocate(64, 64), OutOfMemory);
      } else {
        CHECK_NOTHROW(data = fail.allocate(64, 64));
      }
      if (data != nullptr) fail.deallocate(data, 64, 64);
    }
    CHECK(fail.allocations() == 5);
  }
}

}  // namespace
}  // namespace poolgrad::memory
