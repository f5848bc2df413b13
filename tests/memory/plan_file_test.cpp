#include "memory/plan_file.h"

#include <filesystem>
#include <fstream>
#include <sstream>
#include <stdexcept>
#include <string>

#include <doctest/doctest.h>

#include "bench/requests/random_requests.h"

namespace poolgrad::memory {
namespace {

PlanFile parse(const std::string& text) {
  std::istringstream in(text);
  return read_plan(in, "step.csv");
}

TEST_CASE("plan file: the four columns, half-open, in any order, with Windows line ends") {
  const PlanFile file = parse("id,lower,upper,size\na,0,3,100\n\n7,2,5,64\n");
  CHECK(file.ids == std::vector<std::string>{"a", "7"});
  CHECK(file.requests[0].bytes == 100);
  CHECK(file.requests[1].first == 2);
  CHECK(file.requests[1].end == 5);
  CHECK(file.requests[1].member == 0);
  const PlanFile other = parse("\xef\xbb\xbfsize, upper,lower,id\r\n100,3,0,a\r\n");
  CHECK(other.requests[0].bytes == 100);
  CHECK(other.requests[0].end == 3);
  CHECK(other.ids[0] == "a");
  CHECK(parse("id,lower,upper,size\n").requests.empty());
}

TEST_CASE("plan file: alignment, member and phases are read where they are given") {
  const PlanFile file = parse(
      "id,lower,upper,size,alignment,member,first_phase,end_phase\n"
      "0,1,2,3,256,-1,4,5\n");
  CHECK(file.requests[0].alignment == 256);
  CHECK(file.requests[0].member == kSeveral);
  CHECK(file.requests[0].first_phase == 4);
  CHECK(file.requests[0].end_phase == 5);
}

TEST_CASE("plan file: a buffer lies at its fixed offset, one without is free") {
  const PlanFile file = parse("id,lower,upper,size,at\na,0,2,64,64\nb,1,3,100,\n");
  CHECK(file.requests[0].at == 64);
  CHECK(file.requests[1].at == kAnywhere);
  const Plan result = plan(file.requests);
  CHECK(result.offsets == std::vector<std::size_t>{64, 128});
  std::ostringstream out;
  write_plan(out, file, result);
  CHECK(out.str() == "id,lower,upper,size,at,offset\na,0,2,64,64,64\nb,1,3,100,,128\n");
  const PlanFile beyond = parse("id,lower,upper,size,at\na,0,2,64,18446744073709551552\n");
  CHECK_THROWS_AS(static_cast<void>(plan(beyond.requests)), std::invalid_argument);
}

TEST_CASE("plan file: errors name file, line, column and value") {
  const auto refuse = [](const std::string& text, const std::string& what) {
    CHECK_THROWS_WITH_AS(static_cast<void>(parse(text)), ("plan file: step.csv " + what).c_str(),
                         std::runtime_error);
  };
  const std::string header = "id,lower,upper,size\n";
  refuse("", "line 1 is empty; expected the header id,lower,upper,size");
  refuse("id,lower,upper\n", "line 1 lacks the column 'size'");
  refuse("id,lower,upper,size,id\n", "line 1 has the column 'id' twice");
  refuse("id,lower,upper,size,colour\n",
         "line 1 has the unknown column 'colour'; known are "
         "id,lower,upper,size,alignment,at,member,first_phase,end_phase,offset");
  refuse("id,lower,upper,size,member\n",
         "line 1 has some of member,first_phase,end_phase but not all; give all three or none");
  refuse(header + "0,1,2\n", "line 2 has 3 values but the header has 4 columns");
  refuse(header + "0,1,2,3\n0,1,two,3\n",
         "line 3 column upper: 'two' is no whole number from -2147483648 to 2147483647");
  refuse(header + "0,1,2,-3\n",
         "line 2 column size: '-3' is no whole number from 0 to 18446744073709551615");
  refuse(header + "0,1,2,99999999999999999999\n",
         "line 2 column size: '99999999999999999999' is no whole number from 0 to "
         "18446744073709551615");
  refuse(header + "0,1,2,\n",
         "line 2 column size: '' is no whole number from 0 to 18446744073709551615");
  refuse(header + "0,5,2,3\n",
         "line 2 column upper: 2 is before lower, 5; [lower, upper) is half-open");
  refuse("id,lower,upper,size,alignment\n0,1,2,3,48\n",
         "line 2 column alignment: 48 is no power of two, nor 0");
  refuse("id,lower,upper,size,at\n0,1,2,3,-64\n",
         "line 2 column at: '-64' is no whole number from 0 to 18446744073709551615");
  refuse("id,lower,upper,size,at\n0,1,2,3,18446744073709551615\n",
         "line 2 column at: '18446744073709551615' is no offset; leave it empty for any");
  refuse("id,lower,upper,size,alignment,at\n0,1,2,3,256,64\n",
         "line 2 column at: 64 is no multiple of the alignment, 256");
  refuse("id,lower,upper,size,member,first_phase,end_phase\n0,1,2,3,-2,0,1\n",
         "line 2 column member: -2 is no member; they count from 0, and -1 means several");
  refuse("id,lower,upper,size,member,first_phase,end_phase\n0,1,2,3,0,2,1\n",
         "line 2 column end_phase: 1 is before first_phase, 2; [first_phase, end_phase) is "
         "half-open");
}

TEST_CASE("plan file: a file that is not there, or a folder, cannot be opened") {
  for (const char* path : {"no/such/file.csv", "/"}) {
    CHECK_THROWS_WITH_AS(static_cast<void>(read_plan(std::filesystem::path(path))),
                         (std::string("plan file: ") + path +
                          " cannot be opened; give a CSV file with the header id,lower,upper,size")
                             .c_str(),
                         std::runtime_error);
  }
}

TEST_CASE("plan file: what is written is read again, with the offsets beside it") {
  PlanFile file;
  file.requests = testing::random_team(5, 20, 2);
  file.requests[3].alignment = 128;
  for (std::size_t i = 0; i < 20; ++i) file.ids.push_back("tensor" + std::to_string(i));
  const Plan result = plan(file.requests);
  std::stringstream text;
  write_plan(text, file, result);
  const PlanFile again = read_plan(text, "again");
  CHECK(again.ids == file.ids);
  CHECK(plan(again.requests).offsets == result.offsets);
  CHECK(check(result, again.requests) == "");
  CHECK(text.str().find("id,lower,upper,size,alignment,member,first_phase,end_phase,offset\n") ==
        0);

  const PlanFile simple = parse("id,lower,upper,size\na,0,3,100\n");
  std::ostringstream out;
  write_plan(out, simple, plan(simple.requests));
  CHECK(out.str() == "id,lower,upper,size,offset\na,0,3,100,0\n");
}

TEST_CASE("plan file: a file is written whole or not at all") {
  const auto folder = std::filesystem::temp_directory_path() / "poolgrad_plan_file_test";
  std::filesystem::remove_all(folder);
  std::filesystem::create_directories(folder);
  const PlanFile file = parse("id,lower,upper,size\na,0,3,100\n");
  write_plan(folder / "out.csv", file, plan(file.requests));
  CHECK(read_plan(folder / "out.csv").ids == file.ids);
  CHECK_THROWS_AS(write_plan(folder / "missing" / "out.csv", file, plan(file.requests)),
                  std::runtime_error);
  std::size_t files = 0;
  for ([[maybe_unused]] const auto& entry : std::filesystem::directory_iterator(folder)) ++files;
  CHECK(files == 1);
  std::filesystem::remove_all(folder);
}

}  // namespace
}  // namespace poolgrad::memory
