// What all pictures share. What they show is in the files *_svg.
#pragma once

#include <string>
#include <string_view>

namespace poolgrad {

/// `plain` as the text of an element: with &, < and > escaped. Not for attributes.
[[nodiscard]] std::string svg_text(std::string_view plain);

}  // namespace poolgrad
