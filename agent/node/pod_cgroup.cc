#include "agent/node/pod_cgroup.h"

namespace weft::node {
namespace {

constexpr std::string_view kSlice = ".slice";
constexpr std::string_view kPod = "pod";

// In lower case, with `separator` between a UUID's groups turned into "-".
std::optional<std::string> canonical(std::string_view uid, char separator) {
  const bool uuid = uid.size() == 36;
  if (!uuid && uid.size() != 32) return std::nullopt;
  std::string text(uid);
  for (std::size_t i = 0; i < text.size(); ++i) {
    char& c = text[i];
    const bool between = uuid && (i == 8 || i == 13 || i == 18 || i == 23);
    if (between && c != separator) return std::nullopt;
    if (between) {
      c = '-';
    } else if (c >= 'A' && c <= 'F') {
      c = static_cast<char>(c - 'A' + 'a');
    } else if (!((c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'))) {
      return std::nullopt;
    }
  }
  return text;
}

// Takes the last of the parts that "-" separates from `name`.
std::string_view take_last(std::string_view& name) {
  const auto dash = name.rfind('-');
  const auto last = dash == std::string_view::npos ? name : name.substr(dash + 1);
  name = dash == std::string_view::npos ? "" : name.substr(0, dash);
  return last;
}

}  // namespace

std::optional<std::string> pod_uid_of(std::string_view directory_name) {
  const bool systemd = directory_name.ends_with(kSlice);
  if (!systemd) {
    if (!directory_name.starts_with(kPod)) return std::nullopt;
    return canonical(directory_name.substr(kPod.size()), '-');
  }
  std::string_view name = directory_name.substr(0, directory_name.size() - kSlice.size());
  const auto pod = take_last(name);
  auto parent = take_last(name);
  if (parent == "burstable" || parent == "besteffort") parent = take_last(name);
  // Kubelet's own root of pods has this name always, whatever lies above it.
  if (!pod.starts_with(kPod) || parent != "kubepods") return std::nullopt;
  return canonical(pod.substr(kPod.size()), '_');
}

}  // namespace weft::node
