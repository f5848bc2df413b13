// Runner: the loops that run an entry's steps. Where persistent bytes lie, and what feeds are, is
// program.cpp's business.
#pragma once

#include <atomic>
#include <exception>
#include <memory>

#include "engine/pace.h"
#include "engine/program.h"
#include "engine/team.h"

namespace poolgrad {

/// Every argument of every step of an entry, and where its storages lie now.
struct Bindings {
  explicit Bindings(const Entry& of_entry, int members);

  void bind(int storage, void* data);

  const Entry* entry;
  std::vector<void*> addresses;  // all arguments of all steps, end to end
  std::vector<Args> args;        // per step
  std::vector<void*> base;       // per storage; nullptr: no bytes at the moment
  std::vector<void*> home;       // per persistent storage: where it lies unless a feed is bound
  Pace pace;
  std::vector<std::vector<int>> lists;  // per member: its steps, and -1 where a phase ends

 private:
  struct User {
    std::size_t argument;
    std::ptrdiff_t begin;  // of the tensor in its storage
  };
  std::vector<std::vector<User>> users_;  // per storage
};

class Runner {
 public:
  /// Planned tensors are bound already, or with `source` asked for at run time, from there.
  Runner(memory::Resource* source, memory::Stream stream) : source_(source), stream_(stream) {}

  /// Runs all steps, by the team if there is one, or else on this thread with the same bits. What a
  /// kernel throws is thrown once every member has stopped and all bytes are given back.
  void run(Bindings& bindings, const Observer* observer);

  /// Makes or dismisses the team; after a fork, makes it anew.
  /// `adaptive`: the team runs what it runs faster than this thread alone does.
  void muster(bool team, int members, bool adaptive);
  void muster_after_fork() {
    if (team_ && team_->forked()) muster(true, team_->members(), adaptive_);
  }

  [[nodiscard]] std::size_t sleeps() const { return team_ ? team_->sleeps() : 0; }

  /// Requested bytes alive at `source` now, and the most since reset_peak().
  [[nodiscard]] std::size_t peak_bytes() const { return peak_; }
  void reset_peak() { peak_ = live_.load(); }

 private:
  void take(Bindings& bindings, const std::vector<int>& storages);
  void give(Bindings& bindings, const std::vector<int>& storages);
  void give_all(Bindings& bindings);
  void cross(Bindings& bindings, std::size_t phase);

  template <bool kDynamic, bool kObserved>
  void step(Bindings& bindings, int i, const Observer* observer);
  template <bool kDynamic, bool kObserved>
  void alone(Bindings& bindings, const Observer* observer);
  template <bool kDynamic, bool kObserved>
  double together(Bindings& bindings, const Observer* observer);
  template <bool kDynamic, bool kObserved>
  void choose(Bindings& bindings, const Observer* observer);
  template <typename F>
  void guarded(const F& work);

  memory::Resource* source_;  // nullptr: planned
  memory::Stream stream_;
  std::atomic<std::size_t> live_ = 0, peak_ = 0;
  std::unique_ptr<Team> team_;
  bool adaptive_ = true;
  std::atomic<bool> failed_ = false;
  std::exception_ptr failure_;
};

}  // namespace poolgrad
