#include "mesh/manifest/decode.h"

#include <algorithm>

#include "mesh/base/text.h"
#include "mesh/manifest/text_reader.h"

namespace weft::manifest {

std::string join_path(const std::string& path, std::string_view key) {
  if (path.empty()) return std::string(key);
  std::string joined;
  joined.reserve(path.size() + 1 + key.size());
  return joined.append(path).append(1, '.').append(key);
}

std::string join_path(const std::string& path, std::string_view key, std::size_t index) {
  return join_path(path, key) + "[" + std::to_string(index) + "]";
}

bool in_words(std::string_view words, std::string_view word) {
  for (std::size_t at = 0; at < words.size();) {
    const auto end = std::min(words.find(' ', at), words.size());
    if (words.substr(at, end - at) == word) return true;
    at = end + 1;
  }
  return false;
}

bool Decoder::is(Value value, Type type, const std::string& path) {
  if (value.type() == type) return true;
  std::string message = path + " must be " + to_text(type) + ", not " + to_text(value.type());
  if (type == Type::kString && (value.type() == Type::kBool || value.type() == Type::kNumber))
    message += ": quote it";
  if (type == Type::kNumber && value.type() == Type::kString) message += ": write it unquoted";
  reject(value, message);
  return false;
}

Value Decoder::mapping(Value parent, const std::string& path, std::string_view key) {
  const Value value = parent[key];
  return value.present() && is(value, Type::kMapping, join_path(path, key)) ? value : Value();
}

Value Decoder::sequence(Value parent, const std::string& path, std::string_view key) {
  const Value value = parent[key];
  return value.present() && is(value, Type::kSequence, join_path(path, key)) ? value : Value();
}

std::optional<std::string> Decoder::text(Value parent, const std::string& path,
                                         std::string_view key) {
  const Value value = parent[key];
  if (!value.present()) return std::nullopt;
  if (value.type() != Type::kString && !is(value, Type::kString, join_path(path, key)))
    return std::nullopt;
  return std::string(value.text());
}

std::optional<bool> Decoder::boolean(Value parent, const std::string& path, std::string_view key) {
  const Value value = parent[key];
  if (!value.present()) return std::nullopt;
  if (value.type() != Type::kBool && !is(value, Type::kBool, join_path(path, key)))
    return std::nullopt;
  return value.text() == "true";
}

std::optional<std::int64_t> Decoder::integer(Value parent, const std::string& path,
                                             std::string_view key, std::int64_t low,
                                             std::int64_t high) {
  const Value value = parent[key];
  if (!value.present()) return std::nullopt;
  return integer_at(value, join_path(path, key), low, high);
}

std::optional<std::int64_t> Decoder::integer_at(Value value, const std::string& where,
                                                std::int64_t low, std::int64_t high) {
  if (!is(value, Type::kNumber, where)) return std::nullopt;
  const auto text = value.text();
  const auto written = where + " " + cleaned(text, 40);
  // YAML 1.1 reads 010 as eight; whoever wrote it meant ten.
  if (text.size() > 1 && text[0] == '0') {
    reject(value, written + " is not a plain decimal number");
    return std::nullopt;
  }
  const auto number = base::parse_number<std::int64_t>(text);
  if (number && *number >= low && *number <= high) return number;
  reject(value, written + " is not in " + std::to_string(low) + ".." + std::to_string(high));
  return std::nullopt;
}

std::optional<double> Decoder::number(Value parent, const std::string& path, std::string_view key,
                                      double most) {
  const Value value = parent[key];
  const auto where = join_path(path, key);
  if (!value.present() || !is(value, Type::kNumber, where)) return std::nullopt;
  const auto number = base::parse_number<double>(value.text());
  if (number && *number >= 0 && *number <= most) return number;
  reject(value, where + " " + cleaned(value.text(), 40) + " is not in 0.." +
                    std::to_string(static_cast<int>(most)));
  return std::nullopt;
}

std::vector<std::string> Decoder::texts(Value parent, const std::string& path,
                                        std::string_view key) {
  std::vector<std::string> texts;
  std::size_t index = 0;
  for (const Value value : sequence(parent, path, key))
    if (is(value, Type::kString, join_path(path, key, index++))) texts.emplace_back(value.text());
  return texts;
}

std::optional<std::uint16_t> Decoder::port(Value parent, const std::string& path,
                                           std::string_view key) {
  const auto number = integer(parent, path, key, 1, 65535);
  return number ? std::optional(static_cast<std::uint16_t>(*number)) : std::nullopt;
}

std::optional<model::Address> Decoder::address(Value value, const std::string& path) {
  if (!is(value, Type::kString, path)) return std::nullopt;
  const auto address = model::Address::parse(value.text());
  if (!address) {
    reject(value, path + " " + quoted(value.text()) + " is not an IP address");
    return std::nullopt;
  }
  if (const auto why = address->unusable_because()) {
    reject(value, path + " " + quoted(value.text()) + " cannot be served: " + *why);
    return std::nullopt;
  }
  return address;
}

model::Labels Decoder::labels(Value parent, const std::string& path, std::string_view key) {
  model::Labels labels;
  for (const Value entry : mapping(parent, path, key)) {
    if (entry.present() && entry.type() != Type::kString)
      is(entry, Type::kString, join_path(join_path(path, key), cleaned(entry.key(), 80)));
    labels.emplace(entry.key(), entry.text());
  }
  return labels;
}

std::optional<model::Protocol> Decoder::protocol(Value parent, const std::string& path) {
  const auto protocol = text(parent, path, "protocol").value_or("TCP");
  if (protocol == "TCP") return model::Protocol::kTcp;
  if (protocol == "UDP") return model::Protocol::kUdp;
  if (protocol != "SCTP")
    reject(parent["protocol"],
           join_path(path, "protocol") + " " + quoted(protocol) + " is not TCP, UDP or SCTP");
  return std::nullopt;
}

void Decoder::unknown_fields(Value parent, const std::string& path,
                             std::initializer_list<std::string_view> known,
                             std::initializer_list<std::string_view> without_effect) {
  const auto in = [](std::initializer_list<std::string_view> list, std::string_view key) {
    return std::find(list.begin(), list.end(), key) != list.end();
  };
  for (const Value field : parent)
    if (!in(known, field.key()) && !in(without_effect, field.key()))
      warn(field, "unknown field " + quoted(join_path(path, field.key())) + ": it has no effect");
}

void Decoder::others_not_enforced(Value parent, const std::string& path,
                                  std::initializer_list<std::string_view> enforced,
                                  const std::string& why) {
  for (const Value field : parent)
    if (field.present() &&
        std::find(enforced.begin(), enforced.end(), field.key()) == enforced.end())
      not_enforced(field, join_path(path, cleaned(field.key(), 80)), why);
}

}  // namespace weft::manifest
