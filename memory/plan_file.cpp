// Reads and writes requests as CSV. Values are checked here, plans elsewhere.
#include "memory/plan_file.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <fstream>
#include <limits>
#include <stdexcept>
#include <string_view>
#include <system_error>

namespace poolgrad::memory {
namespace {

constexpr std::array<std::string_view, 10> kColumns{"id",        "lower", "upper",  "size",
                                                    "alignment", "at",    "member", "first_phase",
                                                    "end_phase", "offset"};

std::vector<std::string_view> cells(std::string_view line) {
  if (line.ends_with('\r')) line.remove_suffix(1);
  std::vector<std::string_view> result;
  for (;;) {
    const auto comma = line.find(',');
    std::string_view cell = line.substr(0, comma);
    while (cell.starts_with(' ')) cell.remove_prefix(1);
    while (cell.ends_with(' ')) cell.remove_suffix(1);
    result.push_back(cell);
    if (comma == std::string_view::npos) return result;
    line.remove_prefix(comma + 1);
  }
}

/// Reads one file, and knows where it is for the sake of errors.
class Reader {
 public:
  Reader(std::istream& in, const std::string& name) : in_(in), name_(name) {}

  PlanFile read() {
    if (!next_line()) fail("is empty; expected the header id,lower,upper,size");
    read_header();
    PlanFile file;
    while (next_line()) {
      const std::vector<std::string_view> values = cells(text_);
      if (values.size() != columns_.size()) {
        fail("has " + std::to_string(values.size()) + " values but the header has " +
             std::to_string(columns_.size()) + " columns");
      }
      Request request;
      std::string id;
      for (std::size_t i = 0; i < values.size(); ++i) {
        if (columns_[i] == "id") id = values[i];
        set(request, columns_[i], values[i]);
      }
      check(request);
      file.ids.push_back(std::move(id));
      file.requests.push_back(request);
    }
    if (in_.bad()) fail("cannot be read further");
    return file;
  }

 private:
  [[noreturn]] void fail(const std::string& what) const {
    throw std::runtime_error("plan file: " + name_ + " line " + std::to_string(line_) + " " + what);
  }

  /// Blank lines are passed over.
  bool next_line() {
    while (std::getline(in_, text_)) {
      ++line_;
      if (text_.find_first_not_of(" \r\t") != std::string::npos) return true;
    }
    line_ += line_ == 0 ? 1 : 0;
    return false;
  }

  void read_header() {
    if (text_.starts_with("\xef\xbb\xbf")) text_.erase(0, 3);
    for (const std::string_view cell : cells(text_)) {
      if (std::ranges::find(kColumns, cell) == kColumns.end()) {
        fail("has the unknown column '" + std::string(cell) +
             "'; known are id,lower,upper,size,alignment,at,member,first_phase,end_phase,offset");
      }
      if (has(cell)) fail("has the column '" + std::string(cell) + "' twice");
      columns_.emplace_back(cell);
    }
    for (const std::string_view name : {"id", "lower", "upper", "size"}) {
      if (!has(name)) fail("lacks the column '" + std::string(name) + "'");
    }
    if (has("member") != has("first_phase") || has("member") != has("end_phase")) {
      fail("has some of member,first_phase,end_phase but not all; give all three or none");
    }
  }

  [[nodiscard]] bool has(std::string_view column) const {
    return std::ranges::find(columns_, column) != columns_.end();
  }

  void set(Request& request, std::string_view column, std::string_view value) const {
    if (column == "lower") request.first = number<int>(column, value);
    if (column == "upper") request.end = number<int>(column, value);
    if (column == "size") request.bytes = number<std::size_t>(column, value);
    if (column == "alignment") request.alignment = number<std::size_t>(column, value);
    if (column == "at" && !value.empty()) request.at = number<std::size_t>(column, value);
    if (column == "at" && !value.empty() && request.at == kAnywhere)
      fail("column at: '" + std::string(value) + "' is no offset; leave it empty for any");
    if (column == "member") request.member = number<int>(column, value);
    if (column == "first_phase") request.first_phase = number<int>(column, value);
    if (column == "end_phase") request.end_phase = number<int>(column, value);
  }

