// Data, models and clocks of the benches. Linux only: what others use is read from /proc.
#include "bench/workload.h"

#include <algorithm>
#include <cstdlib>
#include <ctime>
#include <filesystem>
#include <fstream>
#include <iostream>

#include <gnu/libc-version.h>
#include <nlohmann/json.hpp>
#include <unistd.h>

#include "engine/cuda/launcher.h"
#include "engine/machine.h"
#include "engine/random.h"
#include "models/chain.h"
#include "models/cnn.h"
#include "models/mlp.h"
#include "models/resnet.h"
#include "models/unet.h"

namespace poolgrad::bench {
namespace {

/// Dense bytes on 64 of their own.
ArrayView zeros(const Shape& shape, DType dtype) {
  ArrayView view{nullptr, shape, Spec{shape}.strides(), dtype, {}, {}};
  const auto arena =
      std::make_shared<memory::Arena>(std::make_shared<memory::HostResource>(), view.bytes());
  arena->fill(0, std::byte{0});
  view.data = arena->at(0);
  view.owner = arena;
  return view;
}

/// Core-seconds used on this machine by everybody but this process, since it started.
double foreign_seconds() {
  std::ifstream file("/proc/stat");
  std::string cpu;
  std::array<double, 8> ticks{};  // user, nice, system, idle, iowait, irq, softirq, steal
  file >> cpu;
  for (double& value : ticks) file >> value;
  if (!file) return 0.0;
  const double busy = ticks[0] + ticks[1] + ticks[2] + ticks[5] + ticks[6] + ticks[7];
  timespec own{};
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &own);
  return busy / static_cast<double>(sysconf(_SC_CLK_TCK)) - static_cast<double>(own.tv_sec) -
         static_cast<double>(own.tv_nsec) * 1e-9;
}

double microseconds(const timeval& time) {
  return static_cast<double>(time.tv_sec) * 1e6 + static_cast<double>(time.tv_usec);
}

/// A line "KEY:   1234 kB" of /proc/self/status, in bytes.
std::size_t status_bytes(std::string_view key) {
  std::ifstream file("/proc/self/status");
  for (std::string line; std::getline(file, line);) {
    if (line.starts_with(key)) return std::stoull(line.substr(key.size() + 1)) << 10U;
  }
  return 0;
}

void print_versions() {
#ifdef __clang__
  const std::string compiler = text("Clang ", __clang_major__, ".", __clang_minor__);
#else
  const std::string compiler = text("GCC ", __GNUC__, ".", __GNUC_MINOR__);
#endif
  const nlohmann::ordered_json line{
      {"instruction_set", instruction_set()},
      {"cores", usable_cores()},
      {"versions", {compiler, text("glibc ", gnu_get_libc_version()), kernel_library()}}};
  std::cout << line.dump() << '\n';
}

void print_gpus() {
  std::string why;
  const int count = cuda::device_count(&why);
  std::cout << nlohmann::ordered_json{{"gpus", count}, {"why", why}}.dump() << '\n';
}

train::TaskSpec spec_on_cpu(const std::string& model, std::int64_t batch) {
  constexpr std::int64_t kPixels = 784, kClasses = 10;
  constexpr std::array<std::int64_t, 1> kSmall{128};
  constexpr std::array<std::int64_t, 2> kBig{1024, 1024};
  if (model == "mlp_small")
    return {models::mlp(kPixels, kSmall, kClasses), {kPixels}, batch, train::Sgd{.rate = 0.1F}};
  if (model == "mlp_big")
    return {models::mlp(kPixels, kBig, kClasses), {kPixels}, batch, train::Adam{}};
  const auto images = [&](const train::Model& network, float rate) {
    return train::TaskSpec{network, {1, 28, 28}, batch, train::Sgd{.rate = rate, .momentum = 0.9F}};
  };
  if (model == "cnn") return images(models::cnn(), 0.05F);
  if (model == "resnet_small") return images(models::resnet(), 0.05F);
  if (model == "resnet20") return images(models::resnet(3, 16), 0.05F);
  if (model == "chain") return images(models::chain(), 0.001F);
  if (model == "unet") return images(models::unet(), 0.01F);
  throw ArgumentError(text("bench: no model '", model,
                           "'; there are mlp_small, mlp_big, cnn, resnet_small, resnet20, chain "
                           "and unet"));
}

}  // namespace

