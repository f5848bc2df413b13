// Sides as rows of a table, and windows of steps that are asked what they asked for.
#include "bench/device_sides.h"

#include <algorithm>
#include <array>
#include <istream>
#include <ostream>

#include "engine/cuda/launcher.h"
#include "memory/pool.h"
#ifdef POOLGRAD_CUDA
#include "memory/cuda.h"
#endif

namespace poolgrad::bench {
namespace {

struct Way {
  std::string_view name;
  Memory memory;
  std::shared_ptr<memory::Resource> DeviceParts::*from;
  bool pool = false, replay = false;
};

constexpr std::array kWays{
    Way{"cuda_malloc", Memory::direct, &DeviceParts::malloc},
    Way{"cuda_malloc_async", Memory::direct, &DeviceParts::malloc_async},
    Way{"cuda_malloc_async_keeps", Memory::direct, &DeviceParts::malloc_async_keeps},
    Way{"cuda_pool", Memory::direct, &DeviceParts::malloc, /*pool=*/true},
    Way{"cuda_arena", Memory::planned, &DeviceParts::malloc},
    Way{"cuda_arena_graph", Memory::planned, &DeviceParts::malloc, false, /*replay=*/true}};

const Way& way(std::string_view name) {
  const auto* const found = std::ranges::find(kWays, name, &Way::name);
  if (found != kWays.end()) return *found;
  std::string known;
  for (const Way& each : kWays) known += (known.empty() ? "" : ", ") + std::string(each.name);
  throw ArgumentError(text("bench: no side '", name, "' on a device; there are ", known));
}

/// Windows of steps, and what of them are requests for bytes.
nlohmann::ordered_json windows(const DeviceSide& side, Training& training, double seconds) {
  Timed& resource = side.resource();
  const std::size_t requests = resource.requests(), calls = side.parts().memory_calls();
  const Window w = window(training, seconds);
  const auto per_step = [&w](std::size_t count) { return static_cast<double>(count) / w.steps; };
  nlohmann::ordered_json line{
      {"steps", w.steps},
      {"step_us", w.step_us},
      {"faults_per_step", w.faults_per_step},
      {"system_us_per_step", w.system_us_per_step},
      {"foreign_cpu", w.foreign_cpu},
      {"requests_per_step", per_step(resource.requests() - requests)},
      {"driver_calls_per_step", per_step(side.parts().memory_calls() - calls)}};
  const double before = resource.seconds();
  resource.take_time(true);
  const Window timed = window(training, seconds / 2);
  resource.take_time(false);
  line["in_requests_us"] = (resource.seconds() - before) * 1e6 / timed.steps;
  return line;
}

}  // namespace

#ifdef POOLGRAD_CUDA
namespace {
/// With the pool that it takes from.
struct Keeping {
  memory::CudaKeepingPool pool;
  memory::CudaAsyncResource resource{0, pool.handle()};
};
}  // namespace

DeviceParts cuda_parts() {
  std::shared_ptr<Launcher> launcher = cuda::launcher(Device::cuda(0));
  const auto keeping = std::make_shared<Keeping>();
  return {std::move(launcher),
          std::make_shared<memory::CudaResource>(),
          std::make_shared<memory::CudaAsyncResource>(),
          {keeping, &keeping->resource},
          memory::cuda_memory_calls,
          [] { return memory::cuda_used_bytes(); }};
}
#else
DeviceParts cuda_parts() { return {cuda::launcher(Device::cuda(0)), {}, {}, {}, {}, {}}; }
#endif

template <typename F>
auto Timed::timed(const F& call) {
  struct Reading {  // also of calls that throw
    Timed& to;
    bool on = to.on_;
    Clock::time_point begin = on ? Clock::now() : Clock::time_point{};
    ~Reading() {
      ++to.requests_;
      if (on)
        to.nanoseconds_ +=
            std::chrono::duration_cast<std::chrono::nanoseconds>(Clock::now() - begin).count();
    }
  };
  const Reading reading{*this};
  return call();
}

void* Timed::allocate_on(memory::Stream stream, std::size_t bytes, std::size_t alignment) {
  return timed([&] { return upstream().allocate_on(stream, bytes, alignment); });
}

void Timed::deallocate_on(memory::Stream stream, void* data, std::size_t bytes,
                          std::size_t alignment) {
  timed([&] { upstream().deallocate_on(stream, data, bytes, alignment); });
}

DeviceSide::DeviceSide(std::string_view name, DeviceParts parts)
    : parts_(std::move(parts)), memory_(way(name).memory), replay_(way(name).replay) {
  memory::Resource& from = *(parts_.*way(name).from);
  if (way(name).pool) pool_ = std::make_unique<memory::Pool>(from);
  resource_ = std::make_unique<Timed>(pool_ ? *pool_ : from);
}

Options DeviceSide::options() const {
  Options options;
  options.launcher = parts_.launcher;
  options.memory = memory_;
  options.replay = replay_;
  options.resource = resource_.get();
  return options;
}

bool is_device_side(std::string_view name) {
  return std::ranges::find(kWays, name, &Way::name) != kWays.end();
}

void serve(const DeviceSide& side, const train::TaskSpec& spec, Samples& samples,
           double window_seconds, std::istream& in, std::ostream& out) {
  const std::size_t used = side.parts().used_bytes();
  Training training(spec, side.options(), samples);
  nlohmann::ordered_json first = facts(training, window_seconds);
  const std::size_t data = samples.pixels().bytes() + samples.labels().bytes();
  first["held_bytes"] = static_cast<std::int64_t>(side.parts().used_bytes() - used - data);
  first["data"] = samples.name();
  out << first.dump() << std::endl;
  for (std::string line; std::getline(in, line);)
    out << windows(side, training, window_seconds).dump() << std::endl;
}

}  // namespace poolgrad::bench
