#include "core/errors.h"

#include <sstream>

namespace fastconv {

std::string join(std::initializer_list<MessagePart> parts) {
  std::ostringstream out;
  for (const MessagePart& part : parts) part.print(out, part.object);
  return out.str();
}

}  // namespace fastconv
