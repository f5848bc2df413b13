// Who asks the driver for memory in a step: counted at the driver itself, by CUPTI, so that what
// cuBLASLt, cuDNN and the runtime take is seen too. In builds with CUPTI.
#include <atomic>
#include <map>
#include <mutex>
#include <set>
#include <string>
#include <vector>

#include <cuda.h>
#include <cupti_callbacks.h>
#include <cupti_result.h>
#include <doctest/doctest.h>

#include "models/cnn.h"
#include "models/mlp.h"
#include "models/resnet.h"
#include "tests/cuda/gpu.h"
#include "tests/engine/small_images.h"
#include "train/task.h"

namespace poolgrad {
namespace {

/// Calls that take or give memory: of the device, pinned, of pools, and its mapping.
bool about_memory(const std::string& call) {
  for (const char* begin : {"cuMemAlloc", "cuMemFree", "cuMemHostAlloc", "cuMemHostRegister",
                            "cuMemHostUnregister", "cuMemCreate", "cuMemRelease", "cuMemMap",
                            "cuMemUnmap", "cuMemAddress", "cuMemPool", "cuArray"}) {
    if (call.starts_with(begin)) return true;
  }
  return false;
}

/// Counts them by name while it lives, from all threads and libraries.
class DriverMemoryCalls {
 public:
  DriverMemoryCalls() {
    refused_ = cuptiSubscribe(&subscriber_, told, this);
    if (refused_ == CUPTI_SUCCESS)
      refused_ = cuptiEnableDomain(1, subscriber_, CUPTI_CB_DOMAIN_DRIVER_API);
  }
  DriverMemoryCalls(const DriverMemoryCalls&) = delete;
  DriverMemoryCalls& operator=(const DriverMemoryCalls&) = delete;
  ~DriverMemoryCalls() {
    if (subscriber_ != nullptr) (void)cuptiUnsubscribe(subscriber_);
  }

  /// Why nothing is counted, where a profiler is there already for instance.
  [[nodiscard]] std::string refused() const {
    if (refused_ == CUPTI_SUCCESS) return "";
    const char* why = nullptr;
    (void)cuptiGetResultString(refused_, &why);
    return why == nullptr ? "CUPTI" : why;
  }
  [[nodiscard]] std::map<std::string, int> calls() {
    const std::lock_guard lock(mutex_);
    return calls_;
  }
  void forget() {
    const std::lock_guard lock(mutex_);
    calls_.clear();
  }

 private:
  static void CUPTIAPI told(void* self, CUpti_CallbackDomain domain, CUpti_CallbackId,
                            const void* data) {
    if (domain != CUPTI_CB_DOMAIN_DRIVER_API) return;
    const auto* call = static_cast<const CUpti_CallbackData*>(data);
    if (call->callbackSite != CUPTI_API_ENTER || !about_memory(call->functionName)) return;
    auto* counter = static_cast<DriverMemoryCalls*>(self);
    const std::lock_guard lock(counter->mutex_);
    ++counter->calls_[call->functionName];
  }

  CUpti_SubscriberHandle subscriber_ = nullptr;
  CUptiResult refused_ = CUPTI_SUCCESS;
  std::mutex mutex_;
  std::map<std::string, int> calls_;
};

train::Model model_of(int which) {
  static constexpr std::array<std::int64_t, 1> kHidden{128};
  if (which == 0) return models::mlp(784, kHidden, 10);
  return which == 1 ? train::Model(models::cnn()) : train::Model(models::resnet());
}

TEST_CASE("gpu: in a step nobody asks the driver for memory, libraries neither") {
  if (!testing::gpu()) return;
  DriverMemoryCalls counted;
  if (!counted.refused().empty()) {
    MESSAGE("skipped, not counted: ", counted.refused());
    return;
  }
  constexpr std::int64_t kBatch = 32;
  for (const int which : {0, 1, 2}) {
    for (const DType kept : {DType::f32, DType::bf16}) {
      CAPTURE(which);
      CAPTURE(kept);
      const train::TaskSpec spec{.model = model_of(which),
                                 .sample = {1, 28, 28},
                                 .batch = kBatch,
                                 .optimizer = train::Adam{}};
      const train::Task task = train::make_task(spec);
      Options options = testing::on_gpu();
      options.precision = kept;
      counted.forget();
      Program program(draft_task(spec, task, options));
      CHECK(!counted.calls().empty());  // the arena at least: so calls are seen at all
      testing::SmallImages images(kBatch, 28);
      const auto step = [&](int i) {
        program.run("train", images.feeds(task.samples, task.labels, i % 4 == 3 ? 20 : kBatch));
      };
      for (int i = 0; i < 8; ++i) step(i);  // one by one, then recorded for each side
      program.synchronize();
      counted.forget();
      for (int i = 0; i < 100; ++i) step(i);
      program.synchronize();
      std::string seen;
      for (const auto& [name, count] : counted.calls()) seen += text(name, " ", count, ", ");
      CHECK(seen == "");
    }
  }
}

}  // namespace
}  // namespace poolgrad
