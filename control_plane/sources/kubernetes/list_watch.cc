#include "control_plane/sources/kubernetes/list_watch.h"

#include <algorithm>
#include <cctype>

#include "mesh/base/text.h"

namespace weft::sources::kubernetes {
namespace {

using namespace std::chrono_literals;

constexpr int kPageLimit = 500;
constexpr auto kFirstDelay = 200ms;
constexpr auto kLastDelay = 15000ms;
// A resource that the cluster does not have may be installed one day.
constexpr auto kAbsentAgain = std::chrono::seconds(30);
constexpr auto kLongStream = 5s;
constexpr auto kSilentStream = 240s;
constexpr int kLongestRetryAfter = 60;
// Errors inside streams that keep coming back although the version is still known.
constexpr int kRelistAfter = 5;

// Of a value in a query: RFC 3986 unreserved characters stay.
std::string encoded(std::string_view text) {
  constexpr char kHex[] = "0123456789ABCDEF";
  std::string result;
  for (const unsigned char c : text) {
    if (std::isalnum(c) || c == '-' || c == '_' || c == '.' || c == '~') {
      result += static_cast<char>(c);
    } else {
      result += '%';
      result += kHex[c >> 4];
      result += kHex[c & 15];
    }
  }
  return result;
}

std::string shortened(std::string text) {
  for (char& c : text)
    if (static_cast<unsigned char>(c) < ' ' || c == 0x7f) c = ' ';
  if (text.size() > 300) text.resize(300);
  return text;
}

}  // namespace

ListWatch::ListWatch(Resource resource, Sink sink, std::uint64_t seed)
    : resource_(std::move(resource)), sink_(std::move(sink)), random_(seed) {}

std::string ListWatch::target() {
  status_ = 0;
  body_.clear();
  scanned_ = 0;
  trouble_.clear();
  progress_ = expired_ = false;
  std::string query = resource_.path() + "?";
  if (!resource_.selector.empty()) query += resource_.selector + "&";
  if (watching_) {
    // Streams of one start end at different times.
    const auto seconds = std::uniform_int_distribution(300, 600)(random_);
    return query +
           "watch=1&allowWatchBookmarks=true&resourceVersion=" + encoded(resource_version_) +
           "&timeoutSeconds=" + std::to_string(seconds);
  }
  query += "limit=" + std::to_string(kPageLimit);
  if (!next_page_.empty()) query += "&continue=" + encoded(next_page_);
  return query;
}

// Kubernetes API concepts, "Metadata-only fetches": a list is asked for by another name than what
// comes in a watch.
std::string ListWatch::accept() const {
  if (!resource_.metadata_only) return "application/json";
  return std::string("application/json;as=PartialObjectMetadata") + (watching_ ? "" : "List") +
         ";g=meta.k8s.io;v=v1";
}

void ListWatch::begin(int status, std::optional<int> retry_after) {
  status_ = status;
  retry_after_ = retry_after;
}

bool ListWatch::feed(std::string_view bytes) {
  body_.append(bytes);
  if (!ok()) {
    if (body_.size() > 64 * 1024) body_.resize(64 * 1024);  // a proxy's error page, say
    return true;
  }
  if (watching_) {
    take_lines();
    if (trouble_.empty() && body_.size() > kMaxEventBytes)
      trouble_ = "an event of over 16 MB has no end";
  } else if (body_.size() > kMaxAnswerBytes) {
    trouble_ = "a page of the list is over 64 MB";
  }
  if (!trouble_.empty()) body_.clear();
  return trouble_.empty();
}

void ListWatch::take_lines() {
  std::size_t begin = 0;
  // A line's end is looked for once: a long one comes in many pieces.
  for (std::size_t end; (end = body_.find('\n', scanned_)) != std::string::npos;) {
    if (end > begin && !take_event(std::string_view(body_).substr(begin, end - begin))) return;
    begin = scanned_ = end + 1;
  }
  body_.erase(0, begin);
  scanned_ = body_.size();
}

// False: the stream is of no more use.
bool ListWatch::take_event(std::string_view line) {
  const auto event = read_event(line);
  if (!event.ok()) {
    trouble_ = base::message_of(event.status());
    return false;
  }
  if (event->type == EventType::kError) {
    trouble_ = shortened(event->status.message.empty() ? "the watch ended with an error"
                                                       : event->status.message);
    expired_ = event->status.code == 410;
    if (expired_ || failed_in_a_row_ >= kRelistAfter) relist();
    return false;
  }
  const auto& object = event->object;
  if (!object.resource_version.empty() && event->type != EventType::kUnknown)
    resource_version_ = object.resource_version;
  progress_ = true;
  if (event->type == EventType::kBookmark || event->type == EventType::kUnknown) return true;
  ++events_;
  if (event->type == EventType::kDeleted) {
    if (known_.erase(object.name)) sink_.gone(object.name);
  } else {
    take(object);
  }
  return true;
}

void ListWatch::take(const RawObject& object) {
  if (object.name.empty()) {
    ++nameless_;
    return;
  }
  auto& known = known_[object.name];
  const bool is_new = known.seen == 0;
  const auto hash = std::hash<std::string_view>()(object.json);
  known.seen = list_number_;
  if (!is_new && known.hash == hash) return;
  known.hash = hash;
  sink_.object(object.name, object.json);
}

void ListWatch::relist() {
  watching_ = false;
  next_page_.clear();
  resource_version_.clear();
  ++list_number_;
}

// What is wrong with the page; empty: nothing.
std::string ListWatch::end_list() {
  const auto page = read_page(body_, [this](const RawObject& object) { take(object); });
  if (!page.ok()) {
    relist();
    return base::message_of(page.status());
  }
  next_page_ = page->next;
  resource_version_ = page->resource_version;
  if (!next_page_.empty()) return "";
  lose_unseen();
  ++lists_;
  watching_ = true;
  return "";
}

// What is not in the list that was just read is gone.
void ListWatch::lose_unseen() {
  std::vector<std::string> lost;
  for (const auto& [name, known] : known_)
    if (known.seen != list_number_) lost.push_back(name);
  for (const auto& name : lost) {
    known_.erase(name);
    sink_.gone(name);
  }
}

ListWatch::Ending ListWatch::end(const std::string& broken, std::chrono::milliseconds lasted) {
  const bool was_watching = watching_ && ok();
  Ending ending;
  std::string error = !trouble_.empty() ? trouble_ : broken;
  if (error.empty() && status_ == 404 && resource_.optional) {
    std::string().swap(body_);
    relist();
    lose_unseen();
    ++lists_;
    failed_in_a_row_ = 0;
    ending.delay = kAbsentAgain;
    return ending;
  }
  if (error.empty() && !ok()) {
    error = refusal();
    ending.unauthorized = status_ == 401;
    // A version, or a continue token, that has expired.
    expired_ = status_ == 410 || (status_ == 400 && !next_page_.empty());
    if (expired_) relist();
  } else if (error.empty() && !watching_) {
    error = end_list();
  }
  std::string().swap(body_);
  if (progress_) failed_in_a_row_ = 0;
  if (was_watching && (progress_ || lasted >= kLongStream)) expired_in_a_row_ = 0;
  // Not one bookmark in all that time: after a restore from an old backup a server accepts a
  // version from its future and waits for it in silence (kube-apiserver 1.34 does).
  if (was_watching && !progress_ && lasted >= kSilentStream) relist();
  // Streams end: at the server's pleasure, with a connection, when a load balancer thinks so.
  const bool served = was_watching && trouble_.empty() && (progress_ || lasted >= kLongStream);
  if (served) error.clear();
  if (error.empty()) {
    const bool at_once = was_watching && lasted < kLongStream && (!broken.empty() || !progress_);
    if (!at_once) failed_in_a_row_ = 0;
    if (at_once) ending.delay = backoff();  // whoever ends every stream at once is not hurried
    return ending;
  }
  ++failures_;
  // The lists between them succeed, and are what costs the server most.
  if (expired_) failed_in_a_row_ = std::max(failed_in_a_row_, expired_in_a_row_++);
  // A version that the server does not like, or bytes that never make sense.
  if (watching_ && failed_in_a_row_ >= kRelistAfter && (ok() || status_ == 400)) relist();
  // To be told that history is gone is how the protocol works, unless it goes on and on.
  if (!expired_ || failed_in_a_row_ > 2) ending.error = resource_.plural + ": " + error;
  ending.delay = backoff();
  return ending;
}

std::string ListWatch::refusal() const {
  const auto status = read_status(body_);
  std::string text = status.message.empty()
                         ? "the server answers " + std::to_string(status_)
                         : std::to_string(status_) + " " + shortened(status.message);
  if (status_ == 403)
    text += "; give weftd's ClusterRole the rule apiGroups [\"" + resource_.group +
            "\"], resources [\"" + resource_.plural + "\"], verbs [\"list\", \"watch\"]";
  if (status_ == 401) text += "; the credentials are read again";
  return text;
}

std::chrono::milliseconds ListWatch::backoff() {
  const int shift = std::min(failed_in_a_row_++, 10);
  const auto most = std::min<std::chrono::milliseconds>(kFirstDelay * (1 << shift), kLastDelay);
  const auto jittered =
      std::uniform_int_distribution<std::int64_t>(most.count() / 2, most.count())(random_);
  const auto asked =
      std::chrono::seconds(std::clamp(retry_after_.value_or(0), 0, kLongestRetryAfter));
  retry_after_.reset();
  return std::max(std::chrono::milliseconds(jittered), std::chrono::milliseconds(asked));
}

}  // namespace weft::sources::kubernetes
