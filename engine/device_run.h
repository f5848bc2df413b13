// DeviceRun: a program whose bytes lie on a device. The host never touches them: feeds go through
// pinned slots, answers come back through pinned ones, and steps are recorded once and replayed.
#pragma once

#include <span>
#include <string>

#include "engine/launcher.h"
#include "engine/runner.h"

namespace poolgrad {

/// Each input has two slots, and entries are bound, recorded and answered once per side. So a feed
/// crosses to one side while a step still reads the other. Of the blueprint it keeps the entries'
/// addresses alone, which stay when a program is moved.
class DeviceRun {
 public:
  DeviceRun(std::shared_ptr<Launcher> launcher, const Blueprint& blueprint,
            const std::vector<ArrayView>& views, const memory::Arena& arena);
  DeviceRun(const DeviceRun&) = delete;
  DeviceRun& operator=(const DeviceRun&) = delete;
  /// Waits until the device is done.
  ~DeviceRun();

  /// Copies the values on their way; those in host memory may be changed as soon as it returns.
  /// Those on the device are read once what is on their own stream is done: later steps may change
  /// them, others after make_wait(), and their owners are kept until they are read. `rows`: -1
  /// where no feed says. Then puts an entry's step on the work stream and does not wait for it, but
  /// with an observer for each node of it.
  ///
  /// Where a call fails, throws once nothing is on its way any more. Then it is as if the run had
  /// not been asked for, but for nodes of its step that were done: the error says how many.
  void run(std::size_t entry, std::span<const Feed> feeds, std::int64_t rows, Runner& runner,
           const Observer* observer);

  /// Binds a table from now on; entries that read it are recorded anew, and wait for what is on its
  /// stream now.
  void lend(int id, const ArrayView& values);

  // What fails of these leaves the program as it was, but work may be on its way yet: settled().

  /// What is put on either queue from now on waits for what is on `stream` now, and the other way
  /// round: what is put on `stream`, for the steps so far.
  void wait_for(memory::Stream stream);
  void make_wait(memory::Stream stream);

  /// Dense host values of a persistent tensor, which lies at `device`, in order with the steps; of
  /// an input those that were fed last. All wait.
  void write(int id, void* device, const void* values, std::size_t bytes);
  void read(int id, const void* device, void* values, std::size_t bytes);
  void read(const void* device, void* values, std::size_t bytes);
  void send(void* to, const void* from, std::size_t bytes);
  void fill(void* device, std::size_t bytes, std::byte value);

  /// A small kept tensor as the last run left it, in host memory that the next run may write again;
  /// waits for that run only. nullptr: not one of these.
  [[nodiscard]] const void* answer(int id);

  /// Waits for all work, and throws what kernels found wrong.
  void synchronize();

 private:
  struct Slot {  // of an input
    int id;
    std::string name;
    Spec spec;
    std::array<std::byte*, 2> device, pinned;
    std::array<bool, 2> fresh;  // holds what was last fed
  };
  struct Answer {
    int id;
    std::size_t bytes;
    const std::byte* device;
    std::array<std::byte*, 2> pinned;
    int side = -1;  // of the last run that made it
  };
  struct Lane {  // an entry on one side
    Bindings bindings;
    Launcher::Recording recording{};
  };
  struct Lanes {
    std::array<Lane, 2> of;
    std::vector<Answer*> answers{};
    std::vector<int> tables{};
    Launcher::RangeName name{};                     // of the entry
    std::vector<Launcher::RangeName> node_names{};  // by its steps: op and layer
    bool warm = false;  // has run once: libraries have loaded what they load at first use
  };

  void make_slots(const Blueprint& blueprint, const std::vector<ArrayView>& views,
                  const memory::Arena& arena);
  void make_answers(const Blueprint& blueprint, const std::vector<ArrayView>& views);
  void name_ranges(Lanes& lanes, const Entry& entry);
  void make_lanes(const Blueprint& blueprint, const std::vector<ArrayView>& views,
                  const memory::Arena& arena);
  Slot& slot(int id);
  std::byte* take_pinned(std::size_t bytes);
  void cross(std::span<const Feed> feeds, std::int64_t rows);
  void bring(std::span<const Feed> feeds, std::int64_t rows, std::size_t side);
  void stage(const Feed& feed, std::size_t side);
  void fill_slot(const Feed& feed, std::size_t side);
  [[nodiscard]] bool in_arena(const Feed& feed) const;
  void wait_for_producers(std::span<const Feed> feeds, std::size_t side);
  void issue(Lanes& lanes, Runner& runner, const Observer* observer, std::size_t& nodes);
  void step(Lanes& lanes, Runner& runner, const Observer* observer);
  [[nodiscard]] std::string told(const Lanes& lanes, const char* what) const;

  std::shared_ptr<Launcher> launcher_;
  int rows_id_;
  bool replays_;
  std::span<const std::byte> arena_;
  std::unique_ptr<memory::Arena> pinned_;
  std::size_t pinned_used_ = 0;
  std::vector<Slot> slots_;
  std::vector<std::unique_ptr<Answer>> answers_;
  std::vector<Lanes> lanes_;
  std::int32_t rows_ = -1;  // as the slots have it
  int side_ = 0;
  std::size_t nodes_done_ = 0;  // of the last step, of those that were put on the work stream
  std::array<memory::Event, 2> fed_, done_;
  /// Of what was fed from the device, per side: until it has been read.
  std::array<std::vector<std::shared_ptr<const void>>, 2> owners_;
};

}  // namespace poolgrad
