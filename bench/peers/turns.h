// turns.py for peers in C++: the data that all peers train on, and windows of time. No networks.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

namespace peers {

using Json = nlohmann::ordered_json;

inline constexpr std::int64_t kImages = 60000, kPixels = 784;

/// `PROGRAM FOLDER NETWORK BATCH THREADS [FLAG...]`.
struct Arguments {
  std::filesystem::path folder;  // where networks.py wrote its files
  std::string network;
  std::int64_t batch = 0;
  int threads = 0;
  std::vector<std::string> flags;
};
/// Throws std::invalid_argument.
[[nodiscard]] Arguments arguments(int argc, char** argv);

struct Data {
  std::span<float> images;  // [60000, 784] in [0, 1], on huge pages where the system has them
  std::vector<std::int64_t> labels;
  std::vector<float> weights;  // all initial ones, in the order of networks.py
};
/// Bytes live as long as the process. Throws std::runtime_error for files missing or cut short.
[[nodiscard]] Data read_data(const std::filesystem::path& folder, const std::string& network);

/// The first image of step `i` (from 0) in the order that all peers take.
[[nodiscard]] inline std::int64_t first_image(std::int64_t i, std::int64_t batch) {
  return i % (kImages / batch) * batch;
}

/// How a peer trains.
struct Training {
  std::function<void(std::int64_t)> step;  // number i, from 0; may return before it is done
  std::function<float()> loss;             // of the last one, once that is done
};

/// Takes part until standard input ends. `facts` go into the first line, what memory() tells is the
/// last one.
void serve(const Training& training, const Json& facts, const std::function<Json()>& memory);
/// The same where step(i) is done when it returns, and answers its loss.
void serve(const std::function<float(std::int64_t)>& step, const Json& facts,
           const std::function<Json()>& memory);

/// Calls main's work: 2 for what std::invalid_argument says of the arguments, 1 for other failures.
int guarded(int argc, char** argv, void (*work)(const Arguments&));

}  // namespace peers
