// Arrays of a device lent to others and taken from them: who waits for whom, who keeps what alive.
#include <algorithm>
#include <atomic>
#include <memory>
#include <numeric>
#include <string>
#include <vector>

#include <dlpack/dlpack.h>
#include <doctest/doctest.h>

#include "engine/ops.h"
#include "engine/program.h"
#include "engine/transfer.h"
#include "interop/handshake.h"
#include "tests/cuda/fake_launcher.h"

namespace poolgrad {
namespace {

using interop::fulfil;
using interop::numbered_stream;
using testing::FakeLauncher;
using testing::FakeStream;
using testing::what_streams_did;
using Said = std::vector<std::string>;

constexpr std::int64_t kCount = 6;

/// y = x + x on the fake device; x has `kCount` elements per row.
struct Doubling {
  Graph graph;
  Tensor x = graph.input({{2, kCount}}, "x"), y = add(x, x);
  std::shared_ptr<FakeLauncher> launcher = std::make_shared<FakeLauncher>();
  Program program;

  Doubling() : program(compiled()) {}
  void run(const ArrayView& values) {
    const Feed feed{x, values};
    program.run("run", {&feed, 1});
  }
  std::vector<float> result() { return values_of(program.read(y)); }

  static std::vector<float> values_of(const ArrayView& view) {
    return {view.as<float>().begin(), view.as<float>().end()};
  }

 private:
  Program compiled() {
    Options options;
    options.launcher = launcher;
    return compile(graph, {{"run", {y}}}, options);
  }
};

std::vector<float> counting(float first) {
  std::vector<float> values(2 * kCount);
  std::iota(values.begin(), values.end(), first);
  return values;
}

std::vector<float> doubled(std::vector<float> values) {
  for (float& v : values) v *= 2.0F;
  return values;
}

ArrayView host_array(std::vector<float>& values) {
  return ArrayView::of(std::span(values), {2, kCount}, DType::f32);
}

/// An array of another library's, in its own memory, on its own stream.
struct Theirs {
  FakeStream stream{"theirs"};
  ArrayView array;

  explicit Theirs(float first) {
    std::vector<float> values = counting(first);
    array = copied_to(stream.stream(), host_array(values));
  }
};

/// Lets a stream begin with what is queued on it once open() is called.
class Gate {
 public:
  explicit Gate(FakeStream& stream) {
    stream.enqueue([open = open_] { open->wait(false); });
  }
  ~Gate() { open(); }
  void open() {
    *open_ = true;
    open_->notify_all();
  }