  template <typename T>
  [[nodiscard]] T number(std::string_view column, std::string_view value) const {
    T result{};
    const auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), result);
    if (error == std::errc{} && end == value.data() + value.size()) return result;
    fail("column " + std::string(column) + ": '" + std::string(value) +
         "' is no whole number from " + std::to_string(std::numeric_limits<T>::min()) + " to " +
         std::to_string(std::numeric_limits<T>::max()));
  }

  /// What plan() would refuse is better said with the line it stands in.
  void check(const Request& r) const {
    if (r.end < r.first) {
      fail("column upper: " + std::to_string(r.end) + " is before lower, " +
           std::to_string(r.first) + "; [lower, upper) is half-open");
    }
    if (r.end_phase < r.first_phase) {
      fail("column end_phase: " + std::to_string(r.end_phase) + " is before first_phase, " +
           std::to_string(r.first_phase) + "; [first_phase, end_phase) is half-open");
    }
    if (r.member < kSeveral) {
      fail("column member: " + std::to_string(r.member) +
           " is no member; they count from 0, and -1 means several");
    }
    if (r.alignment != 0 && !is_alignment(r.alignment)) {
      fail("column alignment: " + std::to_string(r.alignment) + " is no power of two, nor 0");
    }
    if (r.at != kAnywhere && r.alignment != 0 && r.at % r.alignment != 0) {
      fail("column at: " + std::to_string(r.at) + " is no multiple of the alignment, " +
           std::to_string(r.alignment));
    }
  }

  std::istream& in_;
  std::string name_;
  std::string text_;
  std::size_t line_ = 0;
  std::vector<std::string> columns_;
};

}  // namespace

PlanFile read_plan(std::istream& in, const std::string& name) { return Reader(in, name).read(); }

PlanFile read_plan(const std::filesystem::path& path) {
  std::ifstream in(path);
  if (!in || std::filesystem::is_directory(path)) {
    throw std::runtime_error("plan file: " + path.string() +
                             " cannot be opened; give a CSV file with the header "
                             "id,lower,upper,size");
  }
  return read_plan(in, path.string());
}

void write_plan(std::ostream& out, const PlanFile& file, const Plan& plan) {
  const auto& requests = file.requests;
  const bool alignments = std::ranges::any_of(requests, [](auto& r) { return r.alignment != 0; });
  const bool fixed = std::ranges::any_of(requests, [](auto& r) { return r.at != kAnywhere; });
  const bool team = std::ranges::any_of(requests, [](const Request& r) {
    return r.member != 0 || r.first_phase != 0 || r.end_phase != 1;
  });
  out << "id,lower,upper,size" << (alignments ? ",alignment" : "") << (fixed ? ",at" : "")
      << (team ? ",member,first_phase,end_phase" : "") << ",offset\n";
  for (std::size_t i = 0; i < requests.size(); ++i) {
    const Request& r = requests[i];
    out << file.ids[i] << ',' << r.first << ',' << r.end << ',' << r.bytes;
    if (alignments) out << ',' << r.alignment;
    if (fixed) out << ',' << (r.at == kAnywhere ? "" : std::to_string(r.at));
    if (team) out << ',' << r.member << ',' << r.first_phase << ',' << r.end_phase;
    out << ',' << plan.offsets[i] << '\n';
  }
  if (!out.flush()) throw std::runtime_error("plan file: the output cannot be written further");
}

void write_plan(const std::filesystem::path& path, const PlanFile& file, const Plan& plan) {
  const std::filesystem::path part = path.string() + ".part";
  std::error_code ignored;
  try {
    std::ofstream out(part);
    if (!out) throw std::runtime_error("cannot be created");
    write_plan(out, file, plan);
    out.close();
    if (!out) throw std::runtime_error("cannot be written further");
    std::filesystem::rename(part, path);
  } catch (const std::exception& error) {
    std::filesystem::remove(part, ignored);
    throw std::runtime_error("plan file: " + path.string() + " cannot be written: " + error.what() +
                             "; choose another place");
  }
}

}  // namespace poolgrad::memory
