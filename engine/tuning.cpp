// The table as text: one line per problem, fields between " | ".
#include "engine/tuning.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <iomanip>
#include <sstream>

#include "engine/error.h"
#include "engine/machine.h"

namespace poolgrad {
namespace {

constexpr std::string_view kFirstLine = "poolgrad tuning 1", kBetween = " | ";
constexpr std::size_t kMostCandidates = 32;  // of a problem, and more than any op has
constexpr std::size_t kMostShown = 80;       // bytes of a line that errors repeat

std::vector<std::string_view> split(std::string_view line) {
  std::vector<std::string_view> fields;
  for (std::size_t begin = 0;;) {
    const std::size_t end = line.find(kBetween, begin);
    fields.push_back(line.substr(begin, end - begin));
    if (end == std::string_view::npos) return fields;
    begin = end + kBetween.size();
  }
}

/// "eigen 2.151", "winograd -".
std::optional<Tuning::Time> time_of(std::string_view field) {
  const std::size_t space = field.rfind(' ');
  if (space == 0 || space == std::string_view::npos) return {};
  const std::string_view number = field.substr(space + 1);
  Tuning::Time time{std::string(field.substr(0, space))};
  if (number == "-") return time;
  double us = 0.0;
  const auto [read, error] = std::from_chars(number.data(), number.data() + number.size(), us);
  const bool whole = error == std::errc() && read == number.data() + number.size();
  if (!whole || !std::isfinite(us) || us < 0.0) return {};
  time.us = us;
  return time;
}

/// op, problem, what is chosen, and at least its time.
std::optional<Tuning::Line> line_of(const std::vector<std::string_view>& fields) {
  if (fields.size() < 4 || fields.size() > 3 + kMostCandidates) return {};
  if (fields[0].empty() || fields[1].empty()) return {};
  Tuning::Line line{.chosen = std::string(fields[2]), .times = {}};
  for (std::size_t i = 3; i < fields.size(); ++i) {
    auto time = time_of(fields[i]);
    if (!time || line.has(time->candidate)) return {};
    line.times.push_back(std::move(*time));
  }
  const auto chosen = std::ranges::find(line.times, line.chosen, &Tuning::Time::candidate);
  if (chosen == line.times.end() || !chosen->us) return {};
  return line;
}

std::string key_of(std::string_view op, std::string_view problem) {
  return text(op, kBetween, problem);
}

/// Lines one by one, counted for the errors.
class Reader {
 public:
  Reader(std::string_view text, std::string_view name) : rest_(text), name_(name) {}

  /// Throws where there is none that ends.
  std::string_view next() {
    ++number_;
    const std::size_t end = rest_.find('\n');
    if (end == std::string_view::npos) refuse("is missing: the table is cut off");
    const std::string_view line = rest_.substr(0, end);
    rest_.remove_prefix(end + 1);
    return line;
  }
  [[nodiscard]] bool at_end() const { return rest_.empty(); }

  [[noreturn]] void refuse(const std::string& what) const {
    throw FileError(text(name_, ": line ", number_, " ", what,
                         "; delete the file to have all problems timed again"));
  }

 private:
  std::string_view rest_, name_;
  std::size_t number_ = 0;
};

}  // namespace

bool Tuning::Line::has(std::string_view candidate) const {
  return std::ranges::find(times, candidate, &Time::candidate) != times.end();
}

Tuning Tuning::parse(std::string_view given, const std::string& name) {
  if (!given.starts_with(poolgrad::text(kFirstLine, "\n")))
    throw FileError(poolgrad::text(name, ": is no table of tuned times, which begins '", kFirstLine,
                                   "'; name another file"));
  Tuning tuning;
  tuning.name_ = name;
  Reader reader(given, name);
  (void)reader.next();
  if (const std::string_view made = reader.next(); made != kernels_run_on())
    throw FileError(poolgrad::text(name, ": was made on '", made.substr(0, kMostShown),
                                   "' but kernels run on '", kernels_run_on(),
                                   "' here; name another file"));
  for (std::string_view line = reader.next();; line = reader.next()) {
    if (line == poolgrad::text("end ", tuning.size())) break;
    const auto fields = split(line);
    auto read = line_of(fields);
    if (!read)
      reader.refuse(
          "is no 'op | problem | chosen | candidate µs | ...' with a time of the chosen one");
    if (!tuning.lines_.emplace(key_of(fields[0], fields[1]), std::move(*read)).second)
      reader.refuse("has a problem that an earlier line has too");
  }
  if (!reader.at_end()) reader.refuse("is the end, but more follows");
  return tuning;
}

std::string Tuning::text() const {
  std::ostringstream out;
  out << kFirstLine << '\n' << kernels_run_on() << '\n' << std::fixed << std::setprecision(3);
  for (const auto& [key, line] : lines_) {
    out << key << kBetween << line.chosen;
    for (const Time& time : line.times) {
      out << kBetween << time.candidate << ' ';
      time.us ? out << *time.us : out << '-';
    }
    out << '\n';
  }
  out << "end " << lines_.size() << '\n';
  return out.str();
}

const Tuning::Line* Tuning::find(std::string_view op, std::string_view problem) const {
  const auto found = lines_.find(key_of(op, problem));
  return found == lines_.end() ? nullptr : &found->second;
}

void Tuning::set(std::string_view op, std::string_view problem, Line line) {
  lines_[key_of(op, problem)] = std::move(line);
}

void Tuning::use(std::string_view op, std::string_view problem, std::string_view chosen) {
  used_[key_of(op, problem)] = chosen;
}

std::string Tuning::used() const {
  std::uint32_t hash = 0x811c9dc5U;  // FNV-1a
  for (const auto& [key, chosen] : used_) {
    for (const char c : poolgrad::text(key, kBetween, chosen, "\n"))
      hash = (hash ^ static_cast<unsigned char>(c)) * 0x01000193U;
  }
  std::ostringstream digits;
  digits << std::hex << std::setw(8) << std::setfill('0') << hash;
  return digits.str();
}

}  // namespace poolgrad
