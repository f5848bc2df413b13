// Escapes text for pictures.
#include "engine/svg.h"

namespace poolgrad {

std::string svg_text(std::string_view plain) {
  std::string result;
  for (const char c : plain) {
    switch (c) {
      case '&':
        result += "&amp;";
        break;
      case '<':
        result += "&lt;";
        break;
      case '>':
        result += "&gt;";
        break;
      default:
        result += c;
    }
  }
  return result;
}

}  // namespace poolgrad
