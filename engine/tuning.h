// Tuning: a table of measured times, by which compile chooses among an op's candidates. It knows
// neither ops nor files: who times is in tuner.h, who reads and writes in interop/tuning_file.h.
#pragma once

#include <functional>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace poolgrad {

/// Choices by op and problem (OpDef::candidates). Equal tables and graphs give equal programs: the
/// choices are read, never drawn again from the times.
class Tuning {
 public:
  struct Time {
    std::string candidate;
    std::optional<double> us{};  // of one run; nothing: it has no kernel for this problem
  };
  struct Line {
    std::string chosen;
    std::vector<Time> times;

    [[nodiscard]] bool has(std::string_view candidate) const;
  };

  Tuning() = default;

  /// Reads what text() wrote; `name` begins the errors. Throws FileError for text that is no whole
  /// table, and for one made with another instruction set or other libraries than kernels_run_on().
  [[nodiscard]] static Tuning parse(std::string_view text, const std::string& name);

  /// "poolgrad tuning 1", what the kernels ran on, one line per problem sorted by op and problem,
  /// "end" and how many there are:
  ///     matmul | m 64, n 10, k 128, right transposed, bias | eigen | eigen 2.151 | onednn 3.020
  [[nodiscard]] std::string text() const;

  [[nodiscard]] const Line* find(std::string_view op, std::string_view problem) const;
  void set(std::string_view op, std::string_view problem, Line line);

  /// Takes down that a program was drafted with this choice.
  void use(std::string_view op, std::string_view problem, std::string_view chosen);
  /// Eight hex digits that follow from all choices taken down: programs of one graph whose choices
  /// differ round otherwise.
  [[nodiscard]] std::string used() const;

  [[nodiscard]] std::size_t size() const { return lines_.size(); }
  [[nodiscard]] const std::string& name() const { return name_; }

  /// What timing has cost since this table was made or read. Past the limit no more is begun:
  /// problems go by the rules, and are timed another time.
  struct Spent {
    std::size_t problems = 0, left_out = 0;
    double seconds = 0.0;
  };
  Spent spent{};
  double limit_seconds = 60.0;
  std::function<void(const Spent&)> on_timed{};  // after each problem

 private:
  std::map<std::string, Line> lines_;        // "op | problem"
  std::map<std::string, std::string> used_;  // what was chosen, by the same
  std::string name_ = "tuning";
};

}  // namespace poolgrad
