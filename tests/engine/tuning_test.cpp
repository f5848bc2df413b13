// Tables of times: their text, and what they make compile choose. Real ops' candidates are compared
// in train/modes_test.cpp.
#include "engine/tuning.h"

#include <chrono>
#include <thread>

#include <doctest/doctest.h>

#include "engine/machine.h"
#include "engine/program.h"

namespace poolgrad {
namespace {

const std::string kHeader = text("poolgrad tuning 1\n", kernels_run_on(), "\n");

std::string error_of(const std::string& table) {
  try {
    (void)Tuning::parse(table, "t");
  } catch (const FileError& error) {
    return error.what();
  }
  return "none";
}

Kernel writing(float value, std::chrono::milliseconds pause = {}, std::size_t workspace = 0) {
  return {[=](const Args& a) {
            if (pause.count() > 0) std::this_thread::sleep_for(pause);
            *a.out<float>() = value;
          },
          workspace};
}

Candidates candidates(const Site& site) {
  using std::chrono::milliseconds;
  Candidates all{"some", {}};
  if (site.winograd)
    all.best_first.push_back({"none", []() -> std::optional<Kernel> { return {}; }});
  all.best_first.push_back({"slow", [] { return std::optional(writing(1.0F, milliseconds(2))); }});
  all.best_first.push_back(
      {"slower", [] { return std::optional(writing(2.0F, milliseconds(9))); }});
  all.best_first.push_back({"fast", [] { return std::optional(writing(3.0F, {}, 640)); }});
  return all;
}

/// Writes which of its candidates it is.
constexpr OpDef kPick{
    .name = "pick", .infer = same_as_first, .cpu = by_rule<candidates>, .candidates = candidates};

struct Picked {
  float value = 0.0F;
  std::size_t arena_bytes = 0;
};

Picked picked(const std::shared_ptr<Tuning>& tuning, Options options = {}) {
  Graph graph;
  const Tensor x = graph.input({{1}}, "x"), y = graph.add(kPick, {x})[0];
  options.tuning = tuning;
  Program program = compile(graph, {{"run", {y}}}, options);
  program.run("run", {});
  return {program.view(y).as<float>()[0], program.blueprint().arena_bytes()};
}

std::shared_ptr<Tuning> table(const std::string& lines, int count = 1) {
  return std::make_shared<Tuning>(Tuning::parse(text(kHeader, lines, "end ", count, "\n"), "t"));
}

TEST_CASE("tuning: text and table are the same thing") {
  Tuning tuning;
  CHECK(tuning.text() == kHeader + "end 0\n");
  tuning.set("matmul", "m 1, n 2", {"b", {{"a", 2.5}, {"b", 0.125}, {"c", {}}}});
  tuning.set("conv2d", "x", {"a", {{"a", 1e3}}});
  const std::string expected = kHeader +
                               "conv2d | x | a | a 1000.000\n"
                               "matmul | m 1, n 2 | b | a 2.500 | b 0.125 | c -\n"
                               "end 2\n";
  CHECK(tuning.text() == expected);
  const Tuning read = Tuning::parse(expected, "t");
  CHECK(read.text() == expected);
  REQUIRE(read.find("matmul", "m 1, n 2") != nullptr);
  CHECK(read.find("matmul", "m 1, n 2")->chosen == "b");
  CHECK(read.find("matmul", "m 1") == nullptr);
}

TEST_CASE("tuning: a table that is damaged is refused with the line, whatever was done to it") {
  const std::string line = "op | p | a | a 1.000 | b 2.000\n";
  const std::string whole = kHeader + line + "end 1\n";
  CHECK(error_of(whole) == "none");
  for (std::size_t bytes = 0; bytes < whole.size(); ++bytes)
    CHECK(error_of(whole.substr(0, bytes)) != "none");
  const std::string remedy = "; delete the file to have all problems timed again";
  CHECK(error_of("") ==
        "t: is no table of tuned times, which begins 'poolgrad tuning 1'; name "
        "another file");
  CHECK(error_of(kHeader + line) == "t: line 4 is missing: the table is cut off" + remedy);
  CHECK(error_of(whole + "x") == "t: line 4 is the end, but more follows" + remedy);
  CHECK(error_of(kHeader + line + line + "end 2\n") ==
        "t: line 4 has a problem that an earlier line has too" + remedy);
  for (const char* wrong :
       {"end 2", "", "op | p | a", "op | p | b | a 1.0", "op | p | a | a -", "op | p | a | a nan",
        "op | p | a | a -1.0", "op | p | a | a 1e999", "op | p | a | a 1.0x",
        "op | p | a | a 1 | a 2", "op | p | a | a", " | p | a | a 1.0", "op |  | a | a 1.0"}) {
    CAPTURE(wrong);
    CHECK(error_of(text(kHeader, wrong, "\nend 1\n")) ==
          "t: line 3 is no 'op | problem | chosen | candidate µs | ...' with a time of the chosen "
          "one" +
              remedy);
  }
}

TEST_CASE("tuning: a line with more candidates than any op has is refused unread") {
  std::string line = "op | p | c0";
  for (int i = 0; i < 32; ++i) line += text(" | c", i, " 1.0");
  CHECK(error_of(kHeader + line + "\nend 1\n") == "none");
  line += " | c32 1.0";
  CHECK(error_of(kHeader + line + "\nend 1\n").starts_with("t: line 3 is no 'op | problem"));
}

TEST_CASE("tuning: a table of another instruction set or library is refused") {
  const auto refusal = [](const std::string& made) {
    return text("t: was made on '", made, "' but kernels run on '", kernels_run_on(),
                "' here; name another file");
  };
  const auto made_on = [](const std::string& what) {
    return error_of("poolgrad tuning 1\n" + what + "\nend 0\n");
  };
  CHECK(made_on("sse9, Eigen 1.0") == refusal("sse9, Eigen 1.0"));
  CHECK(made_on("Eigen's") == refusal("Eigen's"));
  CHECK(made_on(std::string(1000, 'x')) == refusal(std::string(80, 'x')));
}

TEST_CASE("tuning: without a table the rule decides, with one the choice, in plan and run") {
  CHECK(picked(nullptr).value == 1.0F);
  const std::string times = "none - | slow 1.0 | slower 2.0 | fast 3.0\n";
  CHECK(picked(table("pick | some | slow | " + times)).value == 1.0F);
  CHECK(picked(table("pick | some | slower | " + times)).value == 2.0F);
  const Picked fast = picked(table("pick | some | fast | " + times));
  CHECK(fast.value == 3.0F);
  CHECK(fast.arena_bytes == picked(nullptr).arena_bytes + 640);
}

TEST_CASE("tuning: what is missing is timed once and added, the fastest chosen") {
  const auto tuning = std::make_shared<Tuning>();
  int told = 0;
  tuning->on_timed = [&told](const Tuning::Spent&) { ++told; };
  CHECK(picked(tuning).value == 3.0F);
  CHECK(picked(tuning).value == 3.0F);
  CHECK(tuning->spent.problems == 1);
  CHECK(told == 1);
  const Tuning::Line line = *tuning->find("pick", "some");
  CHECK(line.chosen == "fast");
  CHECK(line.times.size() == 4);
  CHECK_FALSE(line.times[0].us);
  CHECK(line.times[1].us > 2000.0);
  // A line that lacks a candidate is timed anew; one that lies is believed.
  const auto lacks = table("pick | some | slow | none - | slow 1.0 | fast 3.0\n");
  CHECK(picked(lacks).value == 3.0F);
  CHECK(lacks->spent.problems == 1);
}

TEST_CASE("tuning: nothing is timed when told not to, or past the limit") {
  const auto tuning = std::make_shared<Tuning>();
  CHECK(picked(tuning, {.measure = false}).value == 1.0F);
  CHECK(tuning->spent.left_out == 0);
  tuning->limit_seconds = 0.0;
  CHECK(picked(tuning).value == 1.0F);
  CHECK(tuning->size() == 0);
  CHECK(tuning->spent.left_out == 1);
}

TEST_CASE(
    "tuning: what is not allowed gives way to the fastest that is, without a kernel it fails") {
  const auto forbidden =
      table("pick | some | none | none 1.0 | slow 5.0 | slower 4.0 | fast 4.5\n");
  CHECK(picked(forbidden, {.winograd = false}).value == 2.0F);
  CHECK_THROWS_WITH_AS(
      picked(forbidden),
      "t: chooses 'none' for pick of some, which has no kernel for it here; delete "
      "the file to have all problems timed again",
      FileError);
}

}  // namespace
}  // namespace poolgrad