 private:
  std::shared_ptr<std::atomic<bool>> open_ = std::make_shared<std::atomic<bool>>(false);
};

// ---- lending

TEST_CASE("exchange: the consumer's stream waits for ours, by an event, and nobody else does") {
  Doubling d;
  const ArrayView y = d.program.view(d.y);
  const auto did = [&](std::optional<std::int64_t> number) {
    (void)what_streams_did();
    CHECK_FALSE(fulfil(y, {.stream = number}).is_copy);
    return what_streams_did();
  };
  FakeStream consumer("consumer");
  CHECK(did(std::nullopt) == Said{"record work", "legacy waits"});
  CHECK(did(1) == Said{"record work", "legacy waits"});
  CHECK(did(2) == Said{"record work", "per-thread waits"});
  CHECK(did(consumer.number()) == Said{"record work", "consumer waits"});
  CHECK(did(-1).empty());
  const std::int64_t own = reinterpret_cast<std::intptr_t>(d.launcher->work().handle);
  CHECK(did(own).empty());
  for (const std::int64_t number : {0, -2}) {
    CAPTURE(number);
    CHECK_THROWS_AS((void)fulfil(y, {.stream = number}), ExportError);
  }
}

TEST_CASE("exchange: what a consumer reads on its stream is what the steps before have made") {
  Doubling d;
  for (float first = 0.0F; first < 20.0F; ++first) {
    std::vector<float> values = counting(first);
    d.run(host_array(values));
    FakeStream consumer("consumer");
    const ArrayView y = fulfil(d.program.view(d.y), {.stream = consumer.number()}).array;
    std::vector<float> seen(2 * kCount);
    consumer.stream().copy(seen.data(), y.data, y.bytes());
    consumer.synchronize();
    CHECK(seen == doubled(values));
  }
}

TEST_CASE("exchange: a capsule of the device names it, in both structs") {
  Doubling d;
  const ArrayView y = d.program.view(d.y);
  DLManagedTensorVersioned* lent = interop::to_dlpack(y);
  CHECK(lent->dl_tensor.device.device_type == kDLCUDA);
  CHECK(lent->dl_tensor.device.device_id == 0);
  CHECK(lent->dl_tensor.data == y.data);
  CHECK(lent->flags == 0);
  lent->deleter(lent);
  DLManagedTensor* old = interop::to_unversioned_dlpack(y);
  CHECK(old->dl_tensor.device.device_type == kDLCUDA);
  old->deleter(old);
}

TEST_CASE("exchange: on the CPU it is a copy, which is done, and cannot be had without one") {
  Doubling d;
  std::vector<float> values = counting(3.0F);
  d.run(host_array(values));
  const interop::DevicePair cpu{kDLCPU, 0};
  const interop::Fulfilled there = fulfil(d.program.view(d.y), {.device = cpu});
  CHECK(there.is_copy);
  CHECK(there.array.place == memory::Place{});
  CHECK(Doubling::values_of(there.array) == doubled(values));
  CHECK_THROWS_WITH_AS((void)fulfil(d.program.view(d.y), {.device = cpu, .copy = false}),
                       "__dlpack__: the tensor lies on cuda:0 and copy=False forbids to bring it "
                       "to the CPU; pass copy=None",
                       ExportError);
  CHECK_THROWS_AS((void)fulfil(d.program.view(d.y), {.device = interop::DevicePair{kDLCUDA, 1}}),
                  ExportError);
}

TEST_CASE("exchange: a copy on the device has bytes of its own") {
  Doubling d;
  std::vector<float> values = counting(1.0F);
  d.run(host_array(values));
  const interop::Fulfilled copy = fulfil(d.program.view(d.y), {.copy = true});
  CHECK(copy.is_copy);
  CHECK(copy.array.place == d.program.view(d.y).place);
  CHECK(copy.array.data != d.program.view(d.y).data);
  std::vector<float> others = counting(100.0F);
  d.run(host_array(others));
  CHECK(Doubling::values_of(on_host(copy.array)) == doubled(values));
}

TEST_CASE("exchange: what is lent keeps arena and streams, also when the program is gone") {
  auto d = std::make_unique<Doubling>();
  std::vector<float> values = counting(5.0F);
  d->run(host_array(values));
  DLManagedTensorVersioned* lent = interop::to_dlpack(d->program.view(d->y));
  d.reset();
  const memory::Stream legacy = numbered_stream(1, {nullptr, FakeStream::ops()});
  const ArrayView back = interop::from_dlpack(lent, legacy);
  CHECK(Doubling::values_of(on_host(back)) == doubled(values));
}

// ---- who waits when others write

TEST_CASE("exchange: steps wait for a stream by wait_for(), and it waits for them by make_wait()") {
  Doubling d;
  FakeStream other("other");
  (void)what_streams_did();
  d.program.wait_for(other.stream());
  CHECK(what_streams_did() == Said{"record other", "work waits", "copies waits"});
  d.program.make_wait(other.stream());
  CHECK(what_streams_did() == Said{"record work", "other waits", "record copies", "other waits"});
}

TEST_CASE("exchange: a weight that another stream is writing is read by the next step when done") {
  Graph graph;
  const Tensor x = graph.input({{1, kCount}}, "x");
  const Tensor weight = graph.parameter({1, kCount}, Init::constant(1.0F), "weight");
  const Tensor y = add(x, weight);
  Options options;
  options.launcher = std::make_shared<FakeLauncher>();
  Program program = compile(graph, {{"run", {y}}}, options);
  const std::vector<float> zeros(kCount), sevens(kCount, 7.0F);
  const Feed feed{x, ArrayView::of(std::span(zeros), {1, kCount}, DType::f32)};
  for (int i = 0; i < 4; ++i) program.run("run", {&feed, 1});  // recorded by now
  FakeStream other("other");
  Gate gate(other);
  program.make_wait(other.stream());
  const ArrayView shared = program.view(weight);
  other.stream().copy(shared.data, sevens.data(), shared.bytes());
  program.wait_for(other.stream());
  program.run("run", {&feed, 1});
  gate.open();
  CHECK(Doubling::values_of(program.read(y)) == sevens);
}

// ---- taking

TEST_CASE("exchange: an array of the device is fed once its producer's stream is done with it") {
  Doubling d;
  const Theirs first(1.0F);
  d.run(first.array);
  Theirs next(50.0F);
  Gate gate(next.stream);
  std::vector<float> late = counting(9.0F);
  next.stream.stream().copy(next.array.data, late.data(), next.array.bytes());
  (void)what_streams_did();
  d.run(next.array);
  const Said did = what_streams_did();
  const auto recorded = std::ranges::find(did, "record theirs");
  REQUIRE(recorded != did.end());
  CHECK(std::find(recorded, did.end(), "copies waits") != did.end());
  gate.open();
  CHECK(d.result() == doubled(late));
}

TEST_CASE("exchange: what is fed from the device is kept until it is read, and no longer") {
  Doubling d;
  Theirs theirs(1.0F);
  std::weak_ptr<const void> alive = theirs.array.owner;
  Gate gate(theirs.stream);
  d.run(theirs.array);
  theirs.array = {};
  CHECK_FALSE(alive.expired());
  gate.open();
  d.program.synchronize();
  CHECK(alive.expired());
}

TEST_CASE("exchange: a table of the device's is lent where it lies, and waited for") {
  Graph graph;
  const Tensor table = graph.lent({{2, kCount}}, "table");
  const Tensor indices = graph.input({{1}, DType::i32}, "indices");
  const Tensor y = gather(table, indices);
  const auto launcher = std::make_shared<FakeLauncher>();
  Options options;
  options.launcher = launcher;
  Program program = compile(graph, {{"run", {y}}}, options);
  Theirs theirs(0.0F);
  Gate gate(theirs.stream);
  std::vector<float> late = counting(30.0F);
  theirs.stream.stream().copy(theirs.array.data, late.data(), theirs.array.bytes());
  (void)what_streams_did();
  program.lend(table, theirs.array);
  CHECK(what_streams_did() == Said{"record theirs", "work waits"});
  const std::int32_t last = 1;
  const Feed feed{indices, ArrayView::of(std::span(&last, 1), {1}, DType::i32)};
  program.run("run", {&feed, 1});
  gate.open();
  CHECK(Doubling::values_of(program.read(y)) ==
        std::vector<float>(late.begin() + kCount, late.end()));
  CHECK(program.view(table).data == theirs.array.data);
}

TEST_CASE("exchange: arrays that lie elsewhere, or do not fit, are refused and change nothing") {
  Doubling d;
  const Theirs theirs(1.0F);
  ArrayView elsewhere = theirs.array, strided = theirs.array, doubles = theirs.array;
  elsewhere.place.index = 1;
  CHECK_THROWS_WITH_AS(d.run(elsewhere),
                       "run: values for input 'x' lie on cuda:1 but the program runs on cuda:0; "
                       "move them there, or to the CPU",
                       ArgumentError);
  strided.strides = {1, 2};
  CHECK_THROWS_AS(d.run(strided), ArgumentError);
  doubles.dtype = DType::i32;
  CHECK_THROWS_AS(d.run(doubles), ArgumentError);
  d.run(theirs.array);
  CHECK(d.result() == doubled(counting(1.0F)));

  Graph graph;
  const Tensor x = graph.input({{2, kCount}}, "x");
  Program cpu = compile(graph, {{"run", {add(x, x)}}});
  const Feed feed{x, theirs.array};
  CHECK_THROWS_WITH_AS(cpu.run("run", {&feed, 1}),
                       "run: values for input 'x' lie on cuda:0 but the program runs on cpu; "
                       "move them there, or to the CPU",
                       ArgumentError);
}

TEST_CASE("exchange: imports are of the device that is asked for, and come with its stream") {
  Theirs theirs(0.0F);
  CHECK_THROWS_WITH_AS((void)interop::from_dlpack(interop::to_dlpack(theirs.array)),
                       "from_dlpack: the array lies on cuda:0; move it to the CPU first",
                       ExportError);
  memory::StreamOps second = *FakeStream::ops();
  second.device = 1;
  CHECK_THROWS_WITH_AS(
      (void)interop::from_dlpack(interop::to_dlpack(theirs.array),
                                 {theirs.stream.stream().handle, &second}),
      "from_dlpack: the array lies on cuda:0 but is wanted on cuda:1; move it there first",
      ExportError);
  const ArrayView taken =
      interop::from_dlpack(interop::to_dlpack(theirs.array), theirs.stream.stream());
  CHECK(taken.stream == theirs.stream.stream());
  CHECK(taken.place == theirs.array.place);
  CHECK(taken.data == theirs.array.data);
}

// ---- across

TEST_CASE("exchange: arrays of any strides and dtypes cross between host and device") {
  Theirs theirs(0.0F);
  ArrayView turned = theirs.array;  // [kCount, 2], and backwards along the first axis
  turned.shape = {kCount, 2};
  turned.strides = {-1, kCount};
  turned.data = static_cast<std::byte*>(turned.data) + (kCount - 1) * sizeof(float);
  const ArrayView here = on_host(turned);
  CHECK(here.row_major());
  for (std::int64_t i = 0; i < kCount; ++i) {
    CHECK(here.as<float>()[static_cast<std::size_t>(2 * i)] == static_cast<float>(kCount - 1 - i));
  }
  std::vector<double> values(2 * kCount, 4.0);
  copy_across(ArrayView::of(std::span(values), {2, kCount}, DType::f64), theirs.array);
  CHECK(Doubling::values_of(on_host(theirs.array)) == std::vector<float>(2 * kCount, 4.0F));
  const ArrayView again = copied_to(theirs.stream.stream(), turned);
  copy_across(again, copied_to(theirs.stream.stream(), again));
  CHECK(Doubling::values_of(on_host(again)) == std::vector<float>(2 * kCount, 4.0F));
}

}  // namespace
}  // namespace poolgrad