train::TaskSpec spec_of(const std::string& model, std::int64_t batch, bool on_device) {
  train::TaskSpec spec = spec_on_cpu(model, batch);
  if (on_device) spec.minimize.updates = train::Updates::whole_column;
  return spec;
}

Samples::Samples()
    : pixels_(zeros({kCount, kPixels}, DType::f32)), labels_(zeros({kCount}, DType::i64)) {
  const std::span<float> pixels = pixels_.as<float>();
  const std::span<std::int64_t> labels = labels_.as<std::int64_t>();
  if (std::filesystem::exists(train::kFashionMnist)) {
    data_ = train::read_mnist(train::kFashionMnist);
    const auto bytes = data_->train.samples.as<std::uint8_t>();
    for (std::size_t i = 0; i < pixels.size(); ++i)
      pixels[i] = static_cast<float>(bytes[i]) / 255.0F;
    std::ranges::copy_n(data_->train.labels.as<std::uint8_t>().data(), kCount, labels.begin());
    return;
  }
  for (std::size_t i = 0; i < pixels.size(); ++i) pixels[i] = unit(draw(0, 0, i)[0]);
  for (std::size_t i = 0; i < labels.size(); ++i)
    labels[i] = static_cast<std::int64_t>(draw(0, 1, i)[0] % 10);
}

namespace {
/// Rows [first, first + count) of a dense array, as `shape`, whose first axis is so long.
ArrayView rows_of(const ArrayView& all, std::int64_t first, const Shape& shape) {
  auto* const data = static_cast<std::byte*>(all.data) +
                     first * (shape.count() / shape[0]) * std::ptrdiff_t(size_of(all.dtype));
  return {data, shape, Spec{shape}.strides(), all.dtype, all.place, {}};
}
}  // namespace

std::array<Feed, 2> feeds(const train::Task& task, const ArrayView& pixels, const ArrayView& labels,
                          std::int64_t index) {
  const Shape& shape = task.samples.shape();
  const std::int64_t rows = shape[0], first = index % (labels.shape[0] / rows) * rows;
  return {Feed{task.samples, rows_of(pixels, first, shape)},
          Feed{task.labels, rows_of(labels, first, {rows})}};
}

namespace {
train::TaskSpec with_tables(train::TaskSpec spec, const Samples& samples, Source source) {
  if (source == Source::ready) return spec;
  if (samples.files() == nullptr)
    throw ArgumentError("bench: no files to train from; install dataset-fashion-mnist");
  spec.tables = train::tables_of(*samples.files());
  return spec;
}
}  // namespace

Training::Training(const train::TaskSpec& spec, const Options& options, Samples& samples,
                   Source source)
    : task_(train::make_task(with_tables(spec, samples, source))),
      program_(compile(*task_.graph, task_.entries, options)) {
  if (samples.batches(spec.batch) < 1)
    throw ArgumentError(text("bench: batch ", spec.batch, " is more than the samples there are"));
  if (source == Source::ready) {
    pixels_ = program_.to_device(samples.pixels());
    labels_ = program_.to_device(samples.labels());
    return;
  }
  const train::Dataset& data = samples.files()->train;
  ArrayView images = data.samples;
  images.shape = task_.train.samples.shape();
  images.strides = Spec{images.shape}.strides();
  program_.lend(task_.train.samples, program_.to_device(images));
  program_.lend(task_.train.labels, program_.to_device(data.labels));
  batches_.emplace(data.count(), spec.batch, /*seed=*/0);
  batches_->shuffle(next_);
}

