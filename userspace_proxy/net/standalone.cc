#include "userspace_proxy/net/standalone.h"

#include <netinet/in.h>
#include <sys/socket.h>

#include <cerrno>
#include <charconv>
#include <cstring>

#include "mesh/model/http.h"

namespace weft::net {

absl::StatusOr<Dialled> parse_address(const std::string& text) {
  const auto colon = text.rfind(':');
  Dialled parsed;
  unsigned port = 0;
  if (colon != std::string::npos) {
    auto host = text.substr(0, colon);
    if (host.size() > 2 && host.front() == '[' && host.back() == ']')
      host = host.substr(1, host.size() - 2);
    const auto* end = text.data() + text.size();
    const auto result = std::from_chars(text.data() + colon + 1, end, port);
    if (const auto address = model::Address::parse(host);
        address && result.ptr == end && port > 0 && port < 65536) {
      parsed.address = *address;
      parsed.port = static_cast<std::uint16_t>(port);
      return parsed;
    }
  }
  return absl::InvalidArgumentError("\"" + text + "\" is no ADDRESS:PORT (10.0.0.1:80, [::1]:80)");
}

absl::StatusOr<base::Fd> listen_at(const Dialled& at) {
  sockaddr_storage storage{};
  socklen_t length;
  const bool v4 = at.address.family() == model::Family::kIpv4;
  if (v4) {
    auto& address = reinterpret_cast<sockaddr_in&>(storage);
    address.sin_family = AF_INET;
    address.sin_port = htons(at.port);
    std::memcpy(&address.sin_addr, at.address.bytes.data() + 12, 4);
    length = sizeof address;
  } else {
    auto& address = reinterpret_cast<sockaddr_in6&>(storage);
    address.sin6_family = AF_INET6;
    address.sin6_port = htons(at.port);
    std::memcpy(&address.sin6_addr, at.address.bytes.data(), 16);
    length = sizeof address;
  }
  base::Fd fd(socket(v4 ? AF_INET : AF_INET6, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  const int one = 1;
  setsockopt(fd.get(), SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
  if (!fd || bind(fd.get(), reinterpret_cast<sockaddr*>(&storage), length) != 0 ||
      listen(fd.get(), 4096) != 0)
    return absl::ErrnoToStatus(
        errno, "listening at " + at.address.to_text() + ":" + std::to_string(at.port));
  return fd;
}

namespace {

void add_rule(weft::v1::HttpRoutes& routes, int number, const std::string& kind) {
  auto& rule = *routes.add_rules();
  const auto text = "other-" + std::to_string(number);
  auto& match = *rule.add_matches();
  if (kind == "header") {
    auto& header = *match.add_headers();
    header.set_name("x-tenant");
    header.mutable_value()->set_text(text);
  } else {
    auto& path = *match.mutable_path();
    const auto as = kind == "prefix"  ? model::PathMatch::Kind::kPrefix
                    : kind == "regex" ? model::PathMatch::Kind::kRegex
                                      : model::PathMatch::Kind::kExact;
    path.set_kind(static_cast<std::uint32_t>(as));
    path.set_text("/" + text + (kind == "regex" ? "/[a-z]+" : "/items"));
  }
  auto& destination = *rule.mutable_forward()->add_destinations();
  destination.set_cluster(0);
  destination.set_weight(1);
}

std::string bytes_of(const model::Address& address) {
  return {reinterpret_cast<const char*>(address.bytes.data()), address.bytes.size()};
}

}  // namespace

weft::v1::Config one_service(const Dialled& dialled, const std::vector<Dialled>& to, int routes,
                             const std::string& kind) {
  weft::v1::Config config;
  config.set_generation(1);
  config.set_whole(true);
  auto& service = *config.add_services();
  service.set_namespace_name("standalone");
  service.set_name("service");
  service.set_port(dialled.port);
  service.add_addresses(bytes_of(dialled.address));
  service.set_tunnel(true);
  auto& rules = *service.mutable_routes();
  rules.set_otherwise(static_cast<std::uint32_t>(model::HttpRoutes::Otherwise::kService));
  rules.set_kind("VirtualService");
  for (int i = 0; i < routes; ++i) add_rule(rules, i, kind);
  auto& cluster = *config.add_clusters();
  for (auto* name : {cluster.mutable_name(), rules.add_clusters()}) {
    name->set_namespace_name("standalone");
    name->set_service("service");
    name->set_port(dialled.port);
  }
  for (const auto& each : to) {
    auto& endpoint = *cluster.add_endpoints();
    endpoint.set_address(bytes_of(each.address));
    endpoint.set_port(each.port);
    endpoint.set_weight(1);
  }
  cluster.set_connect_timeout_ms(10000);
  cluster.set_idle_timeout_ms(3600000);
  cluster.set_balancer(static_cast<std::uint32_t>(model::Balancer::kLeastRequest));
  return config;
}

}  // namespace weft::net
