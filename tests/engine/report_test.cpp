// Reports and the picture: every byte is accounted for once.
#include "engine/report.h"

#include <algorithm>
#include <set>

#include <doctest/doctest.h>

#include "engine/autograd.h"
#include "engine/ops.h"
#include "engine/timeline_svg.h"

namespace poolgrad {
namespace {

Blueprint drafted(int threads) {
  static Graph graph;
  static const Tensor loss = [] {
    const Tensor x = graph.input({{64, 300}}, "x"), y = graph.input({{64}, DType::i64}, "y");
    std::vector<Tensor> weights;
    const auto layer = [&](Tensor t, std::int64_t out, const char* name) {
      const Graph::Layer scope(graph, name);
      weights.push_back(graph.parameter({out, t.shape()[1]}, Init::constant(0.1F), "weight"));
      return linear(t, weights.back());
    };
    return softmax_cross_entropy(layer(relu(layer(x, 200, "in")), 10, "out"), y);
  }();
  static const Tensor scale = graph.state({}, Init::constant(1.0F), "scale", "settings");
  const auto backward = [](Graph& entry) {
    const std::vector<Tensor> weights = entry.column("parameters");
    std::vector<int> ids;
    for (const Tensor& g : differentiate(entry.handle(loss.id), weights, entry.handle(scale.id)))
      ids.push_back(g.id);
    return ids;
  };
  return draft(graph, {{"train", {loss}, backward}, {"predict", {loss}}}, {.threads = threads});
}

TEST_CASE("report: persistent rows tile their part of the arena, planned rows lie in the scratch") {
  for (const int threads : {1, 2}) {
    const Blueprint blueprint = drafted(threads);
    const std::vector<ReportRow> rows = report(blueprint, "train");
    std::size_t next = 0;
    for (const ReportRow& row : rows) {
      CAPTURE(row.name);
      CHECK(row.first < row.end);
      CHECK(row.end <= static_cast<int>(blueprint.entry("train").steps.size()));
      if (row.persistent) {
        CHECK(row.offset == next);
        next += row.bytes;
      } else {
        CHECK(row.offset >= blueprint.persistent_bytes);
        CHECK(row.offset + row.bytes <= blueprint.arena_bytes());
      }
    }
    CHECK(next == blueprint.persistent_bytes);
  }
}

TEST_CASE("report: no two rows that share a step share a byte") {
  for (const int threads : {1, 2}) {
    const std::vector<ReportRow> rows = report(drafted(threads), "train");
    for (std::size_t i = 0; i < rows.size(); ++i) {
      for (std::size_t j = 0; j < i; ++j) {
        const ReportRow &a = rows[i], &b = rows[j];
        CHECK_FALSE((a.first < b.end && b.first < a.end && a.offset < b.offset + b.bytes &&
                     b.offset < a.offset + a.bytes));
      }
    }
  }
}

TEST_CASE("report: roles and layers come from where tensors were made") {
  const std::vector<ReportRow> rows = report(drafted(1), "train");
  const auto has = [&](Role role, const std::string& layer) {
    return std::ranges::any_of(
        rows, [&](const ReportRow& row) { return row.role == role && row.layer == layer; });
  };
  CHECK(has(Role::parameter, "in"));
  CHECK(has(Role::parameter, "out"));
  CHECK(has(Role::input, ""));
  CHECK(has(Role::gradient, "out"));
  CHECK(std::ranges::any_of(rows, [](const ReportRow& r) { return r.role == Role::activation; }));
}

TEST_CASE("report: sums by layer count every slot once, largest first") {
  const std::vector<ReportRow> rows = report(drafted(1), "train");
  const std::vector<ReportSum> sums = sums_by_layer(rows);
  std::size_t bytes = 0, slots = 0, total = 0;
  for (const ReportSum& sum : sums)
    bytes += sum.bytes, slots += static_cast<std::size_t>(sum.slots);
  for (const ReportRow& row : rows) total += row.bytes;
  CHECK(bytes == total);
  CHECK(slots == rows.size());
  CHECK(std::ranges::is_sorted(sums, std::ranges::greater{}, &ReportSum::bytes));
}

TEST_CASE("report: what is alive at the peak adds up to the lower bound") {
  for (const int threads : {1, 2}) {
    const Blueprint blueprint = drafted(threads);
    std::size_t bytes = 0;
    for (const ReportRow& row : alive_at_peak(blueprint, "train")) bytes += row.bytes;
    CHECK(bytes == blueprint.entry("train").plan.lower_bound_bytes);
  }
}

TEST_CASE("report: the tables name every entry, the fullest step and the layers, in 100 columns") {
  for (const int threads : {1, 2}) {
    const std::string all = tables(drafted(threads), "train");
    for (const char* part : {"train ", "predict ", "is fullest at", "in  ", "out ", "parameter",
                             "all ", "alive then", "without reuse"}) {
      CAPTURE(part);
      CHECK(all.find(part) != std::string::npos);
    }
    for (std::size_t at = 0, end = 0; (end = all.find('\n', at)) != std::string::npos; at = end + 1)
      CHECK(end - at <= 100);
  }
  const std::string short_form = tables(drafted(1), "train", 1);
  CHECK(short_form.find("others)") != std::string::npos);
  CHECK(short_form.find("smaller ones") != std::string::npos);
  CHECK(tables(drafted(1), "train", 0).find("others)") == std::string::npos);
}

TEST_CASE("report: the text names the arena, the bound and the largest") {
  const std::string text = describe(drafted(1), "train", 3);
  CHECK(text.starts_with("arena "));
  CHECK(text.find("lower bound ") != std::string::npos);
  CHECK(text.find("largest by layer and role") != std::string::npos);
  CHECK(text.find("parameter") != std::string::npos);
  CHECK_THROWS_AS((void)describe(drafted(1), "none"), ArgumentError);
}

TEST_CASE("human_bytes: units of 1024, one decimal") {
  CHECK(human_bytes(0) == "0 B");
  CHECK(human_bytes(1023) == "1023 B");
  CHECK(human_bytes(1536) == "1.5 KiB");
  CHECK(human_bytes((1U << 20U) - 1) == "1.0 MiB");
  CHECK(human_bytes(std::size_t{5} << 30U) == "5.0 GiB");
}

TEST_CASE("timeline: one rectangle per slot inside the picture, and the bound") {
  for (const int threads : {1, 2}) {
    const Blueprint blueprint = drafted(threads);
    const std::string svg = timeline_svg(blueprint, "train");
    CHECK(svg.starts_with("<svg xmlns="));
    CHECK(svg.ends_with("</svg>\n"));
    CHECK(svg.find("lower bound") != std::string::npos);
    CHECK(svg.find("nan") == std::string::npos);
    std::size_t titles = 0;
    for (std::size_t at = 0; (at = svg.find("<title>", at)) != std::string::npos; ++at) ++titles;
    CHECK(titles == report(blueprint, "train").size());
    CHECK(svg.size() < 60'000);
  }
}

}  // namespace
}  // namespace poolgrad