void Training::step(const Observer* observer) {
  if (!batches_) {
    program_.run("train", feeds(task_, pixels_, labels_, next_++), observer);
    return;
  }
  std::span<const std::int32_t> batch = batches_->next();
  if (batch.empty()) {
    batches_->shuffle(++next_);
    batch = batches_->next();
  }
  const auto rows = static_cast<std::int64_t>(batch.size());
  const Feed feed{task_.indices, ArrayView::of(batch, {rows}, DType::i32)};
  program_.run("train", {&feed, 1}, observer);
}

rusage usage() {
  rusage result{};
  getrusage(RUSAGE_SELF, &result);
  return result;
}

Window window(Training& training, double seconds) {
  Window result;
  const rusage before = usage();
  const double foreign = foreign_seconds();
  const Clock::time_point begin = Clock::now();
  double spent = 0.0;
  while (spent < seconds) {
    training.step();
    ++result.steps;
    spent = seconds_since(begin);
  }
  training.wait();
  spent = seconds_since(begin);
  result.foreign_cpu = (foreign_seconds() - foreign) / spent;
  const rusage after = usage();
  result.step_us = spent * 1e6 / result.steps;
  result.faults_per_step = static_cast<double>(after.ru_minflt - before.ru_minflt) / result.steps;
  result.system_us_per_step =
      (microseconds(after.ru_stime) - microseconds(before.ru_stime)) / result.steps;
  return result;
}

nlohmann::ordered_json facts(Training& training, double window_seconds) {
  constexpr int kLossStep = 20;  // tells whether two sides did the same
  Program& program = training.program();
  program.watch_peak();
  for (int i = 0; i < kLossStep; ++i) training.step();
  const float loss = training.loss();
  const std::size_t peak = program.measured_peak_bytes();
  (void)window(training, window_seconds);
  const Blueprint& blueprint = program.blueprint();
  return {{"loss_at_step_20", loss},
          {"peak_bytes", peak},
          {"predicted_peak_bytes", blueprint.predicted_peak_bytes()},
          {"lower_bound_bytes", blueprint.lower_bound_bytes()},
          {"sum_bytes", blueprint.sum_bytes()},
          {"persistent_bytes", blueprint.persistent_bytes}};
}

double step_us(std::span<const Window> windows, double q) {
  std::vector<double> times;
  for (const Window& window : windows) times.push_back(window.step_us);
  std::ranges::sort(times);
  return times[static_cast<std::size_t>(q * static_cast<double>(times.size() - 1) + 0.5)];
}

ResidentPeak::ResidentPeak() {
  std::ofstream("/proc/self/clear_refs") << 5;  // from now on VmHWM is the peak since now
  before_ = status_bytes("VmRSS:");
}

std::size_t ResidentPeak::bytes() const {
  return std::max(status_bytes("VmHWM:"), before_) - before_;
}

std::string shapes_of(const std::vector<Spec>& specs) {
  std::string result;
  for (const Spec& spec : specs) result += (result.empty() ? "" : " ") + to_string(spec.shape);
  return result;
}

int positive(const char* name, const char* value) {
  char* end = nullptr;
  const long number = std::strtol(value, &end, 10);
  if (*value == '\0' || *end != '\0' || number < 1 || number > 1'000'000)
    throw ArgumentError(text("bench: ", name, " is '", value, "'; give a number from 1 on"));
  return static_cast<int>(number);
}

int run_bench(int argc, char** argv, void (*measure)(int, char**)) {
  try {
    if (argc == 2 && std::string_view(argv[1]) == "versions") {
      print_versions();
    } else if (argc == 2 && std::string_view(argv[1]) == "gpus") {
      print_gpus();
    } else {
      measure(argc, argv);
    }
    return 0;
  } catch (const ArgumentError& error) {
    std::cerr << error.what() << '\n';
    return 2;
  } catch (const std::exception& error) {
    std::cerr << error.what() << '\n';
    return 1;
  }
}

}  // namespace poolgrad::bench
