// Checks at submit of the members of a mail.
#include "core/header.hpp"
#include "core/mail.hpp"
#include "http/rules.hpp"
#include "request_check.hpp"

namespace dts::request {

namespace {

void check_recipient(const Check& c, const char* key, const JsonbValue& v, const http::RuleText* rules, int n) {
  const std::string_view whole = view(v);
  char domain[256] = "", wrong = 0;
  core::Egress verdict = core::Egress::NoRule;
  const auto look = [&]() noexcept {
    try {
      core::Mailbox m;
      if (!core::parse_mailbox(whole, &m)) {
        wrong = 1;
        return;
      }
      if (rules == nullptr) return;
      const core::Target t{"mailto", core::plain_host(m.address.substr(m.address.find('@') + 1)), 0};
      verdict = core::may_ask(http::rules_of(rules, n), t);
      strlcpy(domain, t.host.c_str(), sizeof(domain));
    } catch (...) {
      wrong = 1;
    }
  };
  look();
  if (wrong != 0)
    refuse(c, key, psprintf("\"%s\" is not a mail address.", text_of(v)), "Write ann@example.com, or Ann Lee <ann@example.com>.");
  if (rules != nullptr) refuse_egress(c, verdict, psprintf("mailto:%s", domain));
}

void check_attachment(const Check& c, const char* key, const JsonbValue& attachment) {
  bool name = false, data = false;
  need_object(c, key, attachment);
  each_member(attachment.val.binary.data, [&](const JsonbValue& k, const JsonbValue& value) {
    const char* const what = text_of(k);
    need_string(c, key, value);
    if (strcmp(what, "name") == 0) {
      name = core::is_field_value(view(value)) && view(value).find_first_of("\"\\") == std::string_view::npos;
    } else if (strcmp(what, "type") == 0) {
      const size_t slash = view(value).find('/');
      if (slash == std::string_view::npos || !core::is_token(view(value).substr(0, slash)) ||
          !core::is_token(view(value).substr(slash + 1)))
        refuse(c, key, "A type is not a media type.", "For example \"application/pdf\".");
    } else if (strcmp(what, "base64") == 0 || strcmp(what, "text") == 0) {
      data = true;
    } else {
      refuse(c, key, psprintf("\"%s\" is not known.", what), "The keys are name, type, and base64 or text.");
    }
  });
  if (!name || !data)
    refuse(c, key, "An attachment has no name or no data.",
           "Give {\"name\", \"type\", \"base64\"} or {\"name\", \"type\", \"text\"}; names are one line, without quotes.");
}

void check_attachments(const Check& c, const char* key, const JsonbValue& v) {
  need_array(c, key, v, "Give an array of {\"name\", \"type\", \"base64\"}.");
  const uint32 count = JsonContainerSize(v.val.binary.data);
  for (uint32 i = 0; i < count; i++) check_attachment(c, key, *getIthJsonbValueFromContainer(v.val.binary.data, i));
}

}  // namespace

void check_mail_member(const Check& c, const char* key, const JsonbValue& v, const http::RuleText* rules, int n) {
  const auto is = [key](const char* name) { return strcmp(key, name) == 0; };
  if (is("to") || is("cc") || is("bcc")) {
    each_string(c, key, v, [&](const JsonbValue& e) {
      if (!c.values) check_recipient(c, key, e, rules, n);
    });
  } else if (is("reply_to") || is("sender")) {
    need_string(c, key, v);
    if (!c.values) check_recipient(c, key, v, nullptr, 0);
  } else if (is("subject")) {
    need_string(c, key, v);
    if (!core::is_field_value(view(v)) || v.val.string.len > 2000)
      refuse(c, key, "It holds a line break or control character, or is longer than 2000 bytes.", "A subject is one line.");
  } else if (is("body") || is("html")) {
    need_string(c, key, v);
  } else if (is("headers")) {
    check_headers(c, v, true);
  } else if (is("attachments")) {
    check_attachments(c, key, v);
  } else if (!is("values")) {
    ereport(ERROR,
            (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("unknown key \"%s\" in %s", key, c.place != nullptr ? c.place : "the mail"),
             errhint("The keys are the arguments of dts.submit_mail.")));
  }
}

}  // namespace dts::request
