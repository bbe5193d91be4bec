// Streams of HTTP/1.1 messages by chance: valid ones, and ones with a mistake here and there.
#pragma once

#include <algorithm>
#include <iterator>
#include <random>
#include <string>
#include <string_view>
#include <vector>

namespace weft::http {

class RandomMessages {
 public:
  explicit RandomMessages(unsigned seed) : random_(seed) {}

  std::string request() {
    constexpr std::string_view kMethods[] = {"GET", "POST", "HEAD", "PUT", "X-Y"};
    constexpr std::string_view kTargets[] = {"/", "/a/b?c=d", "/?", "/%41;x=1/~b", "/a?b?c"};
    return pick(kMethods) + " " + pick(kTargets) + " HTTP/1.1\r\nHost: a.b:80\r\n" + fields() +
           framed_body();
  }

  std::string response() {
    constexpr std::string_view kLines[] = {"200 OK", "404 Not Found", "503 ", "299 A  b"};
    return "HTTP/1.1 " + pick(kLines) + "\r\n" + fields() + framed_body();
  }

  // Some bytes of it replaced, added or gone; often those that matter.
  std::string spoiled(std::string bytes) {
    constexpr std::string_view kWorst[] = {"\r", "\n", "\r\n", " ",  ":", ";", "\t", "0",
                                           ",",  "f",  "\x7f", "\0", "#", "%", "/",  "chunked"};
    for (auto times = number(3); times > 0 && !bytes.empty(); --times) {
      const auto at = number(bytes.size());
      bytes.replace(at, number(2), pick(kWorst));
    }
    return bytes;
  }

  std::vector<std::size_t> cuts(std::size_t size) {
    std::vector<std::size_t> cuts;
    for (auto count = number(6); count > 0; --count) cuts.push_back(number(size + 1));
    std::sort(cuts.begin(), cuts.end());
    return cuts;
  }

  std::size_t number(std::size_t below) { return random_() % below; }

 private:
  template <class Choices>
  std::string pick(const Choices& choices) {
    return std::string(choices[number(std::size(choices))]);
  }

  std::string fields() {
    constexpr std::string_view kFields[] = {"Accept: */*",
                                            "x-request-id:1",
                                            "User-Agent: \xc3\xa4 b",
                                            "Cookie: a=b; c",
                                            "Connection: keep-alive",
                                            "Connection: x-a, close",
                                            "X-A:  \t padded\t ",
                                            "X-Empty:",
                                            "Date: Thu, 01 Jan 1970 00:00:00 GMT",
                                            "X-A: again",
                                            "Via: 1.1 a",
                                            "Keep-Alive: timeout=5"};
    std::string text;
    for (auto count = number(8); count > 0; --count) text += pick(kFields) + "\r\n";
    return text;
  }

  std::string framed_body() {
    const auto body = std::string(number(40), 'b');
    if (number(2)) return "Content-Length: " + std::to_string(body.size()) + "\r\n\r\n" + body;
    std::string text = "Transfer-Encoding: chunked\r\n\r\n";
    for (auto count = number(4); count > 0; --count)
      text += number(2) ? "3\r\nabc\r\n" : "00A;x=\"y\"\r\n0123456789\r\n";
    return text + "0\r\n" + (number(2) ? "X-Sum: 1\r\nx-other:2\r\n" : "") + "\r\n";
  }

  std::mt19937 random_;
};

}  // namespace weft::http
