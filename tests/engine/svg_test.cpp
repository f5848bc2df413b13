// What pictures share: text that cannot be taken for markup.
#include "engine/svg.h"

#include <doctest/doctest.h>

namespace poolgrad {
namespace {

TEST_CASE("svg: text is escaped, and nothing else of it changes") {
  CHECK(svg_text("a<b> & \"c\" &amp; \u25bc") == "a&lt;b&gt; &amp; \"c\" &amp;amp; \u25bc");
  CHECK(svg_text("") == "");
}

}  // namespace
}  // namespace poolgrad
