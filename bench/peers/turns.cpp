// Linux only: what others use is read from /proc.
#include "bench/peers/turns.h"

#include <algorithm>
#include <array>
#include <chrono>
#include <cmath>
#include <cstdlib>
#include <ctime>
#include <fstream>
#include <iostream>
#include <stdexcept>

#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

namespace peers {
namespace {

using Clock = std::chrono::steady_clock;

constexpr int kLastLoss = 20;
constexpr double kWarmSeconds = 0.3;

/// Core-seconds used on this machine by everybody but this process, since it started.
double foreign_seconds() {
  std::ifstream file("/proc/stat");
  std::string cpu;
  std::array<double, 8> ticks{};  // user, nice, system, idle, iowait, irq, softirq, steal
  file >> cpu;
  for (double& value : ticks) file >> value;
  const double busy = ticks[0] + ticks[1] + ticks[2] + ticks[5] + ticks[6] + ticks[7];
  timespec own{};
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &own);
  return busy / static_cast<double>(sysconf(_SC_CLK_TCK)) - static_cast<double>(own.tv_sec) -
         static_cast<double>(own.tv_nsec) * 1e-9;
}

rusage usage() {
  rusage result{};
  getrusage(RUSAGE_SELF, &result);
  return result;
}

double microseconds(const timeval& time) {
  return static_cast<double>(time.tv_sec) * 1e6 + static_cast<double>(time.tv_usec);
}

class Windows {
 public:
  Windows(const Training& training, std::int64_t done) : training_(training), done_(done) {}

  /// About so many seconds, at least three steps; the count comes from the window before.
  Json measure(double seconds) {
    const std::int64_t count =
        seconds > 0.0 ? std::max<std::int64_t>(3, std::llround(seconds / seconds_per_step_)) : 3;
    const rusage before = usage();
    const double foreign = foreign_seconds();
    const Clock::time_point begin = Clock::now();
    for (std::int64_t i = 0; i < count; ++i) training_.step(done_ + i);
    (void)training_.loss();
    const double spent = std::chrono::duration<double>(Clock::now() - begin).count();
    const double others = (foreign_seconds() - foreign) / spent;
    const rusage after = usage();
    done_ += count;
    seconds_per_step_ = spent / static_cast<double>(count);
    const auto per_step = [&](auto sum) {
      return static_cast<double>(sum) / static_cast<double>(count);
    };
    return {{"steps", count},
            {"step_us", seconds_per_step_ * 1e6},
            {"faults_per_step", per_step(after.ru_minflt - before.ru_minflt)},
            {"switches_per_step",
             per_step(after.ru_nvcsw - before.ru_nvcsw + after.ru_nivcsw - before.ru_nivcsw)},
            {"system_us_per_step",
             per_step(microseconds(after.ru_stime) - microseconds(before.ru_stime))},
            {"foreign_cpu", others}};
  }

 private:
  const Training& training_;
  std::int64_t done_;
  double seconds_per_step_ = 0.0;
};

template <typename T>
void read(const std::filesystem::path& path, std::span<T> to) {
  std::ifstream file(path, std::ios::binary);
  if (!file.read(reinterpret_cast<char*>(to.data()), static_cast<std::streamsize>(to.size_bytes())))
    throw std::runtime_error("peers: " + path.string() + " is missing or cut short; write it by " +
                             "`python -m peers.networks FOLDER`");
}

long number(const char* what, const char* word) {
  char* end = nullptr;
  const long value = std::strtol(word, &end, 10);
  if (*word == '\0' || *end != '\0' || value < 1 || value > kImages)
    throw std::invalid_argument(std::string("peers: ") + what + " is '" + word +
                                "'; give a number from 1 to 60000");
  return value;
}

}  // namespace

Arguments arguments(int argc, char** argv) {
  if (argc < 5)
    throw std::invalid_argument("peers: give FOLDER NETWORK BATCH THREADS, perhaps flags");
  return {argv[1], argv[2], number("BATCH", argv[3]), static_cast<int>(number("THREADS", argv[4])),
          std::vector<std::string>(argv + 5, argv + argc)};
}

Data read_data(const std::filesystem::path& folder, const std::string& network) {
  constexpr std::size_t kHugePage = std::size_t{1} << 21U;
  const std::size_t bytes = kImages * kPixels * sizeof(float);
  void* block = std::aligned_alloc(kHugePage, (bytes + kHugePage - 1) / kHugePage * kHugePage);
  if (block == nullptr) throw std::bad_alloc();
  madvise(block, bytes, MADV_HUGEPAGE);

  Data data;
  data.images = {static_cast<float*>(block), bytes / sizeof(float)};
  data.labels.resize(kImages);
  const std::filesystem::path weights = folder / (network + ".f32");
  if (std::filesystem::exists(weights))
    data.weights.resize(std::filesystem::file_size(weights) / sizeof(float));
  read(folder / "images.f32", data.images);
  read(folder / "labels.i64", std::span(data.labels));
  read(weights, std::span(data.weights));
  return data;
}

void serve(const Training& training, const Json& facts, const std::function<Json()>& memory) {
  Json first = facts;
  for (int i = 1; i <= kLastLoss; ++i) {
    training.step(i - 1);
    if (i <= 4 || i == kLastLoss) first["loss_at_step"][std::to_string(i)] = training.loss();
  }
  Windows windows(training, kLastLoss);
  (void)windows.measure(0.0);
  (void)windows.measure(kWarmSeconds);
  std::cout << first.dump() << std::endl;
  for (std::string line; std::getline(std::cin, line);)
    std::cout << windows.measure(std::stod(line)).dump() << std::endl;
  std::cout << memory().dump() << std::endl;
}

void serve(const std::function<float(std::int64_t)>& step, const Json& facts,
           const std::function<Json()>& memory) {
  float loss = 0.0F;
  serve({[&](std::int64_t i) { loss = step(i); }, [&] { return loss; }}, facts, memory);
}

int guarded(int argc, char** argv, void (*work)(const Arguments&)) {
  try {
    work(arguments(argc, argv));
    return 0;
  } catch (const std::invalid_argument& error) {
    std::cerr << error.what() << '\n';
    return 2;
  } catch (const std::exception& error) {
    std::cerr << error.what() << '\n';
    return 1;
  }
}

}  // namespace peers
