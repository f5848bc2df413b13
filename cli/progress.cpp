// Plain carriage returns and one erase sequence: no terminal library.
#include "cli/progress.h"

#include <algorithm>

#include <unistd.h>

namespace poolgrad::cli {

Progress::Progress(std::FILE* out, int epochs, double begun)
    : out_(out), epochs_(epochs), begun_(begun), terminal_(isatty(fileno(out)) != 0) {}

void Progress::show(const train::StepReport& step) {
  const Clock::time_point now = Clock::now();
  if (!terminal_ || now - last_ < std::chrono::milliseconds(100)) return;
  last_ = now;
  shown_ = true;

  constexpr int kWidth = 20;
  const double done = static_cast<double>(step.step) / static_cast<double>(step.of);
  const double all = (step.epoch - 1 + done) / epochs_;
  const auto left = static_cast<long>(std::chrono::duration<double>(now - begin_).count() *
                                      (1.0 - all) / std::max(all - begun_, 1e-9));
  const int filled = static_cast<int>(done * kWidth);
  std::fprintf(
      out_, "\r\033[Kepoch %d/%d [%.*s%.*s] loss %.4f  accuracy %.4f  %.0f images/s  ETA %ld:%02ld",
      step.epoch, epochs_, filled, "====================", kWidth - filled, "                    ",
      step.loss, step.accuracy, step.images_per_second, left / 60, left % 60);
  std::fflush(out_);
}

void Progress::clear() {
  if (shown_) std::fputs("\r\033[K", out_);
  shown_ = false;
}

}  // namespace poolgrad::cli
