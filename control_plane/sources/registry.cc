#include "control_plane/sources/registry.h"

#include "control_plane/sources/directory/directory_source.h"
#include "control_plane/sources/kubernetes/kubernetes_source.h"

namespace weft::sources {
namespace {

using Make = std::unique_ptr<Source> (*)(boost::asio::io_context&, const std::string&,
                                         const SourceOptions&, Events);

struct Kind {
  std::string_view scheme;
  bool needs_more;  // behind the scheme
  Make make;
};

constexpr Kind kKinds[] = {
    {"dir:", true,
     [](boost::asio::io_context& control, const std::string& uri, const SourceOptions&,
        Events events) { return make_directory_source(control, uri, std::move(events)); }},
    {"kubernetes:", false,
     [](boost::asio::io_context& control, const std::string& uri, const SourceOptions& options,
        Events events) {
       return make_kubernetes_source(control, uri, {options.node_name}, std::move(events));
     }},
};

const Kind* kind_of(const std::string& uri) {
  for (const auto& kind : kKinds)
    if (uri.starts_with(kind.scheme) && (!kind.needs_more || uri.size() > kind.scheme.size()))
      return &kind;
  return nullptr;
}

}  // namespace

std::string complaint_about(const std::string& uri) {
  if (kind_of(uri)) return "";
  return "--source " + uri +
         " is not known to this build: it reads dir:PATH, kubernetes: (in a pod) and "
         "kubernetes:KUBECONFIG";
}

std::unique_ptr<Source> make_source(boost::asio::io_context& control, const std::string& uri,
                                    const SourceOptions& options, Events events) {
  return kind_of(uri)->make(control, uri, options, std::move(events));
}

}  // namespace weft::sources
