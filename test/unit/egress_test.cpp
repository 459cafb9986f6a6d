#include "core/egress.hpp"

#include <gtest/gtest.h>

#include "core/header.hpp"
#include "core/url.hpp"

namespace {

using namespace dts::core;

Address address(const char* s) {
  Address a;
  EXPECT_TRUE(parse_address(s, &a)) << s;
  return a;
}

TEST(Address, NotPublic) {
  for (const char* s : {"0.0.0.0",
                        "10.0.0.1",
                        "10.255.255.255",
                        "100.64.0.1",
                        "100.100.100.200",
                        "127.0.0.1",
                        "127.255.0.1",
                        "169.254.169.254",
                        "172.16.0.1",
                        "172.31.255.255",
                        "192.0.0.8",
                        "192.0.2.1",
                        "192.168.1.1",
                        "198.18.0.1",
                        "198.19.255.255",
                        "198.51.100.7",
                        "203.0.113.9",
                        "224.0.0.1",
                        "239.255.255.250",
                        "240.0.0.1",
                        "255.255.255.255",
                        "::",
                        "::1",
                        "::127.0.0.1",
                        "::ffff:127.0.0.1",
                        "::ffff:10.0.0.1",
                        "::ffff:169.254.169.254",
                        "64:ff9b::7f00:1",
                        "64:ff9b::a9fe:a9fe",
                        "64:ff9b:1::a00:1",
                        "2002:7f00:1::",
                        "2002:a00:1::1",
                        "2001::1",
                        "2001:db8::1",
                        "100::1",
                        "3fff::1",
                        "5f00::1",
                        "fc00::1",
                        "fd00:ec2::254",
                        "fe80::1",
                        "fec0::1",
                        "ff02::1"})
    EXPECT_FALSE(is_public(address(s))) << s;
}

TEST(Address, Public) {
  for (const char* s : {"1.1.1.1", "8.8.8.8", "9.255.255.255", "11.0.0.0", "100.63.255.255", "100.128.0.0", "126.255.255.255", "128.0.0.1",
                        "172.15.255.255", "172.32.0.0", "192.167.1.1", "198.17.1.1", "198.20.0.1", "223.255.255.255", "2606:4700::1111",
                        "2a00:1450:4001::1", "::ffff:8.8.8.8", "64:ff9b::808:808", "2002:808:808::1"})
    EXPECT_TRUE(is_public(address(s))) << s;
}

TEST(Address, Malformed) {
  Address a;
  for (const char* s : {"",
                        "1",
                        "127.1",
                        "2130706433",
                        "0x7f.1",
                        "0177.0.0.1",
                        "1.2.3",
                        "1.2.3.4.5",
                        "1.2.3.256",
                        "1.2.3.4 ",
                        "1.2.3.-4",
                        "01.2.3.4",
                        ":",
                        ":::",
                        "1::2::3",
                        "12345::",
                        "g::",
                        "1:2:3:4:5:6:7",
                        "1:2:3:4:5:6:7:8:9",
                        "::1%lo",
                        "1:2:3:4:5:6:7:",
                        "::1.2.3",
                        "1:2:3:4:5:6:7:1.2.3.4",
                        "[::1]"})
    EXPECT_FALSE(parse_address(s, &a)) << s;
  EXPECT_EQ(address("1:2:3:4:5:6:7:8").byte[15], 8);
  EXPECT_EQ(address("1::8").byte[15], 8);
  EXPECT_EQ(address("1::").byte[1], 1);
}

TEST(Address, Networks) {
  Network n;
  ASSERT_TRUE(parse_network("10.1.0.0/15", &n));
  EXPECT_TRUE(lies_in(address("10.0.255.255"), n));
  EXPECT_TRUE(lies_in(address("::ffff:10.1.2.3"), n));
  EXPECT_FALSE(lies_in(address("10.2.0.0"), n));
  ASSERT_TRUE(parse_network("fd00::/8", &n));
  EXPECT_TRUE(lies_in(address("fd12::1"), n));
  EXPECT_FALSE(lies_in(address("10.0.0.1"), n));
  ASSERT_TRUE(parse_network("0.0.0.0/0", &n));
  EXPECT_TRUE(lies_in(address("1.2.3.4"), n));
  for (const char* s : {"", "10.0.0.0/", "10.0.0.0/33", "10.0.0.0/-1", "::/129", "10.0.0.0/1234"}) EXPECT_FALSE(parse_network(s, &n)) << s;
}

TEST(Egress, Hosts) {
  EXPECT_TRUE(host_matches("*", "anything.org"));
  EXPECT_TRUE(host_matches("Api.Example.com", "api.example.COM."));
  EXPECT_TRUE(host_matches("*.example.com", "a.b.example.com"));
  EXPECT_FALSE(host_matches("*.example.com", "example.com"));
  EXPECT_FALSE(host_matches("*.example.com", "badexample.com"));
  EXPECT_FALSE(host_matches("example.com", "example.com.evil.org"));
  EXPECT_TRUE(host_matches("[::1]", "0:0:0:0:0:0:0:1"));
  for (const char* s : {"*", "*.a.b", "a", "a-b.c_d.org", "10.0.0.1", "::1", "[::1]"}) EXPECT_TRUE(is_host_pattern(s)) << s;
  for (const char* s : {"", "a*", "*a.org", "a.*.org", "a..b", ".a", "a b", "a/b", "http://a", "a:80"})
    EXPECT_FALSE(is_host_pattern(s)) << s;
}

EgressRule allow(const char* host) {
  EgressRule r;
  r.host = host;
  return r;
}

TEST(Egress, Rules) {
  const Target https{"https", "api.example.com", 443}, http{"http", "api.example.com", 80}, odd{"https", "api.example.com", 8443};
  EXPECT_EQ(may_ask({}, https), Egress::NoRule);
  std::vector<EgressRule> rules{allow("*.example.com")};
  EXPECT_EQ(may_ask(rules, https), Egress::Allowed);
  EXPECT_EQ(may_ask(rules, http), Egress::NoRule) << "without a word on schemes only what encrypts";
  EXPECT_EQ(may_ask(rules, odd), Egress::NoRule) << "without a word on ports only the scheme's own";
  rules[0].schemes = {"http", "https"};
  rules[0].ports = {{80, 80}, {8000, 9000}};
  EXPECT_EQ(may_ask(rules, http), Egress::Allowed);
  EXPECT_EQ(may_ask(rules, odd), Egress::Allowed);
  EXPECT_EQ(may_ask(rules, https), Egress::NoRule);
  EgressRule deny = allow("api.example.com");
  deny.allow = false;
  rules.push_back(deny);
  EXPECT_EQ(may_ask(rules, http), Egress::Denied) << "a denial needs no scheme or port, and wins";
}

TEST(Egress, Addresses) {
  const Target t{"https", "api.example.com", 443};
  std::vector<EgressRule> rules{allow("*")};
  EXPECT_EQ(may_connect(rules, t, address("8.8.8.8")), Egress::Allowed);
  EXPECT_EQ(may_connect(rules, t, address("127.0.0.1")), Egress::Address) << "the name may lead anywhere, the address may not";
  EXPECT_EQ(may_connect(rules, t, address("::ffff:10.0.0.1")), Egress::Address);
  EgressRule inside = allow("api.example.com");
  inside.networks.resize(1);
  ASSERT_TRUE(parse_network("10.0.0.0/8", &inside.networks[0]));
  rules.push_back(inside);
  EXPECT_EQ(may_connect(rules, t, address("10.0.0.1")), Egress::Allowed);
  EXPECT_EQ(may_connect(rules, t, address("::ffff:10.0.0.1")), Egress::Allowed);
  EXPECT_EQ(may_connect(rules, t, address("127.0.0.1")), Egress::Address);
  EXPECT_EQ(may_connect(rules, Target{"https", "other.org", 443}, address("10.0.0.1")), Egress::Address)
      << "networks are for the rule's hosts";
  rules = {allow("127.0.0.1")};
  EXPECT_EQ(may_connect(rules, Target{"https", "127.0.0.1", 443}, address("127.0.0.1")), Egress::Allowed);
  EXPECT_EQ(may_connect(rules, Target{"https", "127.0.0.1", 443}, address("127.0.0.2")), Egress::Address);
}

TEST(Url, Checks) {
  Target t;
  EXPECT_EQ(check_url("https://Api.Example.com:8443/a?b#c", &t), nullptr);
  EXPECT_EQ(t.scheme, "https");
  EXPECT_EQ(t.host, "api.example.com");
  EXPECT_EQ(t.port, 8443);
  EXPECT_EQ(check_url("http://[::1]/", &t), nullptr);
  EXPECT_EQ(t.host, "::1");
  EXPECT_EQ(t.port, 80);
  EXPECT_EQ(check_url("http://evil?good.com", &t), nullptr);
  EXPECT_EQ(t.host, "evil");
  for (const char* s : {"",
                        "example.com",
                        "file:///etc/passwd",
                        "gopher://a/",
                        "ftp://a",
                        "dict://a",
                        "http://",
                        "http://:80/",
                        "http://good@evil/",
                        "http://a b/",
                        "http://a\r\nX: y/",
                        "http://a\t/",
                        "http://a:0/",
                        "http://a:65536/",
                        "http://a:x/",
                        "http://a:/",
                        "http://[::1",
                        "http://[::1]x/",
                        "http://a%00b/",
                        "http://[fe80::1%25lo]/",
                        "http://good\\@evil/",
                        "//a/"})
    EXPECT_NE(check_url(s, &t), nullptr) << s;
}

TEST(Url, Encoding) {
  EXPECT_EQ(percent_encode("a-b._~9"), "a-b._~9");
  EXPECT_EQ(percent_encode("../x?y=1&z #"), "..%2Fx%3Fy%3D1%26z%20%23");
  EXPECT_EQ(percent_encode("\xc3\xa4\r\n"), "%C3%A4%0D%0A");
}

TEST(Header, Fields) {
  EXPECT_TRUE(is_token("X-Request-Id"));
  for (const char* s : {"", "a b", "a:", "a\r\nb", "\xc3\xa4", "a(b)"}) EXPECT_FALSE(is_token(s)) << s;
  EXPECT_TRUE(is_field_value("a value, with \t tab and \xc3\xa4"));
  for (const std::string_view s :
       {std::string_view("a\r\nb"), std::string_view("a\nb"), std::string_view("a\0b", 3), std::string_view("\x7f")})
    EXPECT_FALSE(is_field_value(s));
  EXPECT_TRUE(is_reserved_field("HOST"));
  EXPECT_TRUE(is_reserved_field("Transfer-Encoding"));
  EXPECT_FALSE(is_reserved_field("Authorization"));
  EXPECT_TRUE(is_method("PATCH"));
  EXPECT_TRUE(is_method("PROPFIND"));
  for (const char* s : {"", "CONNECT", "trace", "GET /", "G\r\n"}) EXPECT_FALSE(is_method(s)) << s;
}

}  // namespace
