#include "userspace_proxy/net/flags.h"

namespace weft::net {

std::string to_text(Flags flags) {
  static constexpr const char* kLetters[] = {
#define WEFT_FLAG(name, letters) letters,
      WEFT_RESPONSE_FLAGS(WEFT_FLAG)
#undef WEFT_FLAG
  };
  std::string text;
  for (unsigned bit = 0; bit < std::size(kLetters); ++bit)
    if (flags & 1u << bit) text += (text.empty() ? "" : ",") + std::string(kLetters[bit]);
  return text.empty() ? "-" : text;
}

}  // namespace weft::net
