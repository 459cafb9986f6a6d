// Statuses, Retry-After, references, base64, webhooks, mail.
#include <gtest/gtest.h>

#include "core/http_status.hpp"
#include "core/mail.hpp"
#include "core/reference.hpp"

namespace {

using namespace dts::core;

TEST(Status, Patterns) {
  EXPECT_EQ(parse_statuses("404").low, 404);
  EXPECT_EQ(parse_statuses("2xx").low, 200);
  EXPECT_EQ(parse_statuses("2xx").high, 299);
  EXPECT_EQ(parse_statuses("200-204").high, 204);
  for (const char* s : {"", "2x", "6xx", "0xx", "99", "600", "abc", "204-200", "200-", "2000"}) EXPECT_EQ(parse_statuses(s).low, 0) << s;
}

TEST(Status, Retryable) {
  for (const int s : {408, 425, 429, 500, 502, 503, 504, 599}) EXPECT_TRUE(is_retryable(s)) << s;
  for (const int s : {200, 301, 400, 401, 403, 404, 409, 410, 422}) EXPECT_FALSE(is_retryable(s)) << s;
}

TEST(RetryAfter, BothForms) {
  constexpr int64_t kNow = 784111777;  // Sun, 06 Nov 1994 08:49:37 GMT
  EXPECT_EQ(parse_http_date("Sun, 06 Nov 1994 08:49:37 GMT"), kNow);
  EXPECT_EQ(parse_http_date("Sunday, 06-Nov-94 08:49:37 GMT"), kNow);
  EXPECT_EQ(parse_http_date("Sun Nov  6 08:49:37 1994"), kNow);
  EXPECT_EQ(retry_after_seconds("120", kNow), 120);
  EXPECT_EQ(retry_after_seconds(" 0 ", kNow), 0);
  EXPECT_EQ(retry_after_seconds("Sun, 06 Nov 1994 08:50:37 GMT", kNow), 60);
  EXPECT_EQ(retry_after_seconds("Sun, 06 Nov 1994 08:00:00 GMT", kNow), 0) << "in the past: now";
  EXPECT_EQ(retry_after_seconds("99999999999999999999999", kNow), 86400) << "no server puts a task off for ever";
  EXPECT_EQ(retry_after_seconds("Fri, 31 Dec 9999 23:59:59 GMT", kNow), 86400);
  for (const char* s : {"", "soon", "-5", "1.5", "Sun, 06 Foo 1994 08:49:37 GMT", "Sun, 06 Nov 1994 25:00:00 GMT", ",,,", "Sun"})
    EXPECT_EQ(retry_after_seconds(s, kNow), std::nullopt) << s;
}

std::string pieces(std::string_view s, bool values) {
  std::string out;
  Piece p;
  while (next_piece(&s, values, &p))
    out += (p.kind == Piece::Kind::Text     ? "["
            : p.kind == Piece::Kind::Secret ? "!("
                                            : "=(") +
           std::string(p.text) + (p.kind == Piece::Kind::Text ? "]" : ")");
  return out;
}

TEST(Reference, Pieces) {
  EXPECT_EQ(pieces("", true), "");
  EXPECT_EQ(pieces("plain", true), "[plain]");
  EXPECT_EQ(pieces("Bearer ${secret:api-key}", true), "[Bearer ]!(api-key)");
  EXPECT_EQ(pieces("${payload.a.b}/${secret:x}${payload.c}", true), "=(payload.a.b)[/]!(x)=(payload.c)");
  EXPECT_EQ(pieces("a ${payload.x} ${secret:x} b", false), "[a ${payload.x} ]!(x)[ b]") << "without values only secrets are references";
  EXPECT_EQ(pieces("$${payload.a}", true), "[${][payload.a}]");
  EXPECT_EQ(pieces("x $${y} ${z}", true), "[x ][${][y} ]=(z)");
  EXPECT_EQ(pieces("${", true), "[${]");
  EXPECT_EQ(pieces("${}", true), "=()");
  EXPECT_EQ(pieces("${secret:no good}", false), "[${secret:no good}]");
}

TEST(Reference, InUrls) {
  EXPECT_FALSE(may_stand_in_url(""));
  EXPECT_FALSE(may_stand_in_url("https://"));
  EXPECT_FALSE(may_stand_in_url("https://api."));
  EXPECT_TRUE(may_stand_in_url("https://api.example.com/"));
  EXPECT_TRUE(may_stand_in_url("https://api.example.com?q="));
}

TEST(Base64, RoundTrip) {
  for (const std::string_view s : {"", "f", "fo", "foo", "foob", "fooba", "foobar"}) {
    std::string back;
    EXPECT_TRUE(from_base64(base64(s), &back));
    EXPECT_EQ(back, s);
  }
  EXPECT_EQ(base64("foobar"), "Zm9vYmFy");
  EXPECT_EQ(base64("fo"), "Zm8=");
  std::string out;
  for (const char* s : {"a", "ab", "abc", "a===", "====", "a=bc", "ab!d"}) EXPECT_FALSE(from_base64(s, &out)) << s;
}

TEST(Webhook, Content) {
  EXPECT_EQ(webhook_content("msg_1", 1614265330, "{\"test\": 2432232314}"), "msg_1.1614265330.{\"test\": 2432232314}");
  EXPECT_EQ(webhook_content("a", 1, std::string_view("\0b", 2)), std::string("a.1.\0b", 6));
  EXPECT_EQ(webhook_key("whsec_Zm9vYmFy"), "foobar");
  EXPECT_EQ(webhook_key("plain"), "plain");
}

TEST(Mail, Addresses) {
  for (const char* s : {"a@b", "ann.lee+tag@example.com", "o'neil@ex-ample.co.uk", "j\xc3\xb6rg@example.com"})
    EXPECT_TRUE(is_mail_address(s)) << s;
  for (const char* s :
       {"", "a", "@b", "a@", "a@b@c", "a b@c", "a@b\r\nRCPT TO:<x@y>", "<a@b>", "a@b>", "a@b,c@d", "a..b@c", "a@.b", "a@b.", "\"a\"@b"})
    EXPECT_FALSE(is_mail_address(s)) << s;
}

TEST(Mail, Mailboxes) {
  Mailbox m;
  ASSERT_TRUE(parse_mailbox(" Ann Lee <ann@example.com> ", &m));
  EXPECT_EQ(m.name, "Ann Lee");
  EXPECT_EQ(mailbox_text(m), "Ann Lee <ann@example.com>");
  ASSERT_TRUE(parse_mailbox("\"Lee, Ann\" <ann@example.com>", &m));
  EXPECT_EQ(mailbox_text(m), "\"Lee, Ann\" <ann@example.com>");
  ASSERT_TRUE(parse_mailbox("J\xc3\xb6rg <j@example.com>", &m));
  EXPECT_EQ(mailbox_text(m), "=?UTF-8?B?SsO2cmc=?= <j@example.com>");
  for (const char* s : {"Ann <ann@example.com", "Ann\r\nBcc: x@y <a@b>", "<>", "a@b <c@d> e", "a\" <b@c>"})
    EXPECT_FALSE(parse_mailbox(s, &m)) << s;
}

TEST(Mail, EncodedWords) {
  EXPECT_EQ(encoded_text("Hello"), "Hello");
  EXPECT_EQ(encoded_text("Gr\xc3\xbc\xc3\x9f"
                         "e"),
            "=?UTF-8?B?R3LDvMOfZQ==?=");
  EXPECT_NE(encoded_text("=?UTF-8?B?SGk=?="), "=?UTF-8?B?SGk=?=") << "what looks like an encoded word is encoded";
  std::string longer;
  for (int i = 0; i < 60; i++) longer += "\xe2\x82\xac";
  std::string all;
  std::string_view rest = longer;
  const std::string words = encoded_text(longer);
  for (size_t at = 0; at < words.size();) {
    const size_t end = words.find("\r\n ", at);
    const std::string word = words.substr(at, end == std::string::npos ? end : end - at);
    EXPECT_LE(word.size(), 75u);
    std::string part;
    ASSERT_TRUE(from_base64(std::string_view(word).substr(10, word.size() - 12), &part));
    EXPECT_EQ(part.size() % 3, 0u) << "characters are not torn";
    all += part;
    at = end == std::string::npos ? words.size() : end + 3;
  }
  EXPECT_EQ(all, rest);
}

TEST(Mail, Replies) {
  EXPECT_TRUE(is_temporary_reply(451));
  EXPECT_FALSE(is_temporary_reply(550));
  EXPECT_FALSE(is_temporary_reply(250));
}

}  // namespace
