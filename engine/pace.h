// Pace: whether a team or the caller alone runs the next step of an entry. Both give the same bits,
// so only time decides: a step may be too small for two, or a neighbour may hold a core.
#pragma once

#include <limits>

namespace poolgrad {

/// Is told what each run took. Large steps are left to the team unless its caller mostly waits;
/// small ones are tried both ways, and the team goes on for as long as it is faster on average: a
/// neighbour may stop one run in a hundred for longer than the others take together. While the
/// caller runs alone, the team is tried again now and then. Times are in seconds, by any clock that
/// only moves forward.
class Pace {
 public:
  /// Who runs next.
  [[nodiscard]] bool team(double now);

  /// A run that ended `now` took `seconds`, of which the caller waited for others `waited`.
  void note(double now, double seconds, double waited);

 private:
  enum class Mode { trying_team, trying_alone, team, alone };

  void begin(Mode mode);
  void stay(bool with_team, double now, double seconds);
  [[nodiscard]] bool is_slower_than_alone() const;

  Mode mode_ = Mode::trying_team;
  int runs_ = 0;       // in this mode; with the team, in this window
  int impatient_ = 0;  // runs in a row in which the caller mostly waited
  double fastest_ = std::numeric_limits<double>::infinity();  // of this trial
  double fastest_team_ = 0.0, fastest_alone_ = 0.0;           // of the last trials; 0: none yet
  double spent_ = 0.0;                                        // seconds, in those runs
  double pause_ = 0.0;                                        // until the team is tried again
  double try_again_at_ = 0.0;
};

}  // namespace poolgrad
