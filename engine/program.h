// Program: runs entries without allocating, and lends out bytes.
#pragma once

#include <memory>

#include "engine/compile.h"

namespace poolgrad {

/// What one run is fed. The first axis may be shorter than the slot's: then only so many rows
/// count. On the CPU, dense row-major values of the slot's dtype on 64 bytes, with all rows, are
/// used where they lie during the run; others are copied into the slot, and converted where dtypes
/// differ. A slot that is not fed holds what was last copied into it. On a device all are copied.
struct Feed {
  Tensor slot;
  ArrayView values;
};

/// Called around each step on the thread that runs it, on a device `after` once its work is done:
/// timing, tracing, poisoning. Absent: another loop.
struct Observer {
  std::function<void(const Entry&, const Step&)> before{}, after{};
};

class Program {
 public:
  /// Takes the arena from the blueprint's resource and fills the columns. Throws MemoryError.
  explicit Program(Blueprint blueprint);
  Program(Program&&) noexcept;
  Program& operator=(Program&&) noexcept;
  ~Program();

  /// Runs an entry. Planned: allocates nothing. Feeds must agree in their rows (batched slots
  /// only). Throws ShapeError or ArgumentError before anything is run for feeds that do not fit
  /// and for tables that were not lent, and whatever a kernel throws after all members have
  /// stopped; DeviceError when it is already running, and where a device fails. Then the program
  /// can be run again; what nodes had updated by then stays so, and the error says whether any had.
  void run(std::string_view entry, std::span<const Feed> feeds = {},
           const Observer* observer = nullptr);

  /// From now on steps read Graph::lent() table `slot` at `values`, whose owner is kept meanwhile;
  /// without data it is taken back, and entries that read it cannot run. Values must be dense
  /// row-major ones of the slot's own shape and dtype, in the program's memory: nothing is copied.
  /// Throws ShapeError or ArgumentError for others, DeviceError when it is running.
  void lend(Tensor slot, const ArrayView& values);

  /// Whether a team runs the entries, or the calling thread alone: at any time, with the same bits.
  void use_team(bool on);

  /// How often a member of this team waited longer than it spins, which costs a system call or two.
  /// All else in a run is done without any, once planned.
  [[nodiscard]] std::size_t sleeps() const;

  /// The values of a persistent or kept tensor in host memory: on the CPU view(), on a device as
  /// the steps so far have left them, which it waits for. Those of a small kept tensor, as losses
  /// are, are there already and change with the next run; others are copied into bytes of the
  /// view's own.
  [[nodiscard]] ArrayView read(Tensor tensor) const;
  /// `values` in the program's memory, so that they can be lent: themselves if they lie there, else
  /// a copy that lives as long as the view. Throws MemoryError.
  [[nodiscard]] ArrayView to_device(const ArrayView& values) const;
  /// Waits for a device's work, which run() does not, and throws what its kernels found wrong.
  void synchronize() const;

  /// For others who read or write the program's bytes by work on `stream`. wait_for(): steps from
  /// now on wait for what is on it now. make_wait(): what is put on it from now on waits for the
  /// steps so far. On a device the calling thread waits for neither; on the CPU it waits for the
  /// stream, and steps are done when run() returns. wait_for() throws DeviceError while it runs.
  void wait_for(memory::Stream stream);
  void make_wait(memory::Stream stream) const;

  /// Copies values into a persistent tensor, whole, converting numbers. Throws ShapeError. Where a
  /// device fails, the tensor has its values from before or these.
  void write(Tensor tensor, const ArrayView& values);
  /// The bytes of a persistent or kept tensor, alive as long as the view. Throws ExportError else.
  /// On a device, with the stream that steps write them on. Nobody must wait for that while another
  /// thread calls run(), which may be recording it.
  [[nodiscard]] ArrayView view(Tensor tensor) const;
  /// The bytes of a persistent tensor by its column and name ("parameters", "0.weight"). Throws
  /// ArgumentError.
  [[nodiscard]] ArrayView find(std::string_view column, std::string_view name) const;
  /// All tensors of a column and dtype as one flat array, each part on 64 bytes, gaps zero.
  [[nodiscard]] ArrayView column(std::string_view name, DType dtype = DType::f32) const;

  [[nodiscard]] const Blueprint& blueprint() const { return blueprint_; }
  [[nodiscard]] std::size_t arena_bytes() const { return blueprint_.arena_bytes(); }

  /// What was really used. watch_peak() fills the scratch with a pattern; measured_peak_bytes()
  /// then answers, planned: the end of the highest slot with a changed byte. Pooled and direct: the
  /// most bytes alive at one moment since.
  void watch_peak();
  [[nodiscard]] std::size_t measured_peak_bytes() const;
  [[nodiscard]] bool guards_intact() const;

  /// Where storage `s` of an entry lies now; nullptr when it has no bytes at the moment.
  [[nodiscard]] void* address(const Entry& entry, int storage) const;

 private:
  template <typename Work>
  void told(const char* call, Tensor tensor, const Work& work) const;

  struct State;  // all that has an address: arena, pool, bindings, team
  Blueprint blueprint_;
  std::unique_ptr<State> state_;
};

/// draft() and Program in one.
[[nodiscard]] Program compile(const Graph& graph, const std::vector<EntryPoint>& entries,
                              const Options& options = {});

}  // namespace poolgrad
